"""The rows of each split: training, validation and test."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

from keras_fdkd.study.labels import Labels


@dataclass(frozen=True)
class Split:
    """Row numbers of one split.

    Attributes:
        train: Rows for training, labelled or not. Samples without a label are in no other fold.
        validation: Rows that choose the epoch and the setting.
        test: Rows that are read once.
        testable: How many samples of the split could be tested: they have labels, and the teacher
            was not trained on them.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    testable: int

    @property
    def overlap(self) -> float:
        """Tested samples for each one that could be tested but is not, which corrects intervals.

        It is `n_test / n_train` of Nadeau and Bengio, whose correlation of two splits is
        `n_test / (n_test + n_train)`: the share of tested samples that two splits have in common by
        chance. Samples that are never tested do not make splits more independent.
        """
        return len(self.test) / max(1, self.testable - len(self.test))


def make_splits(
    labels: Labels,
    cv: Any,
    validation: Any,
    groups: np.ndarray | None,
    known_to_teacher: np.ndarray | None,
) -> list[Split]:
    """Return all splits.

    Args:
        labels: Labels of all samples.
        cv: A number of random splits, a splitter of scikit-learn, or a list of rows, see `Study`.
        validation: Fraction of the rows that are not tested, or a splitter.
        groups: Which samples stay together, shape `(samples,)`.
        known_to_teacher: Rows that a given teacher was trained on: they are not evaluated.

    Raises:
        ValueError: If a fold would be empty, or a group would be in two folds.
    """
    rows = np.flatnonzero(labels.labelled)
    found = []
    for number, (rest, chosen, test) in enumerate(_folds(cv, labels, rows, groups)):
        if chosen is None:
            unlabelled = rest[~labels.labelled[rest]]
            labelled = np.setdiff1d(rest, unlabelled)
            inner = validation
            if isinstance(validation, float):
                inner = _splitter(1, validation, labels, labelled, groups, number)
            rest, chosen = next(iter(_split(inner, labelled, labels, groups)))
            if groups is not None:
                # Only labelled rows were drawn: the others of these groups are not trained on.
                unlabelled = unlabelled[~np.isin(groups[unlabelled], groups[chosen])]
            rest = np.concatenate([rest, unlabelled])
        held_out = np.concatenate([chosen, test])
        train = np.union1d(rest, _unlabelled(labels, groups, held_out, cv))
        if groups is not None:
            _check_groups(number, groups, (train, chosen, test))
        used = np.concatenate([train, held_out])
        testable = _unknown(used[labels.labelled[used]], known_to_teacher)
        chosen, test = (_unknown(fold, known_to_teacher) for fold in (chosen, test))
        for name, fold in (("training", train), ("validation", chosen), ("test", test)):
            if not len(fold):
                seen = "" if known_to_teacher is None else ", without the rows the teacher knows"
                raise ValueError(
                    f"Split {number} has no sample for {name}{seen}. Give other `cv` or "
                    "`validation`, or more data."
                )
        found.append(Split(train, np.sort(chosen), np.sort(test), len(testable)))
    return found


def _splitter(
    count: int,
    size: float,
    labels: Labels,
    rows: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
) -> Any:
    """Return a random splitter that keeps groups together, or else the classes' proportions."""
    if groups is not None:
        kind = GroupShuffleSplit
    elif labels.strata(rows) is not None:
        kind = StratifiedShuffleSplit
    else:
        kind = ShuffleSplit
    return kind(count, test_size=size, random_state=seed)


def _split(splitter: Any, rows: np.ndarray, labels: Labels, groups: np.ndarray | None) -> Any:
    classes = labels.values if labels.classes is None else labels.classes
    of_rows = None if groups is None else groups[rows]
    # Splitters look at the number of rows, not at what is in them.
    for first, second in splitter.split(np.zeros((len(rows), 1)), classes[rows], of_rows):
        yield rows[first], rows[second]


def _folds(
    cv: Any, labels: Labels, rows: np.ndarray, groups: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """Yield rows for training or validation, for validation if they are given, and for test."""
    if isinstance(cv, (list, tuple)):
        for split in cv:
            first, *middle, last = (np.asarray(part, "int64") for part in split)
            yield first, (middle[0] if middle else None), last
        return
    outer = _splitter(cv, 0.2, labels, rows, groups, 0) if isinstance(cv, int) else cv
    for rest, test in _split(outer, rows, labels, groups):
        yield rest, None, test


def _unlabelled(
    labels: Labels, groups: np.ndarray | None, held_out: np.ndarray, cv: Any
) -> np.ndarray:
    """Return the samples without a label that may be trained on: of no group that is held out."""
    if isinstance(cv, (list, tuple)):  # Lists say themselves which samples are trained on.
        return np.zeros(0, "int64")
    rows = np.flatnonzero(~labels.labelled)
    return rows if groups is None else rows[~np.isin(groups[rows], groups[held_out])]


def _check_groups(number: int, groups: np.ndarray, folds: tuple[np.ndarray, ...]) -> None:
    train, validation, test = (set(groups[fold].tolist()) for fold in folds)
    if shared := (train & validation) | (train & test) | (validation & test):
        raise ValueError(
            "Samples of a group must stay in one fold: give `cv` and `validation` splitters that "
            "know groups, such as `GroupKFold` and `GroupShuffleSplit`. Received: "
            f"{len(shared)} groups in several folds of split {number}, such as "
            f"{next(iter(shared))!r}."
        )


def _unknown(rows: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    return rows if known is None else np.setdiff1d(rows, known)
