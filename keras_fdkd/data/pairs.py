"""The batches of a distiller: what the teacher sees beside what the student sees."""

from collections.abc import Collection, Mapping
from typing import Any

TEACHER, STUDENT, TEACHER_OUTPUTS = "teacher", "student", "teacher_outputs"
INDEX = "index"


def is_pair(x: Any) -> bool:
    """Whether `x` holds inputs of both sides, rather than the student's inputs alone."""
    return isinstance(x, Mapping) and STUDENT in x and bool({TEACHER, TEACHER_OUTPUTS} & set(x))


def check_pair(
    x: Any, teacher_outputs: Collection[str] = ("features",), needs_index: bool = False
) -> None:
    """Raise unless `x` is a dict that a distiller can train on.

    Args:
        x: `{"teacher": ..., "student": ...}`, each side any nested structure of arrays; or
            `{"teacher_outputs": {...}, "student": ...}` if the teacher has run already. It may hold
            `"index"`, the number of each sample.
        teacher_outputs: Names that the distiller reads of `"teacher_outputs"`; the predictions may
            be missing if no loss compares them.
        needs_index: Whether a loss asks for `"index"`.

    Raises:
        ValueError: If a side is missing, or a key is unknown.

    Example:
    >>> check_pair({"teacher": [1.0], "student": [2.0]})
    >>> check_pair({"student": [2.0]})
    Traceback (most recent call last):
    ...
    ValueError: Training data must be a dict {"teacher": ..., "student": ...} ...
    """
    keys = sorted(set(x) - {INDEX}) if isinstance(x, Mapping) else None
    if keys not in ([STUDENT, TEACHER], [STUDENT, TEACHER_OUTPUTS]):
        came = f"a dict with the keys {sorted(x)}" if keys is not None else type(x).__name__
        raise ValueError(
            'Training data must be a dict {"teacher": ..., "student": ...} with the inputs of both '
            f"models for the same samples. Received: {came}."
        )
    if needs_index and INDEX not in x:
        raise ValueError(
            'A loss keeps a memory of each sample: add `"index": numpy.arange(samples)` to the '
            f"training data. Received: a dict with the keys {sorted(x)}."
        )
    if TEACHER_OUTPUTS in x:
        outputs = x[TEACHER_OUTPUTS]
        names = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        missing = sorted(set(teacher_outputs) - set(names))
        if missing or isinstance(names, str):
            raise ValueError(
                f'"teacher_outputs" must be a dict with {sorted(teacher_outputs)}, which the '
                f"distiller reads. Received: {names}."
            )
