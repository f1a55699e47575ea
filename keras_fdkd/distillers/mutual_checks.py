"""Checks of the two distillers of a `MutualDistiller`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_fdkd.data.pairs import STUDENT, TEACHER, check_samples
from keras_fdkd.distillers.cross_modal import CrossModalDistiller
from keras_fdkd.distillers.data_checks import DataChecks


@dataclass(frozen=True)
class BothChecks:
    """The `DataChecks` of both directions, on batches of both modalities.

    Args:
        of: The checks, by the name of the student's modality.
    """

    of: Mapping[str, DataChecks]

    def structure(self, x: Any, y: Any) -> None:
        """Raise if the modalities are not those of the distillers, or their samples differ."""
        check_modalities(x, self.of)
        for pair, checks in self._pairs(x):
            checks.structure(pair, y)

    def arrays(self, x: Any, y: Any) -> None:
        """Raise if arrays cannot be trained on."""
        self.structure(x, y)
        for pair, checks in self._pairs(x):
            checks.arrays(pair, y)

    def __call__(self, number: int, batch: Any, order: int | None = None) -> Any:
        """Return a batch of a data set, or raise if it is wrong, see `DataChecks`."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if self.is_needed(number if order is None else order):
            self.structure(x, y)
            for pair, checks in self._pairs(x):
                checks(number, (pair, y), order)
        return batch

    def is_needed(self, number: Any) -> Any:
        """Whether a batch of this number is checked."""
        # One stands for both: `check_directions` refuses losses that need an index.
        return next(iter(self.of.values())).is_needed(number)

    def _pairs(self, x: Any) -> list[tuple[dict[str, Any], DataChecks]]:
        # The teacher of a direction sees the modality of the other direction's student.
        others = reversed(list(self.of))
        return [
            ({TEACHER: x[other], STUDENT: x[name]}, checks)
            for (name, checks), other in zip(self.of.items(), others, strict=True)
        ]


def check_modalities(x: Any, names: Collection[str]) -> None:
    """Raise unless `x` is a dict with the inputs of these modalities, for the same samples."""
    if not isinstance(x, Mapping) or set(x) != set(names):
        came = f"keys {sorted(x)}" if isinstance(x, Mapping) else type(x).__name__
        raise ValueError(
            "Data must be a dict with the inputs of both modalities, for the same samples: "
            f"keys {sorted(names)}. Received: {came}."
        )
    check_samples({name: keras.tree.flatten(inputs) for name, inputs in x.items()})


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
        if not isinstance(inner.teacher, keras.Model):
            raise ValueError(
                "In `MutualDistiller` each direction has one teacher that runs on the other "
                "modality's inputs. Train with several or recorded teachers one by one. "
                f"Received: {name!r} with teacher={inner.teacher!r}."
            )
        if inner._loss_terms.indexed:
            raise ValueError(
                "A loss that keeps a memory of each sample needs their numbers, which "
                "`MutualDistiller` does not hand on. Train the directions one by one. "
                f"Received: such a loss in {name!r}."
            )
    first, second = distillers.values()
    # Both ways, so that each student is compared with the teacher of the other direction.
    for inner, other in ((first, second), (second, first)):
        teachers = {id(variable) for variable in inner.teacher.variables}
        ids = {id(variable) for variable in other.variables} - teachers
        shared = [variable.path for variable in inner.variables if id(variable) in ids]
        if shared:
            raise ValueError(
                "The two distillers must not share variables: a student that is also the teacher "
                "or the student of the other one would be frozen, or trained twice. Build one of "
                f"them again, or use `keras.models.clone_model`. Received shared: {shared}."
            )
