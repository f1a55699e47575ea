"""Checks and defaults of the distillers' arguments."""

import math
from typing import Any

import keras

from keras_fdkd.layers import FeatureProjector
from keras_fdkd.losses import LogMeanSquaredError

_BAND_LOSSES = {"mse": keras.losses.MeanSquaredError, "log_mse": LogMeanSquaredError}


def check_weights(**weights: Any) -> None:
    """Raise unless each weight is a finite number >= 0 and one of them is positive."""
    for name, weight in weights.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight < 0:
            raise ValueError(f"`{name}` must be a finite number >= 0. Received: {name}={weight!r}.")
    if not any(weights.values()):
        raise ValueError(
            "At least one weight must be positive: with all of them 0 nothing is distilled; train "
            f"the student with its own `fit` instead. Received: {weights}."
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


def resolve_band_loss(loss: Any, name: str) -> keras.losses.Loss:
    """Return the `keras.losses.Loss` that `loss` names or is."""
    if isinstance(loss, str) and loss in _BAND_LOSSES:
        return _BAND_LOSSES[loss]()
    check_loss(loss, name, f"one of {sorted(_BAND_LOSSES)} or ")
    return loss


def check_loss(loss: Any, name: str, others: str = "") -> None:
    """Raise unless `loss` is a `keras.losses.Loss` that reduces to a scalar."""
    if not isinstance(loss, keras.losses.Loss):
        raise ValueError(
            f"`{name}` must be {others}a `keras.losses.Loss`. Received: {name}={loss!r}."
        )
    if loss.reduction in (None, "none"):
        raise ValueError(
            f"`{name}` must reduce to a scalar, by 'sum_over_batch_size' for example. "
            f"Received: reduction={loss.reduction!r}."
        )


def resolve_projector(
    projector: Any, teacher: keras.KerasTensor, student: keras.KerasTensor
) -> keras.Layer | None:
    """Return the built layer that maps the student's feature to the teacher's shape, or None."""
    wanted, came = teacher.shape[1:], student.shape[1:]
    if projector == "auto":
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
