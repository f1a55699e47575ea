"""StudentAdapter: a layer that brings the student's feature to the teacher's shape."""

from typing import Any

import keras

from keras_fdkd.layers import FeatureProjector
from keras_fdkd.losses.cross_modal_loss import takes_argument


class StudentAdapter(keras.layers.Layer):
    """Passes the teacher's feature on unchanged, and the student's through a layer.

    Args:
        regressor: Maps the student's feature to the teacher's shape.
        **kwargs: See `keras.layers.Layer`.
    """

    def __init__(self, regressor: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # The regressor casts its own input.
        self.regressor = regressor

    def built_for(self, teacher: Any, student: Any) -> tuple[Any, Any]:
        """Build the layer for symbolic features, and return its outputs."""
        # Fresh tensors: the call must leave no trace in the models' graphs.
        given = [keras.KerasTensor(tuple(x.shape), dtype="float32") for x in (teacher, student)]
        target, mapped = self(*given)
        return target, mapped

    def call(
        self, teacher: Any, student: Any, training: bool | None = None, valid: Any = None
    ) -> tuple[Any, Any]:
        masked = valid is not None and takes_argument(type(self.regressor).call, "mask")
        # A projector of maps need not know which samples are left out.
        masked = masked and getattr(self.regressor, "resamples_steps", True)
        # Keras passes `training` on by itself.
        return teacher, self.regressor(student, **({"mask": valid} if masked else {}))

    def compute_output_spec(
        self, teacher: Any, student: Any, training: Any = None, valid: Any = None
    ) -> Any:
        return teacher, self.regressor(student)


def check_projector(projector: Any) -> Any:
    """Return a projector unchanged, or raise unless it is "auto", a layer or `None`."""
    named = isinstance(projector, str) and projector == "auto"
    if not (named or projector is None or isinstance(projector, keras.Layer)):
        raise ValueError(
            "`projector` must be 'auto', a `keras.Layer` or `None`. "
            f"Received: projector={projector!r}."
        )
    return projector


def resolve_projector(
    projector: Any, teacher: keras.KerasTensor, student: keras.KerasTensor
) -> keras.Layer | None:
    """Return the built layer that maps the student's feature to the teacher's shape, or None.

    Sizes that are unknown until the models run are assumed to be equal.
    """
    check_projector(projector)
    wanted, came = tuple(teacher.shape[1:]), tuple(student.shape[1:])
    if isinstance(projector, str):
        projector = None
        if came and len(came) == len(wanted):
            # The student cannot be resized to an unknown size.
            sizes = [a if a != b else None for a, b in zip(wanted[:-1], came[:-1], strict=True)]
            differ = sizes if any(sizes) else None
            if differ or wanted[-1] != came[-1]:
                projector = FeatureProjector(wanted[-1], differ, name="projector")
    if projector is not None:
        came = projector(student).shape[1:]  # This builds it too.
    if not _fits(wanted, came):
        raise ValueError(
            "Teacher and student features must have the same shape. Pass `projector=` a layer that "
            "maps the student's onto the teacher's ('auto' does so for features of as many axes), "
            "or tap pooled layers. "
            f"Received: teacher {teacher.shape}, student {student.shape}."
        )
    return projector


def projected(
    name: str, projector: Any, teacher: keras.KerasTensor, student: keras.KerasTensor
) -> StudentAdapter | None:
    """Return the layer of a loss that projects the student's feature, `None` if it needs none."""
    layer = resolve_projector(projector, teacher, student)
    if layer is None:
        return None
    adapter = StudentAdapter(layer, name=name)
    adapter.built_for(teacher, student)
    return adapter


def projector_config(projector: Any) -> Any:
    """Return a projector as JSON."""
    return (
        projector if isinstance(projector, str) else keras.saving.serialize_keras_object(projector)
    )


def _fits(wanted: tuple[int | None, ...], came: tuple[int | None, ...]) -> bool:
    if len(wanted) != len(came):
        return False
    return all(None in (a, b) or a == b for a, b in zip(wanted, came, strict=True))
