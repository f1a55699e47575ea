"""CrossModalLoss: the base of the losses that compare a teacher with a student."""

from typing import Any

import keras

from keras_fdkd.arguments import check_name


class CrossModalLoss(keras.distillation.DistillationLoss):
    """A `keras.distillation.DistillationLoss` that knows labels, sample weights and own layers.

    A subclass returns one value a sample from `call`. Its trainable part, if it has one, is a
    layer that `build_adapter` returns: the distiller runs it inside its own `call` and hands what
    it returns to `call`. Losses without one work in `keras.distillation.Distiller` as well.

    Args:
        teacher_layer_name, student_layer_name: Path of the layer whose output is compared
            (`"backbone/pool"`), a list of paths for losses that compare several; or `None` for
            what `reads` says: the distiller's feature or the predictions.
        name: String; the term appears as `{name}_loss` in the logs.

    Raises:
        ValueError: If a path is neither a string, a list of strings nor `None`, or empty.
    """

    reads = "features"  # or "predictions", which must be logits

    def __init__(
        self,
        *,
        teacher_layer_name: "str | list[str] | None" = None,
        student_layer_name: "str | list[str] | None" = None,
        name: str,
    ) -> None:
        for side, path in (("teacher", teacher_layer_name), ("student", student_layer_name)):
            if not _is_path(path):
                raise ValueError(
                    f"`{side}_layer_name` must be a layer path, a list of them or `None`. "
                    f"Received: {side}_layer_name={path!r}."
                )
        check_name("name", name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self.name = name

    def build_adapter(self, teacher: Any, student: Any) -> keras.Layer | None:
        """Return the built layer `(teacher, student, training) -> (teacher, student)`, or `None`.

        Args:
            teacher: Symbolic output (`keras.KerasTensor`, or a list of them).
            student: The same.
        """
        return None

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuse `keras.distillation.Distiller`, which asks here, if it would not run the layer."""
        if type(self).build_adapter is not CrossModalLoss.build_adapter:
            raise ValueError(
                f"`{type(self).__name__}` trains a layer of its own, which "
                "`keras.distillation.Distiller` does not run: use "
                f"`keras_fdkd.CrossModalDistiller`. Received: {type(self).__name__}."
            )

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Raise `ValueError` unless the outputs (symbolic or not) can be compared."""

    def call(self, teacher: Any, student: Any, y: Any = None) -> Any:
        """Return the loss of each sample, shape `(batch,)`. `y` are labels, `None` if unknown."""
        raise NotImplementedError

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return the scalar loss: the mean over the batch of `call`, times `sample_weight`."""
        values = self.call(teacher_outputs, student_outputs, y)
        # Keras's reduction, with the scale that distribution strategies need.
        return _Mean(name="mean")(values, values, sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CrossModalLoss":
        return cls(**config)


class _Mean(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


def _is_path(path: Any) -> bool:
    if isinstance(path, list):
        return bool(path) and all(item and isinstance(item, str) for item in path)
    return path is None or (isinstance(path, str) and bool(path))


def check_same_shape(loss: CrossModalLoss, teacher: Any, student: Any, axes: slice) -> None:
    """Raise unless the given axes of both outputs agree (unknown sizes agree with any)."""
    shapes = [tuple(value.shape) for value in (teacher, student)]
    pairs = zip(shapes[0][axes], shapes[1][axes], strict=False)
    same_rank = len(shapes[0]) == len(shapes[1])
    if not same_rank or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(
            f"`{type(loss).__name__}` needs teacher and student outputs of the same shape"
            f"{'' if axes == slice(None) else ' along the axes it compares'}. Compare layers of "
            "one size, or give the student a layer that maps its feature to the teacher's size. "
            f"Received: teacher {shapes[0]}, student {shapes[1]}."
        )
