"""What the losses between two outputs share: checks, means, pooling."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape

# For the modules that ask here.
from keras_fdkd.numerics import centered, full_precision

__all__ = [
    "adaptive_average",
    "centered",
    "check_logits",
    "check_map_sizes",
    "check_outputs",
    "full_precision",
    "mean_per_sample",
]


def check_outputs(
    loss: CrossModalLoss, teacher: Any, student: Any, minimum: int, maximum: int | None = None
) -> None:
    """Raise unless both outputs are one tensor whose rank, batch included, is in the range."""
    allowed = f"{minimum}" if minimum == maximum else f"{minimum} to {maximum or 'any number of'}"
    for side, value in (("teacher", teacher), ("student", student)):
        if keras.tree.is_nested(value) or not hasattr(value, "shape"):
            raise ValueError(
                f"`{type(loss).__name__}` compares one tensor of each side. Give "
                f"`{side}_layer_name` the path of one layer, and add one loss for each pair of "
                f"layers. Received: {side} outputs of type {type(value).__name__}."
            )
        rank = len(value.shape)
        if rank < minimum or (maximum is not None and rank > maximum):
            raise ValueError(
                f"`{type(loss).__name__}` needs outputs of {allowed} axes, the batch first and "
                f"channels, features or classes last. Compare another layer, by "
                f"`{side}_layer_name`, or add a layer that reshapes or pools. "
                f"Received: {side} {tuple(value.shape)}."
            )


def check_logits(loss: CrossModalLoss, teacher: Any, student: Any) -> None:
    """Raise unless both are logits of one shape `(batch, ..., classes)` with 2 classes or more."""
    check_outputs(loss, teacher, student, 2)
    classes = teacher.shape[-1], student.shape[-1]
    if len(teacher.shape) == len(student.shape) and None not in classes and len({*classes}) == 2:
        raise ValueError(
            f"`{type(loss).__name__}` needs logits of the same shape, of the same classes in the "
            "same order. Give it the teacher's logits of the student's classes, "
            "`keras.Model(teacher.input, keras.ops.take(teacher.output, classes, axis=-1))`, or "
            "compare features (`PKD`, `FrequencyDistillation`). "
            f"Received: teacher {tuple(teacher.shape)}, student {tuple(student.shape)}."
        )
    check_same_shape(loss, teacher, student, slice(None))
    if student.shape[-1] == 1:
        raise ValueError(
            f"`{type(loss).__name__}` compares distributions over classes and needs one logit a "
            "class, two for a binary task; for one logit there is `BinaryKD`. "
            f"Received: teacher {tuple(teacher.shape)}, student {tuple(student.shape)}."
        )


def check_map_sizes(loss: CrossModalLoss, teacher: Any, student: Any) -> None:
    """Raise if the maps differ in size and a size is unknown."""
    first, second = teacher.shape[1:-1], student.shape[1:-1]
    if first != second and None in (*first, *second):
        raise ValueError(
            f"`{type(loss).__name__}` brings maps to one size and must know both sizes, unless "
            "they are equal. Give the models inputs of fixed size. "
            f"Received: teacher {tuple(teacher.shape)}, student {tuple(student.shape)}."
        )


def mean_per_sample(x: Any) -> Any:
    """Return the mean over all axes but the batch, shape `(batch,)`."""
    axes = tuple(range(1, len(x.shape)))
    return ops.mean(x, axis=axes) if axes else x  # PyTorch takes no axes for all axes.


def adaptive_average(x: Any, axis: int, size: int) -> Any:
    """Average `axis` to `size` bins, which may overlap and, if they are more, repeat values.

    `ops.adaptive_average_pool` of Keras 3.15 gives NaN on JAX for some sizes (10 to 7) and fails on
    TensorFlow.
    """
    given = x.shape[axis]
    bins = np.zeros((given, size), "float32")
    for i in range(size):
        start, stop = i * given // size, -(-(i + 1) * given // size)
        bins[start:stop, i] = 1.0 / (stop - start)
    pooled = ops.matmul(ops.moveaxis(x, axis, -1), ops.convert_to_tensor(bins, dtype=x.dtype))
    return ops.moveaxis(pooled, -1, axis)
