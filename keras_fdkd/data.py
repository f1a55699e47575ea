"""The batches of a distiller: what the teacher sees beside what the student sees."""

from collections.abc import Mapping
from typing import Any

TEACHER, STUDENT, TEACHER_OUTPUTS = "teacher", "student", "teacher_outputs"


def is_pair(x: Any) -> bool:
    """Whether `x` holds inputs of both sides, rather than the student's inputs alone."""
    return isinstance(x, Mapping) and STUDENT in x and bool({TEACHER, TEACHER_OUTPUTS} & set(x))


def check_pair(x: Any) -> None:
    """Raise unless `x` is a dict that a distiller can train on.

    Args:
        x: `{"teacher": ..., "student": ...}`, each side any nested structure of arrays; or
            `{"teacher_outputs": {"features": ...}, "student": ...}` if the teacher has run already.

    Raises:
        ValueError: If a side is missing, or a key is unknown.

    Example:
    >>> check_pair({"teacher": [1.0], "student": [2.0]})
    >>> check_pair({"student": [2.0]})
    Traceback (most recent call last):
    ...
    ValueError: Training data must be a dict {"teacher": ..., "student": ...} ...
    """
    keys = sorted(x) if isinstance(x, Mapping) else None
    if keys not in ([STUDENT, TEACHER], [STUDENT, TEACHER_OUTPUTS]):
        came = f"a dict with the keys {keys}" if keys is not None else type(x).__name__
        raise ValueError(
            'Training data must be a dict {"teacher": ..., "student": ...} with the inputs of both '
            f"models for the same samples. Received: {came}."
        )
