"""Labels of a study: which samples have one, and how some are hidden."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

UNLABELLED = -1


@dataclass(frozen=True)
class Labels:
    """Labels; -1 (integers) or NaN (floats) in the whole row of a sample marks that it has none.

    Args:
        values: Shape `(samples, ...)`.
    """

    values: np.ndarray

    @classmethod
    def of(cls, values: Any) -> "Labels":
        """Check labels.

        Raises:
            ValueError: If they are not an array of numbers, or only some of a sample's labels are
                NaN.
        """
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf" or not values.ndim:
            raise ValueError(
                "`labels` must be one NumPy array of integers (classes) or floats, with a row for "
                "each sample. Number the classes first, for example with scikit-learn's "
                f"`LabelEncoder`. Received: {_described(values)}."
            )
        if values.dtype.kind == "u":  # Unsigned integers have no -1.
            values = values.astype("int64")
        nothing = np.isnan(values.reshape(len(values), -1)) if values.dtype.kind == "f" else None
        if nothing is not None and (some := nothing.any(1) & ~nothing.all(1)).any():
            raise ValueError(
                "A sample must have all its labels or none (NaN in all of them). Received: NaN in "
                f"some labels of {some.sum()} samples, the first: {np.flatnonzero(some)[:5]}."
            )
        found = cls(values)
        if not found.labelled.any():
            raise ValueError("`labels` must hold labels. Received: none of the samples has one.")
        return found

    @cached_property
    def labelled(self) -> np.ndarray:
        """Whether each sample has labels, shape `(samples,)`."""
        flat = self.values.reshape(len(self.values), -1)
        if self.values.dtype.kind == "f":
            return ~np.isnan(flat).all(1)
        return (flat != UNLABELLED).any(1)

    @property
    def classes(self) -> np.ndarray | None:
        """One class per sample, shape `(samples,)`, or `None` if labels are something else."""
        is_class = self.values.dtype.kind == "i" and self.values.size == len(self.values)
        return self.values.ravel() if is_class else None

    def strata(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the classes of rows if each class has at least two of them, else `None`."""
        if self.classes is None:
            return None
        classes = self.classes[rows]
        # scikit-learn refuses to stratify by a class of one sample.
        return classes if np.unique(classes, return_counts=True)[1].min() > 1 else None

    def hidden(self, rows: np.ndarray, keep: int | None, seed: int) -> np.ndarray:
        """Return the labels of rows with `keep` of them left, in the proportions of the classes.

        A class too rare for its proportion keeps one.

        Args:
            rows: Row numbers, shape `(n,)`.
            keep: How many stay; `None` for all.
            seed: Seed of the draw.
        """
        labels = self.values[rows].copy()
        there = np.flatnonzero(self.labelled[rows])
        if keep is None or keep >= len(there):
            return labels
        kept, _ = train_test_split(
            there, train_size=keep, stratify=self.strata(rows[there]), random_state=seed
        )
        if self.classes is not None:
            kept = _with_each_class(self.classes[rows], there, kept, seed)
        dropped = np.setdiff1d(there, kept)
        labels[dropped] = np.nan if labels.dtype.kind == "f" else UNLABELLED
        return labels


def _with_each_class(
    classes: np.ndarray, there: np.ndarray, kept: np.ndarray, seed: int
) -> np.ndarray:
    """Return as many places, among which each class has one: the largest class gives it up."""
    rng = np.random.default_rng(seed)
    for missing in np.setdiff1d(classes[there], classes[kept]):
        there_are, counts = np.unique(classes[kept], return_counts=True)
        most = kept[classes[kept] == there_are[counts.argmax()]]
        gained = rng.choice(there[classes[there] == missing])
        kept = np.append(kept[kept != rng.choice(most)], gained)
    return kept


def _described(values: Any) -> str:
    if isinstance(values, np.ndarray):
        return f"an array of {values.dtype}, shape {values.shape}"
    return type(values).__name__
