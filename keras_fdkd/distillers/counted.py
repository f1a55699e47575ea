"""Which samples and positions count for the terms of distillation, and how much."""

from typing import Any

import keras
from keras import ops


def counted(y: Any, sample_weight: Any, ignore_class: int | None, size: Any) -> tuple[Any, Any]:
    """Return labels and weights for the terms of distillation.

    Where labels are of positions (frames, pixels, tokens), those that the compiled loss ignores
    count in no term: void pixels, padding. A sample without any label is something else, and
    teaches as a whole: that is what unlabelled pairs are for.

    Args:
        y: Labels of the student's task, or `None`.
        sample_weight: Of samples or positions, or `None`.
        ignore_class: Label that the compiled loss leaves out, or `None`.
        size: Number of samples.

    Returns:
        Labels, -1 for none, and weights of shape `(batch,)` or `(batch, ...)`, or `None`. Weights
        of positions that count are scaled up, so that means are over these alone.

    Example:
    >>> import numpy as np
    >>> labels, weights = counted(np.array([[0, 255], [255, 255]]), None, 255, 2)
    >>> ops.convert_to_numpy(4 * weights / 16 * 12).round().tolist()
    [[4.0, 0.0], [4.0, 4.0]]
    """
    weight = _plain(sample_weight, size)
    if ignore_class is None or y is None or keras.tree.is_nested(y):
        return y, weight
    y = ops.convert_to_tensor(y)
    ignored = ops.equal(y, ops.cast(ignore_class, y.dtype))
    labels = y if ignore_class == -1 else ops.where(ignored, -1, ops.cast(y, "int32"))
    if len(y.shape) > 2 or (len(y.shape) == 2 and y.shape[1] != 1):
        valid = _of_positions(ignored)
        weight = valid if weight is None else _times(weight, valid)
    return labels, weight


def per_sample(weight: Any) -> Any:
    """Return one weight a sample: the mean over its positions."""
    if weight is None or len(weight.shape) < 2:
        return weight
    return ops.mean(weight, axis=tuple(range(1, len(weight.shape))))


def _plain(sample_weight: Any, size: Any) -> Any:
    if sample_weight is None:
        return None
    if keras.tree.is_nested(sample_weight):
        raise ValueError(
            "The terms of distillation take one weight a sample or position. With weights of their "
            "own for several outputs they have none. "
            f"Received: {type(sample_weight).__name__} of sample weights."
        )
    shape = getattr(sample_weight, "shape", None)
    if shape is None or getattr(shape, "rank", 0) is None:
        # TensorFlow's adapters give weights of unknown rank: those of samples.
        return ops.mean(ops.reshape(sample_weight, (size, -1)), axis=-1)
    weight = ops.convert_to_tensor(sample_weight)
    while len(weight.shape) > 1 and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    return weight


def _of_positions(ignored: Any) -> Any:
    if ignored.shape[-1] == 1:
        ignored = ignored[..., 0]
    axes = tuple(range(1, len(ignored.shape)))
    unlabelled = ops.all(ignored, axis=axes, keepdims=True)
    counts = ops.cast(ops.logical_or(ops.logical_not(ignored), unlabelled), "float32")
    return counts / ops.maximum(ops.mean(counts), 1e-12)


def _times(weight: Any, valid: Any) -> Any:
    weight = ops.cast(weight, valid.dtype)
    if len(weight.shape) == 1:
        weight = ops.reshape(weight, (-1, *[1] * (len(valid.shape) - 1)))
    return weight * valid
