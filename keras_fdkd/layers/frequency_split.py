"""FrequencySplit: a feature as the sum of a low and a high frequency band."""

from typing import Any

import keras

from keras_fdkd.arguments import check_axis, check_boolean, is_number
from keras_fdkd.layers.axes import Axis, axes_of, plain_axis
from keras_fdkd.layers.spectrum import check_bands, low_band
from keras_fdkd.numerics import as_dtype, precise, without_mean


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FrequencySplit(keras.layers.Layer):
    """Split a feature into its low and its high frequency band along one axis or several.

    For comparing features, or any signals, by frequency; `FrequencyDistiller` uses one for both
    modalities.

    **One axis.** The real discrete Fourier transform of `n` values has `n // 2` bins above the
    constant one (DC). The low band keeps bins `1 .. round(cutoff * (n // 2))`, the high band the
    rest, so that `low + high` is the input minus its mean along `axis`; for `n = 512` and
    `cutoff = 0.5` the low band is bins 1..128. This takes one forward and one inverse transform;
    up to 256 values, a product with a constant matrix gives the same sooner, where products keep
    all bits of float32: on processors, and on PyTorch unless it is told otherwise.

    **Several axes**, such as height and width of a map: a bin of the transform over all of them has
    the frequency `k / (n // 2)` along an axis of size `n`, from 0 to 1, however large the axis is.
    Its radius is the root of the mean of their squares, 1 for the highest frequency along every
    axis. The low band is the circle (the ball) of radius up to `cutoff`, and `low + high` is the
    input minus its mean over these axes. A wave along only one of two axes has a radius of
    `1 / sqrt(2)` at most.

    Args:
        cutoff: Float in (0, 1). Fraction of the non-DC spectrum that is low: of its bins along one
            axis, of its radius over several. Defaults to `0.5`.
        axis: Integer, the axis to transform, or a tuple of up to three: `(1, 2)` for maps
            `(batch, height, width, channels)`. Not the batch axis. Defaults to `-1`.
        include_dc: Boolean. Whether the low band keeps the mean. The paper's training leaves it out
            of both bands, its similarity analysis keeps it. Defaults to `False`.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Float tensor with any number of axes, shape `(batch, ..., n, ...)`, `n >= 4` along
            one axis, `n >= 2` along each of several. Sizes may be unknown until it runs; if
            TensorFlow does not know them even then, a band that turns out to be empty is NaN. Half
            precision is transformed in float32. An input that is constant along `axis`, up to
            rounding, has bands of zeros.

    Returns:
        Tuple `(low, high)`, each of the shape of `inputs` and the dtype of the layer.

    Raises:
        ValueError: If `cutoff` is outside (0, 1) or leaves a band empty, or if a size along `axis`
            is too small.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> x = np.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    >>> low, high = FrequencySplit(cutoff=0.25)(x)
    >>> residual = low + high - (x - x.mean(-1, keepdims=True))
    >>> bool(ops.max(ops.abs(residual)) < 1e-5)
    True
    >>> maps = np.random.default_rng(0).normal(size=(2, 7, 10, 3)).astype("float32")
    >>> low, high = FrequencySplit(cutoff=0.25, axis=(1, 2))(maps)
    >>> residual = low + high - (maps - maps.mean((1, 2), keepdims=True))
    >>> bool(ops.max(ops.abs(residual)) < 1e-5)
    True

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), frequency decoupling.
    """

    def __init__(
        self, cutoff: float = 0.5, axis: Axis = -1, include_dc: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not is_number(cutoff) or not 0 < cutoff < 1:
            raise ValueError(
                f"`cutoff` must be a number above 0 and below 1. Received: cutoff={cutoff!r}."
            )
        check_axis(axis)
        check_boolean("include_dc", include_dc)
        self.cutoff = cutoff
        self.axis = plain_axis(axis)
        self.include_dc = include_dc

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check(input_shape)
        self.built = True

    def _check(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """Return the axes; raise if a band would be empty."""
        axes = axes_of(self.axis, shape)
        check_bands([shape[axis] for axis in axes], self.cutoff, shape, self.axis)
        return axes

    def call(self, inputs: Any) -> tuple[Any, Any]:
        axes = self._check(inputs.shape)  # Of these inputs: sizes may differ from those of `build`.
        # The transforms exist in float32 and float64 only.
        centered, mean = without_mean(precise(inputs), axes if len(axes) > 1 else axes[0])
        low = low_band(centered, self.cutoff, axes)
        high = centered - low  # a second inverse transform would give the same
        if self.include_dc:
            low = low + mean
        return tuple(as_dtype(band, self.compute_dtype) for band in (low, high))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape, input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"cutoff": self.cutoff, "axis": self.axis, "include_dc": self.include_dc}
        return {**super().get_config(), **config}
