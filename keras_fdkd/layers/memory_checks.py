"""Checks of the arguments and index of a `ContrastiveMemory`: for its layer, its loss, the data."""

from typing import Any

import numpy as np

from keras_fdkd.arguments import check_integer, check_number, is_number

INDEX_REQUIRED = (
    "`index` must hold the numbers of the samples, integers of shape (samples,) or (samples, 1)."
)


def check_memory(
    num_samples: Any, dim: Any, negatives: Any, temperature: Any, momentum: Any, seed: Any
) -> None:
    """Raise `ValueError` unless the arguments are in their ranges."""
    check_integer("num_samples", num_samples, 2)
    check_integer("dim", dim)
    check_integer("negatives", negatives)
    check_number("temperature", temperature, above=True)
    if not is_number(momentum) or not 0 <= momentum < 1:
        raise ValueError(
            "`momentum` must be a number of at least 0 and below 1. "
            f"Received: momentum={momentum!r}."
        )
    check_integer("seed", seed, 0, optional=True)


def check_index(index: Any, num_samples: int) -> None:
    """Raise `ValueError` unless `index` gives samples below `num_samples`, each at most once.

    Args:
        index: Array of the numbers of a data set's samples, or of a batch's.
        num_samples: Integer, the size of the training set.

    Example:
    >>> check_index(np.array([0, 2, 3]), num_samples=3)
    Traceback (most recent call last):
    ...
    ValueError: `index` must be in 0..2, as the banks hold `num_samples=3` training samples. \
    Received: numbers from 0 to 3.
    """
    index = np.asarray(index)
    if (
        not np.issubdtype(index.dtype, np.integer)
        or index.shape[1:] not in ((), (1,))
        or not index.shape
    ):
        raise ValueError(f"{INDEX_REQUIRED} Received: shape {index.shape}, dtype {index.dtype}.")
    numbers = np.sort(index.reshape(-1))
    if not len(numbers):
        return
    if numbers[0] < 0 or numbers[-1] >= num_samples:
        raise ValueError(
            f"`index` must be in 0..{num_samples - 1}, as the banks hold `num_samples="
            f"{num_samples}` training samples. Received: numbers from {numbers[0]} to "
            f"{numbers[-1]}."
        )
    twice = numbers[1:][numbers[1:] == numbers[:-1]]
    if len(twice):
        raise ValueError(
            "`index` must have each sample once: two of one number would both move the entry of "
            "that sample. Number the samples by `np.arange(num_samples)`, and let a batch hold "
            f"none twice. Received: {twice[0]} more than once."
        )
