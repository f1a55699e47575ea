"""How the models are trained: the paper's schedule, by the paper's protocol and by ours.

The paper reports the best epoch on the test set, which makes every figure optimistic. Here a
validation fold chooses the epoch; what the paper's way comes to is computed beside on request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fdkd.study.rows import take

EPOCHS, BATCH_SIZE = 100, 64
_FIRST, _LAST, _POWER = 1e-2, 1e-4, 0.9
OURS, PAPER = "ours", "paper"
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def rate(epoch: int, epochs: int) -> float:
    """Return the paper's learning rate of an epoch, counted from 0.

    Example:
    >>> rate(0, 100), round(rate(50, 100), 6)
    (0.01, 0.005405)
    """
    return _LAST + (_FIRST - _LAST) * (1 - epoch / epochs) ** _POWER


def compile_arguments(classes: int, has_pixels: bool) -> dict[str, Any]:
    """Return what models are compiled with; -1 labels no pixel and no sample."""
    if has_pixels:
        # `sparse_y_pred=False`: predictions are logits, not numbers of classes.
        score = keras.metrics.MeanIoU(
            classes, name="mean_iou", ignore_class=-1, sparse_y_pred=False
        )
    else:
        score = "accuracy"
    return {
        "optimizer": keras.optimizers.SGD(_FIRST, momentum=0.9),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        "metrics": [score],
    }


def fit_arguments(epochs: int, batch_size: int) -> dict[str, Any]:
    """Return what models are fitted with."""

    def callbacks() -> list[keras.callbacks.Callback]:
        schedule = keras.callbacks.LearningRateScheduler(lambda epoch: rate(epoch, epochs))
        return [schedule]

    return {"epochs": epochs, "batch_size": batch_size, "callbacks": callbacks}


@dataclass(frozen=True)
class Folds:
    """The rows of a study, and which sample each of them is.

    Attributes:
        splits: Rows of training, validation and test.
        samples: The number of the sample in each row.
    """

    splits: list[Rows]
    samples: np.ndarray

    def source(self, arrays: Any) -> Any:
        """Return what a study takes as inputs, from arrays of all samples."""
        return lambda rows: take(arrays, self.samples[rows])

    def taken(self, labels: np.ndarray) -> np.ndarray:
        """Return the label of each row."""
        # Labels of pixels are large, and each sample is one row unless some came twice.
        return labels if len(self.samples) == len(labels) else labels[self.samples]


def folds(splits: Sequence[Rows], protocol: str, count: int, is_published: bool = False) -> Folds:
    """Return the rows of a study.

    By the paper's protocol the whole published training list is trained on, and the test samples
    choose the epoch too, so that the validation score is the best epoch on the test set. A study
    keeps its folds apart, so they are rows of their own there.

    Args:
        splits: Samples of training, validation and test.
        protocol: `"ours"` or `"paper"`.
        count: Number of samples.
        is_published: Whether the validation samples are a published list of their own, so that
            nobody trains on them. Defaults to `False`: they were taken from the training list.
    """
    samples = np.arange(count)
    if protocol == OURS:
        return Folds(list(splits), samples)
    found = []
    for train, chosen, test in splits:
        again = len(samples) + np.arange(len(test))
        samples = np.concatenate([samples, test])
        found.append((train if is_published else np.union1d(train, chosen), again, test))
    return Folds(found, samples)
