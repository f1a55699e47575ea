"""Rows of a user's data: arrays, memory maps, nested structures of them, or a function."""

from typing import Any

import keras
import numpy as np

#: Nested arrays whose first axis is the samples, or a function from row numbers to such arrays.
Source = Any


def take(source: Source, rows: np.ndarray) -> Any:
    """Return the given rows.

    Args:
        source: Nested arrays, or a function from row numbers to them.
        rows: Integers, shape `(n,)`.

    Example:
    >>> take({"a": np.arange(4), "b": np.eye(4)}, np.array([2, 1]))["a"].tolist()
    [2, 1]
    >>> take(lambda rows: rows * 10, np.array([2, 1])).tolist()
    [20, 10]
    """
    if callable(source):
        return source(rows)
    return keras.tree.map_structure(lambda values: values[rows], source)


def check_source(name: str, source: Source, count: int) -> None:
    """Raise unless a source has `count` rows. A function is asked for the first two."""
    if callable(source):
        wanted, given = min(2, count), source(np.arange(min(2, count)))
    else:
        wanted, given = count, source
    leaves = keras.tree.flatten(given)
    sizes = [leaf.shape[0] if getattr(leaf, "shape", ()) else None for leaf in leaves]
    if not leaves or any(size != wanted for size in sizes):
        asked = f" (asked for {wanted})" if callable(source) else ""
        raise ValueError(
            f"`{name}` must hold arrays with a row for each of the {count} labels, or be a "
            "function from row numbers to such arrays. Received rows: "
            f"{sizes or type(given).__name__}{asked}."
        )
    if not callable(source) and not all(isinstance(leaf, np.ndarray) for leaf in leaves):
        kinds = sorted({type(leaf).__name__ for leaf in leaves})
        raise ValueError(
            f"`{name}` must hold NumPy arrays or memory maps; for anything else pass a function "
            f"from row numbers to arrays. Received: {kinds}."
        )
