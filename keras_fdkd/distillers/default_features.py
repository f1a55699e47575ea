"""Default features of models whose last `Dense` layer may classify or embed."""

from typing import Any

from keras_fdkd.distillers.checks import LEAST
from keras_fdkd.features import PREDICTIONS, FeatureTap


def check_default_features(teacher: Any, student: FeatureTap) -> None:
    """Raise if a default feature is read where no labels say what the last `Dense` layer does.

    Args:
        teacher: The teacher's tap, of one teacher or of several.
        student: The student's tap.
    """
    teachers = getattr(teacher, "taps", {None: teacher}).values()
    taps = [one for one in (*teachers, student) if isinstance(one, FeatureTap)]
    if read := _reads_of_dense(taps):
        raise ValueError(
            "Without a compiled loss nothing says whether the last `Dense` layer classifies or "
            "embeds, so whether its input or its output is the feature. Name the features with "
            "`teacher_features=` and `student_features=`. "
            f"Received: loss=None, and features=None, which read {read}."
        )


def _reads_of_dense(taps: list[FeatureTap]) -> list[str]:
    """Return where default features are read in models whose output could be one as well."""
    outputs: list[Any] = [getattr(tap.spec[PREDICTIONS], "shape", ()) for tap in taps]
    if any(len(shape) != 2 or shape[-1] < LEAST for shape in outputs):
        return []
    return [
        tap.resolved[name]
        for tap in taps
        for name, path in tap.paths.items()
        if path is None and tap.resolved[name].endswith("(input)")
    ]
