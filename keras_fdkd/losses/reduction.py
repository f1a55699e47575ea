"""The mean of a loss over the samples and positions that count."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.numerics import adaptive_average


class _Mean(keras.losses.Loss):
    """Keras's reduction, with the scale that distribution strategies need."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def weighted_mean(values: Any, sample_weight: Any = None, mask: Any = None) -> Any:
    """Return the mean of `values * sample_weight` over what is not masked, as Keras's losses do.

    Args:
        values: Losses of samples, shape `(batch,)`, or of their positions, `(batch, ...)`.
        sample_weight: Shape `(batch,)` or `(batch, ...)`, or `None`. Weights of positions are
            averaged where the values are of samples, or of fewer positions.
        mask: Boolean or float, of the same shapes, or `None`: what is 0 counts neither in the sum
            nor in the number of values.

    Returns:
        Scalar; 0 where nothing counts.

    Example:
    >>> import numpy as np
    >>> values = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    >>> float(weighted_mean(values, np.array([1.0, 2.0])))
    4.25
    >>> float(weighted_mean(values, mask=np.array([[True, True], [True, False]])))
    2.0
    """
    weights = None if sample_weight is None else weights_like(values, sample_weight)
    if mask is not None:
        counted = weights_like(values, ops.cast(mask, values.dtype))
        counted = counted + ops.zeros_like(values)  # one for each value
        share = ops.mean(counted)
        counted = counted * ops.where(share > 0, 1 / ops.where(share > 0, share, 1.0), 0.0)
        weights = counted if weights is None else weights * counted
        # What stands where nothing counts may be NaN.
        values = ops.where(counted > 0, values, 0.0)
    return _Mean(name="mean")(values, values, sample_weight=weights)


def weights_like(values: Any, weights: Any) -> Any:
    """Return weights of samples or positions as they apply to `values`: shapes that broadcast.

    Args:
        values: Shape `(batch, ...)`.
        weights: Shape `(batch,)`, `(batch, 1)` or `(batch, ...)` of any number of positions.
    """
    weights = ops.cast(weights, values.dtype)
    rank = len(values.shape)
    if _rank(weights) is None:  # TensorFlow's adapters give weights of unknown rank: of samples.
        weights = ops.mean(ops.reshape(weights, (ops.shape(values)[0], -1)), axis=-1)
    while len(weights.shape) > rank and weights.shape[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    if len(weights.shape) == rank:
        for axis in range(1, rank):
            weights = _resized(weights, axis, values.shape[axis])
        return weights
    if len(weights.shape) > 1:
        weights = ops.mean(weights, axis=tuple(range(1, len(weights.shape))))
    return ops.reshape(weights, (-1, *[1] * (rank - 1)))


def _resized(weights: Any, axis: int, size: int | None) -> Any:
    given = weights.shape[axis]
    if size is None or given in (size, 1, None):
        return weights
    return adaptive_average(weights, axis, size)


def _rank(x: Any) -> int | None:
    shape = getattr(x, "shape", None)
    return None if shape is None or getattr(shape, "rank", 0) is None else len(shape)
