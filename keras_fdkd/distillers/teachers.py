"""The teacher of a distiller: what it is asked, what it gives, and how it is told apart."""

from collections.abc import Mapping
from typing import Any, NoReturn

import keras

from keras_fdkd.distillers.teacher_pass import teacher_pass
from keras_fdkd.features import PREDICTIONS, FeatureTap
from keras_fdkd.fingerprints import fingerprint

_INPUTS = "inputs"


class FrozenTeacher:
    """A model that runs in inference mode, outside differentiation, and is changed by nothing.

    Args:
        model: Built `keras.Model`.
        reads: What the losses read of it, names with paths, see `keras_fdkd.features.FeatureTap`.
    """

    is_frozen = True

    def __init__(self, model: keras.Model, reads: Mapping[str, Any]) -> None:
        self.model = model
        paths = {name: path for name, path in reads.items() if name != PREDICTIONS}
        self.tap = FeatureTap(model, paths, "teacher")
        self.masks = {f"{name}_mask" for name in reads} & set(self.tap.spec)
        self.reads = set(reads) | self.masks
        self._held_fingerprint: str | None = None
        self._holds = False

    def before_step(self, inputs: Any, variables: list, values: list | None, step: Any) -> Any:
        """Return what goes into the batch in place of the teacher's inputs.

        Args:
            inputs: The teacher's inputs.
            variables: See `teacher_pass`.
            values: See `teacher_pass`.
            step: See `teacher_pass`.
        """
        seeds = [v for v in self.model.variables if v.name == "seed_generator_state"]
        return teacher_pass(self.tap, inputs, variables, values, seeds, step)

    def in_call(self, outputs: Any, training: bool) -> dict[str, Any]:
        """Return what the losses read, from what `before_step` or the data gave."""
        return outputs

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights; while `fit` runs, it is computed once."""
        if self._held_fingerprint is not None:
            return self._held_fingerprint
        found = fingerprint(self.model)
        if self._holds:
            self._held_fingerprint = found
        return found

    def hold(self, while_fit_runs: bool) -> None:
        """Say whether `fit` runs, in which the weights cannot change."""
        self._holds = while_fit_runs
        self._held_fingerprint = None


class TrainedTeacher(FrozenTeacher):
    """A model that is trained along: it runs inside the distiller's `call`, with gradients."""

    is_frozen = False

    def before_step(self, inputs: Any, variables: list, values: list | None, step: Any) -> Any:
        return {_INPUTS: inputs}

    def in_call(self, outputs: Any, training: bool) -> dict[str, Any]:
        if not isinstance(outputs, Mapping) or set(outputs) != {_INPUTS}:
            refuse_outputs()
        return self.tap(outputs[_INPUTS], training=training)


def refuse_outputs() -> NoReturn:
    """Raise, because the outputs of a teacher that trains change with each step."""
    raise ValueError(
        "This distiller trains the teacher, so its outputs cannot be computed once: "
        'pass its inputs, as {"teacher": ..., "student": ...}. Received: "teacher_outputs".'
    )
