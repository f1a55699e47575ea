"""Checks and defaults of the distillers' arguments."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_number
from keras_fdkd.data import is_pair
from keras_fdkd.layers import FeatureProjector


def check_weights(**weights: Any) -> None:
    """Raise unless each weight is a finite number >= 0 and one of them is positive."""
    for name, weight in weights.items():
        check_number(name, weight)
    if not any(weights.values()):
        raise ValueError(
            f"At least one weight must be positive ({', '.join(f'`{name}`' for name in weights)}): "
            "with all of them 0 nothing is distilled; train the student with its own `fit` "
            f"instead. Received: {weights}."
        )


def check_feature(feature: keras.KerasTensor, axis: int, role: str) -> None:
    """Raise unless `feature` is one tensor of known shape a sample, at least 4 long at `axis`."""
    shape = feature.shape
    if len(shape) < 2 or shape[0] == 1 or None in shape[1:]:
        raise ValueError(
            f"`{role}_features` must give a feature for each sample, shape (batch, ..., dim) with "
            "all but the batch size known; pool it over axes of unknown size. "
            f"Received: {feature.name!r} of shape {shape}."
        )
    if type(axis) is not int or axis == 0 or not -len(shape) < axis < len(shape):
        raise ValueError(
            f"`axis` must be one of the axes 1..{len(shape) - 1} of the feature. "
            f"Received: axis={axis!r} for shape {shape}."
        )
    if shape[axis] < 4:
        raise ValueError(
            f"`{role}_features` must be at least 4 long along the split axis. "
            f"Received: shape {shape}, axis={axis}."
        )


def resolve_projector(
    projector: Any, teacher: keras.KerasTensor, student: keras.KerasTensor
) -> keras.Layer | None:
    """Return the built layer that maps the student's feature to the teacher's shape, or None."""
    wanted, came = teacher.shape[1:], student.shape[1:]
    if isinstance(projector, str) and projector == "auto":
        projector = None
        if came != wanted and came and came[:-1] == wanted[:-1]:
            projector = FeatureProjector(wanted[-1], name="projector")
    elif not (projector is None or isinstance(projector, keras.Layer)):
        raise ValueError(
            "`projector` must be 'auto', a `keras.Layer` or `None`. "
            f"Received: projector={projector!r}."
        )
    if projector is not None:
        came = projector(student).shape[1:]  # This builds it too.
    if came != wanted:
        raise ValueError(
            "Teacher and student features must have the same shape. Pass `projector=` a layer that "
            "maps the student's onto the teacher's ('auto' does so for the last axis), or tap "
            f"pooled layers. Received: teacher {teacher.shape}, student {student.shape}."
        )
    return projector


def check_disjoint(teacher: keras.Model, student: keras.Model) -> None:
    """Raise if the models share a variable."""
    ids = {id(variable) for variable in teacher.variables}
    shared = [variable.path for variable in student.variables if id(variable) in ids]
    if shared:
        raise ValueError(
            "Teacher and student must not share layers: freezing the teacher would freeze the "
            "student's. Build one of them anew, or use `keras.models.clone_model`. "
            f"Received shared variables: {shared}."
        )


def check_input_names(student: keras.Model) -> None:
    """Raise if the student's own dict of inputs looks like a pair."""
    inputs = getattr(student, "input", None)
    if isinstance(inputs, Mapping) and is_pair(inputs):
        raise ValueError(
            'The student\'s inputs must not be named like the sides of a pair, "teacher" and '
            f'"student". Received input names: {sorted(inputs)}.'
        )


def per_sample(sample_weight: Any, size: Any) -> Any:
    """Return one weight a sample, which is what a distillation term can use."""
    if sample_weight is None:
        return None
    if not keras.tree.is_nested(sample_weight):
        # TensorFlow's adapters give weights of unknown rank.
        return ops.mean(ops.reshape(sample_weight, (size, -1)), axis=-1)
    raise ValueError(
        "The terms of distillation take one weight a sample. With weights of their own for several "
        f"outputs they have none. Received: {type(sample_weight).__name__} of sample weights."
    )
