"""Which frequencies of a feature are low, and the band that they add up to."""

import functools
import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_fdkd.numerics import products_are_precise

#: Values along the split axes up to which a product is faster than two transforms.
_FEW = 256
_ROUNDING = 1e-9  # A radius that equals the cutoff up to rounding is low.


def check_bands(
    sizes: Sequence[int | None], cutoff: float, shape: tuple[int | None, ...], axis: Any
) -> None:
    """Raise unless both bands hold a frequency, as far as the sizes are known.

    Args:
        sizes: Sizes along the axes that are split.
        cutoff: See `FrequencySplit`.
        shape: Shape of the feature, for the message.
        axis: As given, for the message.
    """
    # Three values have one bin above DC, too few for two bands; two by two have three.
    least = 4 if len(sizes) == 1 else 2
    if any(size is not None and size < least for size in sizes):
        raise ValueError(
            f"A feature needs a size of at least {least} along "
            f"{'the split axis' if len(sizes) == 1 else 'each split axis'}. "
            f"Received: shape {tuple(shape)}, axis={axis}."
        )
    if None in sizes:
        return
    known = tuple(size for size in sizes if size is not None)
    low, bins = _count(known, cutoff)
    if not 0 < low < bins:
        what = f"size {known[0]}" if len(known) == 1 else f"sizes {known} along axes {axis}"
        raise ValueError(
            f"`cutoff` leaves the {'low' if low == 0 else 'high'} band empty: of the "
            f"{bins} bins of a feature of {what}, {low} would be low. "
            f"Received: cutoff={cutoff}."
        )


def low_band(x: Any, cutoff: float, axes: tuple[int, ...]) -> Any:
    """Return the low band of a feature whose mean has been removed.

    Args:
        x: Float32 or float64.
        cutoff: See `FrequencySplit`.
        axes: Those to transform, counted from 0.
    """
    sizes = tuple(x.shape[axis] for axis in axes)
    if None not in sizes and math.prod(sizes) <= _FEW and products_are_precise():
        return _by_product(x, sizes, cutoff, axes)
    last = tuple(range(len(x.shape) - len(axes), len(x.shape)))
    if axes == last:
        return _by_transform(x, cutoff, len(axes))
    return ops.moveaxis(_by_transform(ops.moveaxis(x, axes, last), cutoff, len(axes)), last, axes)


def _by_product(x: Any, sizes: tuple[int, ...], cutoff: float, axes: tuple[int, ...]) -> Any:
    letters = string.ascii_lowercase
    given = letters[: len(x.shape)]
    old = "".join(given[axis] for axis in axes)
    new = letters[len(given) : len(given) + len(axes)]
    made = given.translate(str.maketrans(old, new))
    projection = ops.convert_to_tensor(_projection(sizes, cutoff), dtype=x.dtype)
    return ops.einsum(f"{given},{old}{new}->{made}", x, projection)


def _by_transform(x: Any, cutoff: float, axes: int) -> Any:
    """Return the low band along the last axes, so many of them."""
    sizes = tuple(x.shape[-axes:])
    known = None not in sizes
    if not known:  # Only TensorFlow gets here.
        sizes = tuple(ops.shape(x)[n] for n in range(len(x.shape) - axes, len(x.shape)))
    # Without the mean, bin 0 is 0 up to rounding; bins that are cut off count as 0.
    spectrum = ops.rfft(x)
    if known and axes == 1:
        bins = 1 + _low_bins(sizes[0], cutoff)
        return ops.irfft(tuple(part[..., :bins] for part in spectrum), fft_length=sizes[0])
    if known:
        weights = _low_weights(sizes, cutoff)
        spectrum = tuple(part[..., : weights.shape[-1]] for part in spectrum)
    else:
        weights = _low_weights_of_unknown(sizes, cutoff)
    return ops.irfft(_filtered(spectrum, weights, axes), fft_length=sizes[-1])


