"""Means over positions, some of which may be padding."""

from typing import Any

from keras import ops

from keras_fdkd.numerics import as_dtype, precise


def check_mask(mask: Any, shape: tuple[int | None, ...]) -> None:
    """Raise `ValueError` unless `mask` has one entry for each position of a feature.

    Args:
        mask: Tensor, or `None`.
        shape: Of the feature, `(batch, positions..., channels)`.
    """
    if mask is None:
        return
    given, wanted = tuple(mask.shape), tuple(shape[:-1])
    pairs = zip(given, wanted, strict=False)
    if len(given) != len(wanted) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(
            "`mask` must be true at the positions that count, and of the shape of the feature "
            "without its last axis. (Keras hands on the mask of what a feature was computed from: "
            f"pass `mask=` if the positions changed since.) Received: mask of shape {given} for a "
            f"feature of shape {tuple(shape)}."
        )


def mean_over_positions(x: Any, mask: Any = None) -> Any:
    """Return the mean over the axes between batch and channels, using valid positions only.

    Args:
        x: Feature, shape `(batch, positions..., channels)`; a vector is returned as it is.
        mask: Boolean, shape `(batch, positions...)`, or `None`: all are valid.

    Returns:
        Tensor of shape `(batch, channels)`, 0 for a sample without a valid position. Values at the
        other positions, even NaN, have no effect and get no gradient.
    """
    check_mask(mask, x.shape)
    axes = tuple(range(1, len(x.shape) - 1))
    if mask is None or not axes:
        return ops.mean(x, axis=axes) if axes else x
    mask = ops.expand_dims(ops.cast(mask, "bool"), -1)
    # A sum over many positions may leave the range of half precision.
    total = ops.sum(ops.where(mask, precise(x), 0.0), axis=axes)
    count = ops.sum(ops.cast(mask, total.dtype), axis=axes)
    return as_dtype(total / ops.maximum(count, 1.0), x.dtype)
