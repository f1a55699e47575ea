"""One axis or several: how they are written, and how many values lie along them."""

import math
from typing import Any

from keras import ops

#: One axis, or up to three whose values belong together, such as height and width.
Axis = int | tuple[int, ...]


def plain_axis(axis: Any) -> Any:
    """Return an axis unchanged, and several as a tuple: JSON turns tuples into lists."""
    return tuple(axis) if isinstance(axis, list) else axis


def axes_of(axis: Axis, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return the axes counted from the batch, in ascending order.

    Raises:
        ValueError: If one is not among the axes after the batch, or two are the same.

    Example:
    >>> axes_of(-1, (None, 8, 3)), axes_of((-1, 1), (None, 8, 3))
    ((2,), (1, 2))
    """
    rank = len(shape)
    given = axis if isinstance(axis, (list, tuple)) else (axis,)
    axes = tuple(sorted(a % rank for a in given))
    if len(set(axes)) < len(axes) or not all(-rank < a < rank and a % rank for a in given):
        every = "one of" if len(given) == 1 else "different ones of"
        raise ValueError(
            f"`axis` must be {every} the axes 1..{rank - 1} of the feature. "
            f"Received: axis={axis!r} for shape {tuple(shape)}."
        )
    return axes


def count_values(x: Any, axes: tuple[int, ...]) -> Any:
    """Return how many values lie along `axes`: a number, or a tensor where it is unknown yet."""
    sizes = [x.shape[axis] for axis in axes]
    if None not in sizes:
        return math.prod(sizes)
    sizes = [ops.cast(ops.shape(x)[axis], x.dtype) for axis in axes]
    return math.prod(sizes[1:], start=sizes[0])
