"""The batches of a distiller: what the teacher sees, and what the student sees."""

from collections.abc import Collection, Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.data.needs import Needs

TEACHER, STUDENT, TEACHER_OUTPUTS = "teacher", "student", "teacher_outputs"
INDEX, TEACHER_WEIGHT = "index", "teacher_weight"


def is_pair(x: Any) -> bool:
    """Whether `x` holds inputs of both sides, rather than the student's inputs only."""
    return isinstance(x, Mapping) and STUDENT in x and bool({TEACHER, TEACHER_OUTPUTS} & set(x))


def has_teacher_outputs(x: Any) -> bool:
    """Whether `x` holds both sides, with the teacher's outputs in place of all its inputs."""
    return is_pair(x) and TEACHER_OUTPUTS in x and TEACHER not in x


def check_pair(
    x: Any, needs: "Needs | Collection[str]" = ("features",), needs_index: bool = False
) -> None:
    """Raise unless `x` is a dict that a distiller can train on.

    Args:
        x: `{"teacher": ..., "student": ...}`, each side any nested structure of arrays; or
            `{"teacher_outputs": {...}, "student": ...}` if the teacher has run already. It may hold
            `"index"`, the number of each sample, and `"teacher_weight"`, how much the teacher
            counts for each.
        needs: Names that the distiller reads of `"teacher_outputs"`, or a `Needs` for several
            teachers.
        needs_index: Whether a loss needs `"index"`.

    Raises:
        ValueError: If a side is missing or holds no arrays, a key is unknown, or the sides differ
            in their number of samples.

    Example:
    >>> check_pair({"teacher": [1.0], "student": [2.0]})
    >>> check_pair({"student": [2.0]})
    Traceback (most recent call last):
    ...
    ValueError: Training data must be a dict {"teacher": ..., "student": ...} ...
    """
    needs = needs if isinstance(needs, Needs) else Needs({None: frozenset(needs)})
    sides = sorted(set(x) - {INDEX, TEACHER_WEIGHT}) if isinstance(x, Mapping) else None
    if sides not in needs.sides():
        came = f"a dict with the keys {sorted(x)}" if sides is not None else type(x).__name__
        raise ValueError(
            f"Training data must be a dict {needs.form()} with the inputs of both models for the "
            f"same samples. Received: {came}."
        )
    if needs_index and INDEX not in x:
        raise ValueError(
            'A loss keeps a memory of each sample: add `"index": numpy.arange(samples)` to the '
            f"training data. Received: a dict with the keys {sorted(x)}."
        )
    check_samples(x)
    needs.check_weight(x)
    if TEACHER in x:
        needs.check_inputs(x[TEACHER])
    if TEACHER_OUTPUTS in x or needs.has_names:
        needs.check_outputs(x.get(TEACHER_OUTPUTS, {}), x.get(TEACHER))


def check_samples(x: Mapping[str, Any]) -> None:
    """Raise unless all arrays of all sides have the same number of samples, where it is known.

    Args:
        x: The inputs by the name of the side, each any nested structure of arrays.

    Raises:
        ValueError: If the numbers differ, or a side holds anything but arrays.

    Example:
    >>> import numpy as np
    >>> check_samples({"teacher": np.ones((3, 2)), "student": np.ones((4, 2))})
    Traceback (most recent call last):
    ...
    ValueError: ... the same samples ... Received: teacher 3, student 4 samples.
    """
    found: dict[str, set[int]] = {}
    for side, inputs in x.items():
        leaves = keras.tree.flatten(inputs)
        if not leaves or any(leaf is None or isinstance(leaf, (str, bytes)) for leaf in leaves):
            raise ValueError(f"The inputs of {side!r} must be arrays. Received: {side} {inputs!r}.")
        found[side] = {size for leaf in leaves if (size := _samples(leaf)) is not None}
    if len(set().union(*found.values())) > 1:
        came = ", ".join(
            f"{side} {' and '.join(map(str, sorted(sizes)))}" for side, sizes in found.items()
        )
        raise ValueError(
            "All sides must hold the same samples in the same order, one row for each. "
            f"Received: {came} samples."
        )


def _samples(leaf: Any) -> int | None:
    """Return the size of the batch axis, `None` if it is unknown."""
    shape = getattr(leaf, "shape", None)
    if shape is None or getattr(shape, "rank", 0) is None:  # TensorFlow may not know the rank.
        return None
    return shape[0] if len(shape) else None


def with_samples_of(student: Any, outputs: Any) -> Any:
    """Return the teacher's outputs, or NaN if their number of rows is not that of `student`.

    If the batch size is known, `check_samples` raises before. TensorFlow may only learn it inside
    the step, where it would compare a single row with all, and where XLA drops assertions.
    """
    first = keras.tree.flatten(student)[0]
    if first.shape[0] is not None:
        return outputs

    def same(leaf: Any) -> Any:
        if keras.backend.standardize_dtype(leaf.dtype) == "bool":
            return leaf  # A mask has no effect by itself.
        equal = ops.equal(ops.shape(leaf)[0], ops.shape(first)[0])
        return leaf + ops.cast(ops.where(equal, 0.0, float("nan")), leaf.dtype)

    return keras.tree.map_structure(same, outputs)
