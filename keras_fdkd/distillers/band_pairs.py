"""The pairs of features of a distiller: where they are read, and what they consist of."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_fdkd.arguments import check_number
from keras_fdkd.distillers.band_pair import BandPair
from keras_fdkd.distillers.checks import check_feature
from keras_fdkd.distillers.masks import masks_of
from keras_fdkd.features import FEATURES
from keras_fdkd.layers import BandClassifier
from keras_fdkd.layers.axes import axes_of
from keras_fdkd.losses.frequency_distillation import FrequencyDistillation
from keras_fdkd.losses.student_adapter import resolve_projector


def feature_keys(count: int) -> list[str]:
    """Return the names under which the features of pairs are read."""
    return [FEATURES] if count == 1 else [f"{FEATURES}_{n + 1}" for n in range(count)]


def ends_of(count: int) -> list[str]:
    """Return the endings of the log names of each pair."""
    return [""] if count == 1 else [f"_{n + 1}" for n in range(count)]


def as_pairs(teacher: Any, student: Any, names: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Return where each pair of features is read in the teacher and in the student.

    Args:
        teacher: A place, or a list of places.
        student: The same. A single place is paired with each place of the other side.
        names: Names of the teachers, if there are several.

    Raises:
        ValueError: If the lists differ in length, or are empty.
    """
    if teacher is None and names:  # Each teacher's own default.
        teacher = list(names) if len(names) > 1 else names[0]
    places = [list(one) if isinstance(one, (list, tuple)) else [one] for one in (teacher, student)]
    most = max(map(len, places))
    if min(map(len, places)) == 0 or any(len(one) not in (1, most) for one in places):
        raise ValueError(
            "`teacher_features` and `student_features` must be lists of one length, a pair for "
            "each entry, or one of them a single feature. "
            f"Received: teacher_features={teacher!r}, student_features={student!r}."
        )
    first, second = (one * most if len(one) == 1 else one for one in places)
    return first, second


def make_pairs(
    frequencies: Sequence[FrequencyDistillation],
    specs: tuple[Mapping[str, Any], Mapping[str, Any]],
    projector: Any,
    pair_weights: Any,
    heads: Mapping[str, keras.KerasTensor],
) -> list[BandPair]:
    """Return the pairs, each with its own projector and classifiers.

    Args:
        frequencies: For each pair, what splits and compares.
        specs: Symbolic outputs of teacher and student, as they are compared.
        projector: For all pairs, or a list with one for each.
        pair_weights: List of numbers > 0, or `None`: all 1.
        heads: For each kind of heads, the student's predictions, whose loss the heads use.

    Raises:
        ValueError: If a list has another length, or features do not fit.
    """
    count = len(frequencies)
    projectors = projector if isinstance(projector, (list, tuple)) else [projector] * count
    _check_lists(pair_weights, projectors, count)
    return [
        _pair(*one, specs, heads)
        for one in zip(
            range(count),
            feature_keys(count),
            frequencies,
            projectors,
            pair_weights or [1.0] * count,
            strict=True,
        )
    ]


def _check_lists(pair_weights: Any, projectors: Any, count: int) -> None:
    for name, given in (("pair_weights", pair_weights), ("projector", projectors)):
        if given is not None and (not isinstance(given, (list, tuple)) or len(given) != count):
            raise ValueError(
                f"`{name}` must have one entry for each of the {count} pairs of features. "
                f"Received: {name}={given!r}."
            )
    layers = [id(one) for one in projectors if isinstance(one, keras.Layer)]
    if len(set(layers)) < len(layers):
        raise ValueError(
            "Each pair of features needs a projector of its own. Received: one layer twice, "
            f"projector={projectors!r}."
        )
    for weight in pair_weights or ():
        check_number("pair_weights", weight, above=True)


def _pair(
    number: int,
    key: str,
    frequency: FrequencyDistillation,
    projector: Any,
    weight: float,
    specs: tuple[Mapping[str, Any], Mapping[str, Any]],
    heads: Mapping[str, keras.KerasTensor],
) -> BandPair:
    teacher, student = (spec[key] for spec in specs)
    check_feature(teacher, frequency.axis, "teacher")
    masks = masks_of(([key], [key]), *specs)
    is_masked = any(mask is not None for mask in masks)
    if is_masked:
        frequency.check_masked(tuple(teacher.shape))
    positions = teacher.shape[1:-1]
    # Where sizes are unknown, the masks of both sides may be about different steps.
    known = None not in positions or not is_masked
    projector = resolve_projector(projector, teacher, student)
    frequency.split(teacher)  # Raises for a cutoff that leaves a band empty.
    end = f"_{number + 1}" if number else ""
    made = {
        kind: {band: _head(f"{kind}{end}_{band}", predictions, teacher) for band in frequency.bands}
        for kind, predictions in heads.items()
    }
    made = {"align": {}, "band_task": {}, **made}
    is_aligned = known and positions == student.shape[1:-1]
    if masks[1] is not None and known and not is_aligned:
        _check_steps(projector, teacher, student)
    along_channels = axes_of(frequency.axis, teacher.shape) == (len(teacher.shape) - 1,)
    moves_steps = is_masked and not (along_channels and is_aligned)
    return BandPair(
        (key, key), frequency, projector, made, weight, is_masked, is_aligned, moves_steps
    )


def _check_steps(projector: Any, teacher: keras.KerasTensor, student: keras.KerasTensor) -> None:
    """Raise if a projector makes other steps of a masked sequence than its mask is about."""
    if not getattr(projector, "resamples_steps", False):
        raise ValueError(
            "The student's feature carries a Keras mask, and `projector` changes the number of "
            "steps, so nothing tells which of them are padding. Pass `projector='auto'`, which "
            "resamples the valid steps, or `time_steps=`. "
            f"Received: projector={projector!r}, teacher {tuple(teacher.shape)}, student "
            f"{tuple(student.shape)}."
        )


def _head(name: str, predictions: keras.KerasTensor, feature: keras.KerasTensor) -> BandClassifier:
    positions = tuple(predictions.shape[1:-1])
    head = BandClassifier(predictions.shape[-1], positions or None, name=name)
    head.build(feature.shape)
    return head
