"""Statistics over what is not masked."""

from typing import Any

from keras import ops


def filled_with_mean(x: Any, axes: tuple[int, ...], mask: Any) -> Any:
    """Return `x` with the mean over its valid positions in place of what is masked.

    The mean, and distances from it, are then those of the valid positions.

    Args:
        x: Shape `(batch, ..., channels)`.
        axes: Over which the mean is taken: all but the last.
        mask: Boolean, shape `(batch, ...)` or `(batch,)`, or `None`: `x` as it is.

    Example:
    >>> import numpy as np
    >>> x, mask = np.array([[1.0], [3.0], [9.0]]), np.array([True, True, False])
    >>> ops.convert_to_numpy(filled_with_mean(x, (0,), mask)).ravel().tolist()
    [1.0, 3.0, 2.0]
    """
    if mask is None:
        return x
    valid = of_channels(mask, x)
    x = ops.where(valid, x, 0.0)
    count = ops.sum(ops.cast(valid, x.dtype), axis=axes, keepdims=True)
    return ops.where(valid, x, ops.sum(x, axis=axes, keepdims=True) / ops.maximum(count, 1.0))


def of_channels(mask: Any, x: Any) -> Any:
    """Return a mask of samples or positions for each entry of `x`, `(batch, ..., 1)`."""
    mask = ops.cast(mask, "bool")
    while len(mask.shape) < len(x.shape):
        mask = ops.expand_dims(mask, -1)
    # One entry for each position, so that a sum over the mask counts them.
    return ops.logical_and(mask, ops.ones_like(x[..., :1], dtype="bool"))
