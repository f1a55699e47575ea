"""ChosenOutput: of models with several outputs, the one that the distillation terms use."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.data.pairs import STUDENT, TEACHER
from keras_fdkd.distillers.task import loss_of_output
from keras_fdkd.features import PREDICTIONS, FeatureTap


class ChosenOutput:
    """Picks one output of the student, and of a teacher that has an output with this name.

    Args:
        name: Name of the output, or `None` for the only one with the shape of the teacher's.
        student: The student's tap.
        teacher_spec: Symbolic outputs of the teacher.
        teacher_model: The teacher, if it is one model.

    Attributes:
        name: The name, or `None` if there is one output, or none fits.

    Raises:
        ValueError: If the student has no such output.
    """

    def __init__(
        self,
        name: str | None,
        student: FeatureTap,
        teacher_spec: Mapping[str, Any],
        teacher_model: Any = None,
    ) -> None:
        predictions = student.spec[PREDICTIONS]
        self._names = names_of(student.model, predictions)
        self._teacher_names = names_of(teacher_model, teacher_spec.get(PREDICTIONS))
        if name is not None and name not in self._names:
            raise ValueError(
                "`task_output` must name one of several outputs of the student, "
                f"{list(self._names) or 'which has one'}. Received: task_output={name!r}."
            )
        self.given = name
        self.name = name
        if name is None and self._names:
            wanted = teacher_spec.get(PREDICTIONS)
            fits = [
                one
                for one in self._names
                if _shape(_pick(predictions, one, self._names))
                == _shape(_pick(wanted, one, self._teacher_names))
            ]
            self.name = fits[0] if len(fits) == 1 else None

    def outputs(self, outputs: Mapping[str, Any], of_teacher: bool = False) -> dict[str, Any]:
        """Return the outputs of a tap, with the chosen output as its predictions."""
        names = self._teacher_names if of_teacher else self._names
        if self.name is None or PREDICTIONS not in outputs:
            return dict(outputs)
        if names and self.name not in names:  # A loss that compares them will say so.
            return dict(outputs)
        return {**outputs, PREDICTIONS: _pick(outputs[PREDICTIONS], self.name, names)}

    def labels(self, y: Any) -> Any:
        """Return the labels, or weights, of the chosen output."""
        if self.name is not None:
            return _pick(y, self.name, self._names)
        leaves = keras.tree.flatten(y)
        # Keras takes a list or a dict of one for a single output.
        return leaves[0] if len(leaves) == 1 else y

    def loss(self, loss: Any) -> Any:
        """Return the compiled loss of the chosen output."""
        if self.name is not None and not isinstance(loss, Mapping):
            return _pick(loss, self.name, self._names)  # A single loss serves all outputs.
        return loss_of_output(loss, self.name)


def is_vector(teacher: Any, student: keras.Model, name: str | None) -> bool:
    """Whether the output that the terms use is one vector per sample, `(batch, values)`.

    Args:
        teacher: As given to a distiller.
        student: The student.
        name: Name of the output, or `None`, see `ChosenOutput`.
    """
    tap = FeatureTap(student, {}, STUDENT)
    spec: dict[str, Any] = {}
    if keras.tree.is_nested(tap.spec[PREDICTIONS]) and isinstance(teacher, keras.Model):
        spec = FeatureTap(teacher, {}, TEACHER).spec
    chosen = ChosenOutput(name, tap, spec, teacher).outputs(tap.spec)[PREDICTIONS]
    return len(getattr(chosen, "shape", ())) == 2


def _pick(nested: Any, name: str, names: tuple[str, ...]) -> Any:
    if isinstance(nested, Mapping):
        return nested.get(name)
    if isinstance(nested, (list, tuple)) and len(nested) == len(names) and name in names:
        return nested[names.index(name)]
    return nested  # One for all outputs.


def names_of(model: keras.Model, predictions: Any) -> tuple[str, ...]:
    """Return the names of a model's outputs, none if it has one."""
    if isinstance(predictions, Mapping):
        return tuple(predictions)
    if isinstance(predictions, (list, tuple)):
        return tuple(getattr(model, "output_names", None) or map(str, range(len(predictions))))
    return ()


def _shape(output: Any) -> Any:
    return None if keras.tree.is_nested(output) else getattr(output, "shape", None)
