"""Which samples and positions count for the terms of distillation, and how much."""

from typing import Any, NamedTuple

import keras
from keras import ops


class Counted(NamedTuple):
    """What counts for the terms of distillation.

    Attributes:
        labels: Labels, -1 where there is none.
        weight: `sample_weight`, shape `(batch,)` or `(batch, ...)`, or `None`.
        valid: 0 or 1 for each position, shape `(batch, ...)`, or `None`: all count.
        labelled: Where there are labels, in the shape of the labels, or `None`: everywhere.
    """

    labels: Any
    weight: Any
    valid: Any
    labelled: Any


def counted(y: Any, sample_weight: Any, ignore_class: int | None, size: Any) -> Counted:
    """Return labels, weights and validity for the terms of distillation.

    If there are labels of positions (frames, pixels, tokens), positions that the compiled loss
    ignores, such as void pixels and padding, count in no term. A sample without any label is
    different: all of it counts, because unlabelled pairs are there to be learned from.

    Args:
        y: Labels of the student's task, or `None`.
        sample_weight: Of samples or positions, or `None`.
        ignore_class: Label that the compiled loss leaves out, or `None`.
        size: Number of samples.

    Example:
    >>> import numpy as np
    >>> found = counted(np.array([[0, 255], [255, 255]]), None, 255, 2)
    >>> ops.convert_to_numpy(found.valid).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    weight = plain_weight(sample_weight, size)
    if ignore_class is None or y is None or keras.tree.is_nested(y):
        return Counted(y, weight, None, None)
    y = ops.convert_to_tensor(y)
    ignored = ops.equal(y, ops.cast(ignore_class, y.dtype))
    # Losses know a missing label by -1, whichever class the compiled loss leaves out.
    labels = y if ignore_class == -1 else ops.where(ignored, -1, ops.cast(y, "int32"))
    if len(ignored.shape) > 1 and ignored.shape[-1] == 1:
        ignored = ignored[..., 0]
    valid = _of_positions(ignored) if len(ignored.shape) > 1 else None
    return Counted(labels, weight, valid, ops.cast(ops.logical_not(ignored), "float32"))


def per_sample(weight: Any) -> Any:
    """Return one weight per sample: the mean over its positions."""
    if weight is None or len(weight.shape) < 2:
        return weight
    return ops.mean(weight, axis=tuple(range(1, len(weight.shape))))


def plain_weight(sample_weight: Any, size: Any) -> Any:
    """Return weights as floats, with a known rank, without axes of size 1 at the end."""
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
        # TensorFlow's data adapters lose the rank of sample weights.
        return ops.mean(ops.reshape(ops.cast(sample_weight, "float32"), (size, -1)), axis=-1)
    weight = ops.cast(sample_weight, "float32")  # Others' weights would become integers too.
    while len(weight.shape) > 1 and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    return weight


def _of_positions(ignored: Any) -> Any:
    unlabelled = ops.all(ignored, axis=tuple(range(1, len(ignored.shape))), keepdims=True)
    return ops.cast(ops.logical_or(ops.logical_not(ignored), unlabelled), "float32")
