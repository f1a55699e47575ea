"""Maps resized with the same numbers on every backend."""

import functools
from typing import Any

import numpy as np
from keras import ops

from keras_fdkd.arguments import is_integer


def resized(x: Any, axis: int, size: int) -> Any:
    """Return `x` with `size` values along `axis`, linearly and with antialiasing.

    These are the numbers of `ops.image.resize(..., "bilinear", antialias=True)`, which XLA does not
    compile on TensorFlow. A product with a small constant matrix works everywhere, for any number
    of axes, and so does its gradient.

    Args:
        x: Float tensor, shape `(batch, ..., channels)`.
        axis: Integer from 1 on, not the last axis. Its size may be unknown.
        size: Integer.

    Example:
    >>> x = ops.reshape(ops.convert_to_tensor([0.0, 4.0, 8.0, 0.0]), (1, 4, 1))
    >>> ops.convert_to_numpy(resized(x, 1, 2))[0, :, 0].astype("float64").round(2).tolist()
    [2.86, 4.0]
    >>> ops.convert_to_numpy(resized(x, 1, 8))[0, :, 0].tolist()
    [0.0, 1.0, 3.0, 5.0, 7.0, 6.0, 2.0, 0.0]
    """
    given = x.shape[axis]
    if given == size:
        return x
    if given is None:
        matrix = _weights(ops.cast(ops.shape(x)[axis], "float64"), size, ops)
    else:
        matrix = _constant_weights(given, size)
    matrix = ops.convert_to_tensor(matrix, dtype=x.dtype)
    if axis == len(x.shape) - 2:
        return ops.matmul(matrix, x)
    return ops.moveaxis(ops.matmul(matrix, ops.moveaxis(x, axis, -2)), -2, axis)


@functools.lru_cache(maxsize=64)
def _constant_weights(given: int, size: int) -> np.ndarray:
    return _weights(float(given), size, np)


def _weights(given: Any, size: int, xp: Any) -> Any:
    """Return how much each value counts in each result, shape `(size, given)`; rows sum to 1."""
    ratio = given / size
    # Centres of the results, in units of values; a result spans at least one value.
    centres = (xp.arange(size, dtype="float64") + 0.5) * ratio - 0.5
    distance = xp.abs(xp.expand_dims(centres, 1) - xp.arange(given, dtype="float64"))
    weights = xp.maximum(0.0, 1.0 - distance / xp.maximum(ratio, 1.0))
    return weights / xp.sum(weights, axis=1, keepdims=True)


def are_sizes(sizes: Any) -> bool:
    """Whether these are sizes of one to three axes, with `None` for any size."""
    return (
        isinstance(sizes, (list, tuple))
        and 1 <= len(sizes) <= 3
        and all(size is None or is_integer(size, 1) for size in sizes)
    )
