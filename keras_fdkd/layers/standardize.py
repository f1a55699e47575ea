"""Standardize: the scale consistency of FD-CMKD."""

from typing import Any

import keras

from keras_fdkd.arguments import check_axis, check_boolean, check_choice, check_number, is_integer
from keras_fdkd.layers.axes import Axis, axes_of, count_values, plain_axis
from keras_fdkd.numerics import as_dtype, precise, unit, without_mean

SCALES = ("variance", "norm")


@keras.saving.register_keras_serializable(package="keras_fdkd")
class Standardize(keras.layers.Layer):
    """Remove mean and scale along one axis or several, so that only directions are compared.

    For comparing features of modalities with different scales; `FrequencyDistiller` applies it to
    each band.

    `scale="norm"` is the paper's `Std(X) = (X - mean X) / ||X - mean X||`: the mean squared
    difference of two such vectors of size `n` is `(2 - 2 cos) / n`, which shrinks with `n`, and
    their entries are so small that a logarithm does nothing to them. `scale="variance"` divides by
    the standard deviation instead, a factor of `sqrt(n)`: the mean squared difference is
    `2 - 2 cos` whatever the size, which is comparable to a cross-entropy, and `LogMeanSquaredError`
    does compress entries near 1.

    Args:
        scale: `"variance"` (unit variance) or `"norm"` (unit Euclidean norm).
            Defaults to `"variance"`.
        axis: Integer, the axis along which to standardize, or a tuple of up to three that share one
            mean and one scale: `(1, 2)` for each channel of a map. Defaults to `-1`.
        center: Boolean. Whether to subtract the mean; frequency bands without DC have none.
            Defaults to `True`.
        epsilon: Float. A row whose Euclidean norm is at most this becomes zeros and gets no
            gradient: a dead feature has no direction. With `center` the same holds for a row that
            is constant up to rounding. The authors' code divides by `epsilon` there, which makes
            the gradient 1e8 times as large. Defaults to `1e-8`.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Float tensor with any number of axes, shape `(batch, ..., n, ...)`. Half precision
            is computed in float32.

    Returns:
        Tensor of the shape of `inputs` and the dtype of the layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    >>> import numpy as np
    >>> from keras import ops
    >>> y = Standardize()(np.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]], "float32"))
    >>> bool(abs(ops.mean(y[0] ** 2) - 1) < 1e-5), float(ops.max(ops.abs(y[1])))
    (True, 0.0)
    >>> maps = np.arange(48, dtype="float32").reshape(1, 4, 4, 3)
    >>> y = ops.convert_to_numpy(Standardize(axis=(1, 2))(maps))
    >>> np.allclose(y.mean((1, 2)), 0, atol=1e-6), np.allclose(y.std((1, 2)), 1)
    (True, True)

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), scale consistency.
    """

    def __init__(
        self,
        scale: str = "variance",
        axis: Axis = -1,
        center: bool = True,
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("scale", scale, SCALES)
        if not is_integer(axis):  # A single axis may be that of the batch here.
            check_axis(axis)
        check_boolean("center", center)
        check_number("epsilon", epsilon)
        self.scale = scale
        self.axis = plain_axis(axis)
        self.center = center
        self.epsilon = epsilon

    def call(self, inputs: Any) -> Any:
        # A sum of squares soon leaves the range of half precision.
        x = precise(inputs)
        axis = axes_of(self.axis, x.shape) if isinstance(self.axis, tuple) else self.axis
        if self.center:
            x, _ = without_mean(x, axis)
        scale = 1.0
        if self.scale == "variance":
            scale = count_values(x, axis if isinstance(axis, tuple) else (axis,)) ** 0.5
        return as_dtype(unit(x, axis, self.epsilon**2, scale), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {
            "scale": self.scale,
            "axis": self.axis,
            "center": self.center,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **config}
