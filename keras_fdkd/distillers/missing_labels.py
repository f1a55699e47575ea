"""Samples without labels, where labels are values or independent: NaN."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.distillers.presence import times
from keras_fdkd.distillers.task import kind_of_task, loss_of_output


def takes_missing(loss: Any, metrics: Any) -> bool:
    """Whether NaN may stand for the labels that a sample lacks.

    Args:
        loss: As compiled: the loss of a single output, of values or of independent labels.
        metrics: As compiled. They know no weights, and would count what is not there.
    """
    kind = kind_of_task(loss_of_output(loss, None))
    return kind in ("values", "labels") and not keras.tree.flatten(metrics or [])


def labelled(y: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Return labels without NaN, and weights with which the task counts labelled samples alone.

    Args:
        y: Labels, shape `(batch, ...)`, or `None`.
        sample_weight: Of samples or positions, or `None`.

    Returns:
        Labels, 0 where there are none, and weights: a mean over all samples is then one over those
        with labels.

    Example:
    >>> import numpy as np
    >>> y, weights = labelled(np.array([[1.0], [np.nan]], "float32"), None)
    >>> ops.convert_to_numpy(y).ravel().tolist(), ops.convert_to_numpy(weights).tolist()
    ([1.0, 0.0], [2.0, 0.0])
    """
    if y is None or keras.tree.is_nested(y):
        return y, sample_weight
    y = ops.convert_to_tensor(y)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(y.dtype)):
        return y, sample_weight
    nothing = ops.isnan(y)
    if len(y.shape) > 1:  # Where only some are missing NaN stays, and shows.
        nothing = ops.all(nothing, axis=tuple(range(1, len(y.shape))), keepdims=True)
    there = 1.0 - ops.cast(ops.reshape(nothing, (-1,)), "float32")
    share = ops.mean(there)
    weights = there / ops.where(share > 0, share, 1.0)
    if len(y.shape) > 2:  # Keras's masks of positions meet weights of positions alone.
        ones = ops.ones_like(y[..., 0], dtype="float32")
        weights = ones * ops.reshape(weights, (-1, *[1] * (len(ones.shape) - 1)))
    return ops.where(nothing, ops.zeros_like(y), y), times(sample_weight, weights)
