"""Checks of single arguments of a study."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_fdkd.arguments import is_integer, is_number
from keras_fdkd.study.labels import Labels
from keras_fdkd.study.splits import Split


def check_several(name: str, values: Any, is_fine: Callable[[Any], bool], wanted: str) -> None:
    """Raise unless `values` is a list of at least one value, all different and valid."""
    is_list = isinstance(values, (list, tuple, range)) and len(values)
    if not is_list or not all(map(is_fine, values)) or len(set(values)) < len(values):
        raise ValueError(
            f"`{name}` must be a list of different {wanted}. Received: {name}={values!r}."
        )


def check_splitter(name: str, value: Any, plain: str, labels: Labels) -> None:
    """Raise unless `value` is a splitter, or stands for one."""
    # A string has a `split` too.
    if hasattr(value, "split") and not isinstance(value, str):
        return
    if name == "cv" and isinstance(value, (list, tuple)) and value:
        for split in value:
            _check_split(split, labels)
        return
    fine = is_integer(value, 1) if name == "cv" else is_number(value) and 0 < value < 1
    if not fine:
        raise ValueError(
            f"`{name}` must be {plain}, or a splitter of `sklearn.model_selection`. "
            f"Received: {name}={value!r}."
        )


def _check_split(split: Any, labels: Labels) -> None:
    is_split = isinstance(split, (list, tuple)) and len(split) in (2, 3)
    folds = [np.asarray(part) for part in split] if is_split else []
    count = len(labels.values)
    if not folds or not all(
        fold.ndim == 1 and fold.dtype.kind in "iu" and len(fold) and fold.min() >= 0
        and fold.max() < count for fold in folds
    ):  # fmt: skip
        raise ValueError(
            "A split in `cv` must be `(train, test)` or `(train, validation, test)`, each row "
            f"numbers in 0..{count - 1}. Received: {split!r}."
        )
    together = np.concatenate(folds)
    if len(np.unique(together)) < len(together):
        raise ValueError("No sample may be twice in a split of `cv`. Received: some are.")
    if not labels.labelled[np.concatenate(folds[1:])].all():
        raise ValueError("Samples without a label can only be trained on, in each split of `cv`.")


def check_rows(name: str, values: Any, count: int) -> np.ndarray | None:
    """Return an array with one value per sample, or `None`."""
    if values is None:
        return None
    values = np.asarray(values)
    if values.shape != (count,):
        raise ValueError(
            f"`{name}` must have shape ({count},), a value for each sample. "
            f"Received: shape {values.shape}."
        )
    return values


def check_known(rows: Any, count: int) -> np.ndarray | None:
    """Return the rows that a teacher was trained on as an array, or `None`."""
    if rows is None:
        return None
    # NumPy would make floats of an empty list.
    rows = np.asarray(rows, "int64" if not len(rows) else None)
    if (
        rows.ndim != 1
        or rows.dtype.kind not in "iu"
        or (len(rows) and (rows.min() < 0 or rows.max() >= count))
    ):
        raise ValueError(
            f"`teacher_trained_on` must hold row numbers in 0..{count - 1}. Received: {rows!r}."
        )
    return rows


def check_budgets(budgets: Sequence[int | None], labels: Labels, splits: Sequence[Split]) -> None:
    """Raise if a training fold has fewer labels than a budget, or a class would have none."""
    for budget in budgets:
        if budget is None:
            continue
        for number, split in enumerate(splits):
            rows = split.train[labels.labelled[split.train]]
            # A stratified draw needs one of each class among the labels kept, and among the others.
            kinds = 1 if labels.classes is None else len(np.unique(labels.classes[rows]))
            if not kinds <= budget <= len(rows) - kinds:
                raise ValueError(
                    f"`label_budgets` must be between the {kinds} classes and the labels in "
                    f"training less one of each class, {len(rows) - kinds} in split {number}. "
                    f"Received: {budget}."
                )
