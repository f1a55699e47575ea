"""FrequencySplit: a feature as the sum of a low and a high frequency band."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_axis, check_boolean, is_number
from keras_fdkd.numerics import as_dtype, precise, without_mean


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FrequencySplit(keras.layers.Layer):
    """Split a feature into its low and its high frequency band along one axis.

    The real discrete Fourier transform of `n` values has `n // 2` bins above the constant one
    (DC). The low band keeps bins `1 .. round(cutoff * (n // 2))`, the high band the rest, so that
    `low + high` is the input minus its mean along `axis`; for `n = 512` and `cutoff = 0.5` the low
    band is bins 1..128. It takes one forward and one inverse transform.

    Args:
        cutoff: Float in (0, 1). Fraction of the non-DC bins that is low. Defaults to `0.5`.
        axis: Integer, the axis to transform; not the batch axis. Defaults to `-1`.
        include_dc: Boolean. Whether the low band keeps the mean. The paper's training leaves it
            out of both bands, its similarity analysis keeps it. Defaults to `False`.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Float tensor of any rank, shape `(batch, ..., n, ...)` with static `n >= 4`.
            Half precision is transformed in float32. What is constant along `axis` but for
            rounding has bands of zeros.

    Returns:
        Tuple `(low, high)`, each of the shape of `inputs` and the dtype of the layer.

    Raises:
        ValueError: If `cutoff` is outside (0, 1) or leaves a band empty, or if the size along
            `axis` is unknown or below 4.

    Example:
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    >>> low, high = FrequencySplit(cutoff=0.25)(x)
    >>> residual = low + high - (x - x.mean(-1, keepdims=True))
    >>> bool(ops.max(ops.abs(residual)) < 1e-5)
    True

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), frequency decoupling.
    """

    def __init__(
        self, cutoff: float = 0.5, axis: int = -1, include_dc: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not is_number(cutoff) or not 0 < cutoff < 1:
            raise ValueError(
                f"`cutoff` must be a number above 0 and below 1. Received: cutoff={cutoff!r}."
            )
        check_axis(axis)
        check_boolean("include_dc", include_dc)
        self.cutoff = cutoff
        self.axis = axis
        self.include_dc = include_dc

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rank = len(input_shape)
        if not -rank < self.axis < rank:
            raise ValueError(
                f"`axis` must be one of the axes 1..{rank - 1} of the feature. "
                f"Received: axis={self.axis} for shape {input_shape}."
            )
        self._count_low_bins(input_shape)
        self.built = True

    def _count_low_bins(self, input_shape: tuple[int | None, ...]) -> int:
        """Return how many bins above the constant one are low."""
        size = input_shape[self.axis]
        if size is None or size < 4:
            raise ValueError(
                "A feature needs a known size of at least 4 along the split axis. "
                f"Received: shape {input_shape}, axis={self.axis}."
            )
        bins = size // 2
        # Half up, so that the number of low bins never falls as the cutoff rises.
        low_bins = math.floor(self.cutoff * bins + 0.5)
        if not 0 < low_bins < bins:
            raise ValueError(
                f"`cutoff` leaves the {'low' if low_bins == 0 else 'high'} band empty: of the "
                f"{bins} bins of a feature of size {size}, {low_bins} would be low. "
                f"Received: cutoff={self.cutoff}."
            )
        return low_bins

    def call(self, inputs: Any) -> tuple[Any, Any]:
        # The transforms exist in float32 and float64 only.
        x = self._move(precise(inputs), self.axis, -1)
        centered, mean = without_mean(x, -1)
        # Bin 0 is empty without the mean, but for rounding; bins that are cut off count as 0.
        bins = 1 + self._count_low_bins(inputs.shape)
        kept = [part[..., :bins] for part in ops.rfft(centered)]
        low = ops.irfft(tuple(kept), fft_length=x.shape[-1])
        high = centered - low  # a second inverse transform would give the same
        if self.include_dc:
            low = low + mean
        return tuple(
            as_dtype(self._move(band, -1, self.axis), self.compute_dtype) for band in (low, high)
        )

    def _move(self, x: Any, source: int, target: int) -> Any:
        last = self.axis in (-1, len(x.shape) - 1)
        return x if last else ops.moveaxis(x, source, target)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape, input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"cutoff": self.cutoff, "axis": self.axis, "include_dc": self.include_dc}
        return {**super().get_config(), **config}