def _filtered(spectrum: tuple[Any, Any], weights: Any, axes: int) -> tuple[Any, Any]:
    """Transform the other axes too, multiply, and transform them back."""
    real, imaginary = spectrum
    for _ in range(axes - 1):  # Keras transforms the last axis only, so the axes take turns.
        real, imaginary = (_turn(part, -1, -axes) for part in (real, imaginary))
        weights = _turn(weights, -1, -axes)
        real, imaginary = ops.fft((real, imaginary))
    weights = ops.convert_to_tensor(weights, dtype=real.dtype)
    # The inverse is the transform of the conjugate, conjugated. Its factor is in the weights.
    real, imaginary = real * weights, -(imaginary * weights)
    for _ in range(axes - 1):
        real, imaginary = ops.fft((real, imaginary))
        real, imaginary = (_turn(part, -axes, -1) for part in (real, imaginary))
    return real, -imaginary


def _turn(x: Any, source: int, target: int) -> Any:
    move = np.moveaxis if isinstance(x, np.ndarray) else ops.moveaxis
    return move(x, source, target)


def _low_bins(size: int, cutoff: float) -> int:
    # Half up, so that the number of low bins never falls as the cutoff rises.
    return math.floor(cutoff * (size // 2) + 0.5)


@functools.lru_cache(maxsize=64)
def _count(sizes: tuple[int, ...], cutoff: float) -> tuple[int, int]:
    """Return how many bins beside the constant one are low, and how many there are."""
    if len(sizes) == 1:
        return _low_bins(sizes[0], cutoff), sizes[0] // 2
    low = _in_circle(sizes, cutoff, np)
    return int(low.sum()) - 1, low.size - 1


@functools.lru_cache(maxsize=64)
def _projection(sizes: tuple[int, ...], cutoff: float) -> np.ndarray:
    """Return what the low band takes of each value for each value, of shape `sizes` twice."""
    if len(sizes) == 1:
        low = np.arange(1 + sizes[0] // 2) <= _low_bins(sizes[0], cutoff)
    else:
        low = _in_circle(sizes, cutoff, np)
    # With bin 0, as in the transforms: what rounding leaves of the mean stays out of the high band.
    every = np.eye(math.prod(sizes)).reshape(-1, *sizes)
    axes = tuple(range(1, 1 + len(sizes)))
    found = np.fft.irfftn(np.fft.rfftn(every, axes=axes) * low, s=sizes, axes=axes)
    return found.reshape(*sizes, *sizes)


@functools.lru_cache(maxsize=64)
def _low_weights(sizes: tuple[int, ...], cutoff: float) -> np.ndarray:
    """Return what multiplies each bin, without the bins of the last axis that are never low."""
    low = _in_circle(sizes, cutoff, np)
    kept = int(low.any(axis=tuple(range(len(sizes) - 1))).sum())
    return low[..., :kept] / math.prod(sizes[:-1])


def _low_weights_of_unknown(sizes: tuple[Any, ...], cutoff: float) -> Any:
    """Return the same as a tensor; NaN if a band is empty, as no error can be raised here."""
    if len(sizes) == 1:
        bins = sizes[0] // 2
        last = ops.floor(cutoff * ops.cast(bins, "float64") + 0.5)
        low = ops.arange(bins + 1, dtype="float64") <= last
    else:
        low = _in_circle(sizes, cutoff, ops)
    low = ops.cast(low, "float64")
    count = ops.sum(low)
    empty = ops.logical_or(count < 2, count == ops.sum(ops.ones_like(low)))
    inverse = [1.0 / ops.cast(size, "float64") for size in sizes[:-1]]
    return ops.where(empty, math.nan, low * math.prod(inverse))


def _in_circle(sizes: tuple[Any, ...], cutoff: float, xp: Any) -> Any:
    """Return which bins of the real transform are low, the constant one among them.

    Args:
        sizes: Along two axes or more: numbers, or tensors with `xp=keras.ops`.
        cutoff: See `FrequencySplit`.
        xp: `numpy` or `keras.ops`.
    """
    squares = 0.0
    for following, size in zip(reversed(range(len(sizes))), sizes, strict=True):
        bins = size // 2
        frequency = xp.arange(size if following else bins + 1, dtype="float64")
        if following:  # The second half are negative frequencies; the last axis has none.
            frequency = xp.minimum(frequency, xp.subtract(size, frequency))
        share = xp.divide(frequency, bins)
        squares = squares + xp.reshape(xp.square(share), (-1, *[1] * following))
    return xp.sqrt(squares / len(sizes)) <= cutoff + _ROUNDING
