"""Checks that the losses between two outputs share."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape


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


def same_positions(loss: CrossModalLoss, teacher: Any, student: Any) -> tuple[Any, Any]:
    """Return both outputs if their shapes agree, where these are known by now.

    TensorFlow may only learn sizes inside the step. If they differ there, the teacher's output
    becomes NaN: otherwise a single position would be compared with all.

    Raises:
        ValueError: If sizes that are known differ.
    """
    check_same_shape(loss, teacher, student, slice(None))
    for axis in range(1, len(teacher.shape)):
        if None in (teacher.shape[axis], student.shape[axis]):
            equal = ops.equal(ops.shape(teacher)[axis], ops.shape(student)[axis])
            teacher = teacher + ops.cast(ops.where(equal, 0.0, float("nan")), teacher.dtype)
    return teacher, student


def check_logits(loss: CrossModalLoss, teacher: Any, student: Any) -> None:
    """Raise unless both are logits of one shape `(batch, ..., classes)` with 2 classes or more."""
    check_outputs(loss, teacher, student, 2)
    classes = teacher.shape[-1], student.shape[-1]
    if len(teacher.shape) == len(student.shape) and None not in classes and len({*classes}) == 2:
        raise ValueError(
            f"`{type(loss).__name__}` needs logits of the same shape, of the same classes in the "
            "same order. Give it the teacher's logits of the student's classes, `keras.Model("
            "teacher.inputs, keras.ops.take(teacher.outputs[0], classes, axis=-1))`, or "
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
