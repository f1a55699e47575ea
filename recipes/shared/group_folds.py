"""Random splits that keep groups together."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def group_folds(groups: np.ndarray, count: int) -> list[Rows]:
    """Return the rows for training, validation and test of each split.

    Whole groups are held out: a fifth of them to test, a fifth of the others to validate.

    Args:
        groups: Of each row, shape `(rows,)`.
        count: Number of splits.

    Example:
    >>> [(train, validation, test)] = group_folds(np.arange(10) // 2, 1)
    >>> len(train), len(validation), len(test)
    (6, 2, 2)
    """
    outer = GroupShuffleSplit(count, test_size=0.2, random_state=0)
    splits = []
    for number, (rest, test) in enumerate(outer.split(groups, None, groups)):
        inner = GroupShuffleSplit(1, test_size=0.2, random_state=number)
        train, validation = next(inner.split(rest, None, groups[rest]))
        splits.append((rest[train], rest[validation], test))
    return splits
