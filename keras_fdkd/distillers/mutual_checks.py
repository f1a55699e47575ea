"""Checks of the two distillers of a `MutualDistiller`."""

from collections.abc import Mapping
from typing import Any

from keras_fdkd.distillers.cross_modal import CrossModalDistiller


def check_directions(distillers: Any) -> None:
    """Raise unless these are two distillers by name that can train side by side."""
    if (
        not isinstance(distillers, Mapping)
        or len(distillers) != 2
        or not all(isinstance(name, str) and name for name in distillers)
        or not all(isinstance(inner, CrossModalDistiller) for inner in distillers.values())
    ):
        raise ValueError(
            "`distillers` must be a dict with two entries, each the name of a modality and the "
            "`CrossModalDistiller` whose student sees it. "
            f"Received: distillers={distillers!r}."
        )
    for name, inner in distillers.items():
        if inner._loss_terms.needs_index:
            raise ValueError(
                "A loss that keeps a memory of each sample needs their numbers, which "
                "`MutualDistiller` does not hand on. Train the directions one by one. "
                f"Received: such a loss in {name!r}."
            )
    first, second = distillers.values()
    for inner, other in ((first, second), (second, first)):
        teachers = {id(variable) for variable in inner.teacher.variables}
        ids = {id(variable) for variable in other.variables} - teachers
        shared = [variable.path for variable in inner.variables if id(variable) in ids]
        if shared:
            raise ValueError(
                "The two distillers must not share variables: a student that is also the teacher "
                "or the student of the other one would be frozen, or trained twice. Build one of "
                f"them anew, or use `keras.models.clone_model`. Received shared: {shared}."
            )
