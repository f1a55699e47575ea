"""Checks and defaults of the distillers' arguments."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras

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


def check_input_names(student: keras.Model) -> None:
    """Raise if the student's own dict of inputs looks like a pair."""
    inputs = getattr(student, "input", None)
    if isinstance(inputs, Mapping) and is_pair(inputs):
        raise ValueError(
            'The student\'s inputs must not be named like the sides of a pair, "teacher" and '
            f'"student". Received input names: {sorted(inputs)}.'
        )


def check_names(
    terms: Collection[str], outputs: Sequence[str] | None, metrics: Sequence[Any]
) -> None:
    """Raise if a metric, or the loss of an output, has the name of a term: one would vanish.

    Args:
        terms: Names of the terms in the logs.
        outputs: Names of the student's outputs, if there are several.
        metrics: What `compile` got as `metrics` and `weighted_metrics`, nested.
    """
    names = [_metric_name(metric) for metric in keras.tree.flatten(metrics)]
    candidates = set(names) | {f"{output}_loss" for output in outputs or ()}
    candidates |= {f"{output}_{name}" for output in outputs or () for name in names}
    if taken := sorted(candidates & set(terms)):
        raise ValueError(
            "A metric or an output has the name of a term of distillation in the logs, where one "
            "would hide the other: rename it. "
            f"Received: {taken}, beside the terms {sorted(terms)}."
        )


def _metric_name(metric: Any) -> str:
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", None) or metric)


@contextlib.contextmanager
def policy_of(model: keras.Model) -> Iterator[None]:
    """Make layers under the dtype policy of `model`, whatever the global one is by now."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(model.dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
