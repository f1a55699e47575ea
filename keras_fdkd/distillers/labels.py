"""What labels must be, according to the compiled loss and the student's outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fdkd.data.data_sets import to_numpy
from keras_fdkd.distillers.task import kind_of_task, resolve

_SPARSE = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
)


@dataclass(frozen=True)
class LabelRule:
    """Checks labels of arrays and batches; it holds no model.

    Workers of a data loader may have it.

    Args:
        kind: "classes", "labels" or "values", see `keras_fdkd.distillers.task.kind_of_task`, or
            `None`: only NaN is refused.
        sparse: Whether labels are class indices.
        ignore_class: The class index that stands for no label.
        num_classes: Number of the student's logits.
        needs_labels: Whether a loss is compiled, or heads need labels.
        allows_missing: Whether NaN in all labels of a sample means that it has none.
    """

    kind: str | None = None
    sparse: bool = False
    ignore_class: int | None = None
    num_classes: int | None = None
    needs_labels: bool = False
    allows_missing: bool = False

    @classmethod
    def of(
        cls, loss: Any, predictions: Any, needs_labels: bool, allows_missing: bool = False
    ) -> "LabelRule":
        """Return the rule for a compiled loss of one output.

        Args:
            loss: The loss, or `None` if there are several outputs or none is compiled.
            predictions: Symbolic predictions of the student.
            needs_labels: Whether a loss is compiled.
            allows_missing: Whether NaN may stand for the missing labels of a sample.
        """
        resolved = resolve(loss)
        sparse = type(resolved) is _SPARSE[0] or resolved is _SPARSE[1]
        shape = getattr(predictions, "shape", None)
        is_ctc = type(resolved) is keras.losses.CTC  # Its labels are sequences of another length.
        return cls(
            kind=None if is_ctc else kind_of_task(loss),
            sparse=sparse,
            ignore_class=ignored_class(loss),
            num_classes=None if shape is None else shape[-1],
            needs_labels=needs_labels,
            allows_missing=allows_missing,
        )

    def without_labels(self) -> str:
        """Return the message for missing labels."""
        return (
            "A loss is compiled, so labels are needed: pass `y`. To train from the teacher alone, "
            "compile without a loss (a `FrequencyDistiller` with `align_weight=0`). Samples "
            "without a label may stand beside others: label -1, and `ignore_class=-1` in the loss. "
            "Received: no labels."
        )

    def check(self, y: Any) -> None:
        """Raise if labels do not fit the loss. Memory maps are not read."""
        leaves = keras.tree.flatten(y) if y is not None else []
        for leaf in leaves:
            if isinstance(leaf, np.memmap) or not hasattr(leaf, "shape"):
                continue
            values = to_numpy(leaf)
            if values.dtype.kind == "f" and np.isnan(values).any():
                values = self._without_missing(values)
            # The number of classes and the kind of task are those of a single output.
            if len(leaves) == 1 and not isinstance(y, Mapping):
                self._check_range(values)

    def _without_missing(self, values: np.ndarray) -> np.ndarray:
        """Return the labels of the samples that have some, or raise."""
        nothing = np.isnan(values.reshape(len(values), -1))
        broken = nothing.any(axis=1) & ~(nothing.all(axis=1) & self.allows_missing)
        if not broken.any():
            return values[~nothing.any(axis=1)]
        if self.kind in ("values", "labels"):
            advice = (
                "NaN in all labels of a sample stands for one that has none, beside a single loss "
                "and `weighted_metrics`, which leave such samples out as `metrics` do not."
            )
        else:
            advice = (
                "Leave such samples out, or let them teach without labels: for classes -1, with "
                "`ignore_class=-1` in the loss, or in a `fit` of their own (compiled without one)."
            )
        raise ValueError(
            f"Labels must not be NaN. {advice} Received: NaN in the labels of {broken.sum()} of "
            f"{len(values)} samples, the first: {np.flatnonzero(broken)[:5].tolist()}."
        )

    def _check_range(self, y: np.ndarray) -> None:
        if y.dtype.kind not in "biuf" or not y.size:
            return
        if self.sparse and self.num_classes is not None:
            labels = y if self.ignore_class is None else y[y != self.ignore_class]
            if labels.size and (labels.min() < 0 or labels.max() >= self.num_classes):
                raise ValueError(
                    f"Labels must be in 0..{self.num_classes - 1}, as the student has "
                    f"{self.num_classes} outputs; compile with a loss that has `ignore_class=-1` "
                    "to use -1 for samples without a label. "
                    f"Received labels from {labels.min()} to {labels.max()}."
                )
        elif self.kind in ("classes", "labels") and not self.sparse:
            wide = y.ndim > 1 and self.num_classes not in (None, 1)
            if wide and self.kind == "classes" and y.shape[-1] != self.num_classes:
                raise ValueError(
                    f"Labels must have shape (samples, {self.num_classes}), as the student has "
                    f"{self.num_classes} outputs. Received shape {y.shape}."
                )
            if self.kind == "labels" and (y.min() < 0 or y.max() > 1):
                raise ValueError(
                    "Labels of a binary cross-entropy must be in [0, 1]; NaN in all labels of a "
                    "sample stands for one that has none. "
                    f"Received labels from {y.min()} to {y.max()}."
                )


def ignored_class(loss: Any) -> int | None:
    """Return the class index that a compiled loss leaves out, `None` if there is none."""
    resolved = resolve(loss)
    if type(resolved) is not _SPARSE[0]:
        return None
    return resolved.get_config()["ignore_class"]
