"""The mean of a loss over the samples and positions that count."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.numerics import adaptive_average


class _Mean(keras.losses.Loss):
    """Keras's reduction, with the scale that distribution strategies need."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def weighted_mean(
    values: Any, sample_weight: Any = None, mask: Any = None, valid: Any = None
) -> Any:
    """Return the mean of `values * sample_weight` over what is not masked, as Keras's losses do.

    Args:
        values: Losses of samples, shape `(batch,)`, or of their positions, `(batch, ...)`.
        sample_weight: Shape `(batch,)` or `(batch, ...)`, or `None`. Weights of positions are
            averaged where there is one value per sample, over the positions that are not masked,
            or where there are fewer positions.
        mask: Boolean, of the same shapes, or `None`: masked values (false) count neither in the sum
            nor in the number of values. With one value per sample, the samples without any position
            are masked.
        valid: 0 to 1, of the same shapes, or `None`: the same, but with one value per sample, or
            with fewer positions, each value counts by the mean over its positions.

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
    weights = masked_weights(values, sample_weight, mask, valid)
    for one in (mask, valid):
        if one is not None:  # What stands where nothing counts may be NaN.
            values = ops.where(counts(values, one) > 0, values, 0.0)
    return _Mean(name="mean")(values, values, sample_weight=weights)


def counted_positions(teacher: Any, student: Any, mask: Any, valid: Any) -> Any:
    """Return the positions that have a part in statistics, boolean, or `None` for all.

    Args:
        teacher: What is compared of the teacher.
        student: The same of the student.
        mask: See `weighted_mean`.
        valid: See `weighted_mean`. It matters here if both sides have the same positions, as many
            as it has or fewer.
    """
    if valid is None or len(valid.shape) < 2:
        return mask
    shapes = [tuple(getattr(side, "shape", ()))[1:-1] for side in (teacher, student)]
    if shapes[0] != shapes[1] or len(shapes[0]) != len(valid.shape) - 1:
        return mask
    there = counts(teacher[..., 0], valid) > 0
    return there if mask is None else ops.logical_and(there, counts(teacher[..., 0], mask) > 0)


def divides(loss: Any) -> bool:
    """Whether a Keras loss divides by the number of all values, weighted or not."""
    return getattr(loss, "reduction", None) not in ("sum", "mean_with_sample_weight")


def masked_weights(
    values: Any, sample_weight: Any, *masks: Any, base: Any = None, is_mean: bool = True
) -> Any:
    """Return weights that turn a mean over all `values` into one over what is not masked.

    Args:
        values: See `weighted_mean`.
        sample_weight: See `weighted_mean`.
        *masks: See `weighted_mean`; each may be `None`. A value counts unless one of them masks it.
        base: A mask too: the values that the mean is taken over in any case. Defaults to `None`:
            all.
        is_mean: Whether it is a mean at all. Of a sum, what is masked is only left out.
    """
    given = [mask for mask in masks if mask is not None]
    if len(values.shape) == 1:
        # What is masked has no part in a sample's mean weight either.
        there = next((mask for mask in given if _is_bool(mask) and len(mask.shape) > 1), None)
        sample_weight = mean_over(sample_weight, there)
        given = [mask if _is_bool(mask) else mean_over(mask, there) for mask in given]
    weights = None if sample_weight is None else weights_like(values, sample_weight)
    found = [counts(values, mask) for mask in given]
    if not found:
        return weights
    counted = math.prod(found[1:], start=found[0])
    if not is_mean:
        return counted if weights is None else weights * counted
    if base is None:
        share = ops.mean(counted)
    else:
        base = counts(values, base)
        share = ops.sum(counted * base) / ops.maximum(ops.sum(base), 1e-12)
    # The inner `where` keeps a division by 0 out of both branches.
    counted = counted * ops.where(share > 0, 1 / ops.where(share > 0, share, 1.0), 0.0)
    return counted if weights is None else weights * counted


def mean_over(weight: Any, mask: Any) -> Any:
    """Return the mean weight of each sample over the positions that are not masked.

    Args:
        weight: Shape `(batch, ...)`, or `None`. Without positions it is returned as it is.
        mask: Boolean, shape `(batch, ...)`, or `None`: then the weight is returned as it is.

    Example:
    >>> import numpy as np
    >>> weight, mask = np.array([[1.0, 3.0, 9.0]], "float32"), np.array([[True, True, False]])
    >>> ops.convert_to_numpy(mean_over(weight, mask)).tolist()
    [2.0]
    """
    if weight is None or mask is None or not (_rank(weight) or 0) == len(mask.shape) > 1:
        return weight
    weight = ops.convert_to_tensor(weight)
    there = weights_like(weight, mask) + ops.zeros_like(weight)
    axes = tuple(range(1, len(weight.shape)))
    return ops.sum(weight * there, axis=axes) / ops.maximum(ops.sum(there, axis=axes), 1e-12)


def counts(values: Any, mask: Any) -> Any:
    """Return how much of what each value stands for is not masked, from 0 to 1."""
    if len(values.shape) == 1 and _is_bool(mask):
        mask = samples_of(mask)
    counted = weights_like(values, ops.cast(mask, values.dtype))
    return counted + ops.zeros_like(values)  # one for each value


def samples_of(mask: Any) -> Any:
    """Return which samples have a valid position, shape `(batch,)`."""
    if len(mask.shape) < 2:
        return mask
    return ops.any(mask, axis=tuple(range(1, len(mask.shape))))


def weights_like(values: Any, weights: Any) -> Any:
    """Return weights of samples or positions as they apply to `values`: shapes that broadcast.

    Args:
        values: Shape `(batch, ...)`.
        weights: Shape `(batch,)`, `(batch, 1)` or `(batch, ...)` of any number of positions.
    """
    weights = ops.cast(weights, values.dtype)
    rank = len(values.shape)
    if _rank(weights) is None:  # TensorFlow's data adapters lose the rank of sample weights.
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


def _is_bool(x: Any) -> bool:
    return keras.backend.standardize_dtype(x.dtype) == "bool"


def _rank(x: Any) -> int | None:
    shape = getattr(x, "shape", None)
    return None if shape is None or getattr(shape, "rank", 0) is None else len(shape)
