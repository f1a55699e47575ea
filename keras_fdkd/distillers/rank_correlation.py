"""Kendall's rank correlation of rows, with memory that does not grow with the number of pairs."""

from typing import Any

from keras import ops

# Up to here comparing all pairs at once takes fewer operations, and little memory.
_FEW = 128
_BLOCK = 64
# `rank * n + rank` and the number of pairs must fit into int32.
_MOST = 46340


def kendall(a: Any, b: Any) -> tuple[Any, Any]:
    """Return Kendall's tau-b between the rows of `a` and `b`, as numerator and denominator.

    `tau = (concordant - discordant) / sqrt(pairs untied in a * pairs untied in b)` over all
    `n * (n - 1) / 2` pairs of entries. It is returned undivided, so that rounding does not lift a
    tau that equals a threshold over it.

    For up to 128 entries it compares all pairs; for more, it counts the swaps of a merge sort, in
    `log2(n)` sorts of all entries: memory grows with `batch * n` and time with
    `batch * n * log2(n)**2`; XLA takes seconds to compile the sorts, once. Both count the same
    integers.

    Args:
        a: Float, shape `(batch, n)`, with at most 46340 columns.
        b: Float, same shape.

    Returns:
        Two float32 tensors of shape `(batch,)`; the second is 0 where a row is constant, because
        tau is undefined there. Neither has a gradient.

    Raises:
        ValueError: If there are more columns.

    Example:
    >>> import numpy as np
    >>> a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]])
    >>> [float(value[0]) for value in kendall(a, b)]
    [1.0, 3.0]
    """
    n = a.shape[-1]
    if n > _MOST:
        raise ValueError(
            f"Kendall's rank correlation counts pairs of at most {_MOST} classes. "
            f"Received: {n} classes."
        )
    a, b = (ops.stop_gradient(ops.convert_to_tensor(x)) for x in (a, b))
    excess, untied_a, untied_b = (
        ops.cast(count, "float32") for count in (_few if n <= _FEW else _many)(a, b)
    )
    return excess, ops.sqrt(untied_a * untied_b)


def _few(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Return concordant minus discordant pairs, and pairs untied in `a` and in `b`."""
    # Each pair occurs twice, with both signs flipped. Equal infinities are tied.
    a, b = _signs(a), _signs(b)
    counts = [ops.sum(x, axis=(1, 2)) / 2 for x in (a * b, ops.square(a), ops.square(b))]
    return counts[0], counts[1], counts[2]


def _signs(x: Any) -> Any:
    first, second = x[:, :, None], x[:, None, :]
    return ops.cast(first > second, "float32") - ops.cast(first < second, "float32")


def _many(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """The same by sorting, as Knight (1966) does."""
    n = a.shape[-1]
    pairs = n * (n - 1) // 2
    (rank_a, ties_a), (rank_b, ties_b) = _rank(a), _rank(b)
    both = ops.sort(rank_a * n + rank_b, axis=-1)  # By `a`, and by `b` where that is tied.
    discordant = _count_inversions(both % n)
    untied = pairs - ties_a - ties_b + _count_ties(_smaller(both))
    return untied - 2 * discordant, pairs - ties_a, pairs - ties_b


def _rank(x: Any) -> tuple[Any, Any]:
    """Return how many entries of the row are smaller, and how many pairs are tied."""
    order = ops.argsort(x, axis=-1)
    smaller = _smaller(ops.take_along_axis(x, order, axis=-1))
    back = ops.argsort(order, axis=-1)
    return ops.take_along_axis(smaller, back, axis=-1), _count_ties(smaller)


def _smaller(x: Any) -> Any:
    """Return how many entries are smaller, for sorted rows: where the run of equal ones starts."""
    size = x.shape[-1]
    changes = ops.cast(x[:, 1:] != x[:, :-1], "int32")
    changes = ops.pad(changes, [(0, 0), (1, 0)], constant_values=1)
    starts = ops.sort(ops.where(changes > 0, ops.arange(size, dtype="int32"), size), axis=-1)
    return ops.take_along_axis(starts, ops.cumsum(changes, axis=-1) - 1, axis=-1)


def _count_ties(smaller: Any) -> Any:
    """Count tied pairs: each entry is tied with those from the start of its run to itself."""
    return ops.sum(ops.arange(smaller.shape[-1], dtype="int32") - smaller, axis=-1)


def _count_inversions(x: Any) -> Any:
    """Count the pairs of a row, integers in `0 .. n - 1`, of which the first is the larger."""
    n, width = x.shape[-1], _BLOCK
    size = max(width, 1 << (n - 1).bit_length())
    x = ops.pad(x, [(0, 0), (0, size - n)], constant_values=n)
    # The first levels at once, pair by pair: as sorts these would take longest to compile and run.
    blocks = ops.reshape(x, (-1, size // width, width))
    earlier = ops.arange(width)[:, None] < ops.arange(width)
    inverted = ops.logical_and(earlier, blocks[..., :, None] > blocks[..., None, :])
    total = ops.sum(ops.cast(inverted, "int32"), axis=(1, 2, 3))
    x = ops.sort(blocks, axis=-1)
    while width < size:
        # Blocks of two sorted halves are merged; the last bit tells the halves apart.
        second = ops.cast(ops.arange(2 * width) >= width, "int32")
        blocks = 2 * ops.reshape(x, (-1, size // (2 * width), 2 * width)) + second
        blocks = ops.sort(blocks, axis=-1)
        second = blocks % 2
        not_larger = ops.cumsum(1 - second, axis=-1)  # of the first half, at each entry
        total = total + ops.sum(second * (width - not_larger), axis=(1, 2))
        x = blocks // 2
        width *= 2
    return total
