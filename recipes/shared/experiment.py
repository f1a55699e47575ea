"""What an experiment is: two modalities of the same samples, folds, models and budgets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

UNLABELLED = -1
BATCH_SIZE = 64


@dataclass(frozen=True)
class Samples:
    """Samples of one fold: what each modality sees, and the labels (-1 where there is none)."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray

    def pair(self, teacher: str, student: str) -> dict[str, np.ndarray]:
        """Return the inputs of a distiller, with the number of each sample."""
        return {
            "teacher": self.inputs[teacher],
            "student": self.inputs[student],
            "index": np.arange(len(self.labels)),
        }


@dataclass(frozen=True)
class Experiment:
    """Real samples that two modalities see.

    Attributes:
        name: As in `python -m recipes.NAME`.
        title: In words.
        modalities: Both names; each may teach the other.
        classes: Names of the classes.
        few_labels: How many training samples keep their label in the budget "few".
        epochs: Of every model.
        folds: From a seed to the folds `train`, `validation` and `test`.
        build: From a modality and its training inputs to a new classifier, whose layer `feature`
            is the input of the last `Dense` layer and has the same size for both modalities.
        maps: Paths of layers with maps of positions, or none, the same for both modalities.
        held_out: What the folds keep apart, in words.
    """

    name: str
    title: str
    modalities: tuple[str, str]
    classes: list[str]
    few_labels: int
    epochs: int
    folds: Callable[[int], dict[str, Samples]]
    build: Callable[[str, np.ndarray], keras.Model]
    maps: tuple[str, ...] = ()
    held_out: str = ""

    def directions(self) -> list[tuple[str, str]]:
        """Return both pairs of teacher and student modality."""
        first, second = self.modalities
        return [(first, second), (second, first)]

    def prepare(self, seed: int, budget: str) -> dict[str, Samples]:
        """Return the folds of a seed, with labels hidden if the budget is "few"."""
        folds = self.folds(seed)
        if budget == "few":
            folds["train"] = hide_labels(folds["train"], self.few_labels, seed)
        return folds


def hide_labels(samples: Samples, keep: int, seed: int) -> Samples:
    """Return the samples with `keep` labels left, in the proportions of the classes."""
    rows = np.arange(len(samples.labels))
    kept, _ = train_test_split(rows, train_size=keep, stratify=samples.labels, random_state=seed)
    labels = np.full_like(samples.labels, UNLABELLED)
    labels[kept] = samples.labels[kept]
    return replace(samples, labels=labels)


class Batches(keras.utils.PyDataset):
    """Shuffled batches of one size, the same for every method that gets the same seed.

    Where labels are hidden, half of each batch are labelled samples, so that the task is learned
    at a steady rate; an epoch is one pass over as many batches as all samples would fill.

    Args:
        x: Nested arrays of the same length.
        labels: Shape `(samples,)`, -1 where hidden.
        seed: Of the order.
    """

    def __init__(self, x: Any, labels: np.ndarray, seed: int) -> None:
        super().__init__()
        self.x, self.labels = x, labels
        self.labelled = np.flatnonzero(labels != UNLABELLED)
        self.unlabelled = np.flatnonzero(labels == UNLABELLED)
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return max(1, len(self.labels) // BATCH_SIZE)

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        if not len(self.unlabelled):
            self._rows = self._draw(self.labelled, BATCH_SIZE)
            return
        halves = [self._draw(rows, BATCH_SIZE // 2) for rows in (self.labelled, self.unlabelled)]
        self._rows = np.concatenate(halves, axis=1)

    def _draw(self, rows: np.ndarray, size: int) -> np.ndarray:
        count = len(self) * size
        passes = -(-count // len(rows))
        order = np.concatenate([self._rng.permutation(rows) for _ in range(passes)])
        return order[:count].reshape(len(self), size)

    def __getitem__(self, step: int) -> tuple[Any, np.ndarray]:
        rows = self._rows[step]
        return keras.tree.map_structure(lambda values: values[rows], self.x), self.labels[rows]
