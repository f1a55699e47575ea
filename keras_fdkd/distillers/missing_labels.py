"""Samples without labels, marked by NaN, for values and independent labels."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.distillers.counted import plain_weight
from keras_fdkd.distillers.presence import times
from keras_fdkd.distillers.task import kind_of_task, loss_of_output


def takes_missing(loss: Any, metrics: Any, predictions: Any) -> bool:
    """Whether NaN may stand for the missing labels of a sample.

    Args:
        loss: As compiled: the loss of a single output, for values or for independent labels.
        metrics: As compiled. They take no weights, and would count missing labels.
        predictions: Of the student: one output.
    """
    if keras.tree.is_nested(predictions):
        return False
    kind = kind_of_task(loss_of_output(loss, None))
    return kind in ("values", "labels") and not keras.tree.flatten(metrics or [])


def labelled(y: Any) -> tuple[Any, Any]:
    """Return labels without NaN, and which samples have labels.

    Args:
        y: Labels, shape `(batch, ...)`, or `None`.

    Returns:
        Labels, 0 where a sample has none, and 0 or 1 for each sample; `None` if all have some.

    Example:
    >>> import numpy as np
    >>> y, there = labelled(np.array([[1.0], [np.nan]], "float32"))
    >>> ops.convert_to_numpy(y).ravel().tolist(), ops.convert_to_numpy(there).tolist()
    ([1.0, 0.0], [1.0, 0.0])
    """
    leaves = keras.tree.flatten(y)
    if len(leaves) != 1 or leaves[0] is None:
        return y, None
    leaf = ops.convert_to_tensor(leaves[0])
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(leaf.dtype)):
        return y, None
    nothing = ops.isnan(leaf)
    if len(leaf.shape) > 1:  # If only some labels are missing, NaN stays and is noticed.
        nothing = ops.all(nothing, axis=tuple(range(1, len(leaf.shape))), keepdims=True)
    clean = ops.where(nothing, ops.zeros_like(leaf), leaf)
    there = 1.0 - ops.cast(ops.reshape(nothing, (-1,)), "float32")
    return keras.tree.pack_sequence_as(y, [clean]) if keras.tree.is_nested(y) else clean, there


def of_labelled(sample_weight: Any, there: Any, y: Any, is_mean: bool) -> Any:
    """Return weights with which only labelled samples count.

    Args:
        sample_weight: Of samples or positions, or `None`.
        there: Which samples have labels, or `None`: all.
        y: Labels.
        is_mean: Whether the weighted loss divides by the number of all samples.
    """
    if there is None:
        return sample_weight
    # The loss divides by the number of all samples, so those with labels have to weigh more.
    share = ops.mean(there) if is_mean else 1.0
    weights = there / ops.where(share > 0, share, 1.0) if is_mean else there
    leaf = keras.tree.flatten(y)[0]
    if len(leaf.shape) > 2:  # Keras's masks of positions work with weights of positions only.
        ones = ops.ones_like(leaf[..., 0], dtype="float32")
        weights = ones * ops.reshape(weights, (-1, *[1] * (len(ones.shape) - 1)))
    if sample_weight is not None and not keras.tree.is_nested(sample_weight):
        sample_weight = plain_weight(sample_weight, ops.shape(leaf)[0])
    return times(sample_weight, weights)
