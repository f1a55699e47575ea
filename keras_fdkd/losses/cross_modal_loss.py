"""CrossModalLoss: the base of the losses that compare a teacher with a student."""

import functools
import inspect
from typing import Any

import keras

from keras_fdkd.arguments import check_name
from keras_fdkd.losses.reduction import counted_positions, weighted_mean
from keras_fdkd.losses.tunable import number_variable, tunable_names
from keras_fdkd.numerics import mean_per_sample


class CrossModalLoss(keras.distillation.DistillationLoss):
    """Base of the losses that compare a teacher with a student: subclass it for your own loss.

    It is a `keras.distillation.DistillationLoss` that also handles labels, sample weights, masks
    and trainable layers. A subclass returns one value per sample from `call`; one that can tell
    positions (frames, pixels) apart defines `values` instead, so that weights and masks of
    positions reach it. If it has a trainable part, this is a layer that `build_adapter` returns:
    the distiller runs it inside its own `call` and passes its outputs to the loss. Losses without
    such a layer also work in `keras.distillation.Distiller`.

    Once a distiller uses the loss, its arguments are fixed, because a compiled step would not see a
    change. Those that a subclass declares as `keras_fdkd.losses.tunable.Tunable` may still be
    changed at any time, and so may any `keras.Variable` that the loss holds.

    Args:
        teacher_layer_name: Path of the teacher's layer whose output is compared
            (`"backbone/pool"`), a list of paths for losses that compare several layers, or `None`
            for what the class attribute `reads` says: the distiller's feature or the predictions.
            Defaults to `None`.
        student_layer_name: The same for the student. Defaults to `None`.
        name: String; the term appears as `{name}_loss` in the logs.

    Raises:
        ValueError: If a path is empty, or neither a string, a list of strings nor `None`.

    Example:
    >>> class Distance(CrossModalLoss):
    ...     def __init__(self, name="distance", **paths):
    ...         super().__init__(name=name, **paths)
    ...     def values(self, teacher, student, y=None, mask=None):
    ...         return keras.ops.mean(keras.ops.abs(teacher - student), axis=-1)
    >>> teacher, student = keras.ops.ones((2, 3)), keras.ops.zeros((2, 3))
    >>> float(Distance().compute_loss(teacher, student))
    1.0
    """

    reads = "features"  # or "predictions"
    #: The kind of predictions that it takes, `"classes"` (one logit each), `"labels"` (independent,
    #: one logit each), or `None` for anything.
    compares: str | None = None
    #: Whether masked positions can be left out. `None` if a subclass does not say so.
    takes_masks: bool | None = None
    _is_used = False

    def __init__(
        self,
        *,
        teacher_layer_name: "str | list[str] | None" = None,
        student_layer_name: "str | list[str] | None" = None,
        name: str,
    ) -> None:
        for side, path in (("teacher", teacher_layer_name), ("student", student_layer_name)):
            if not _is_path(path):
                raise ValueError(
                    f"`{side}_layer_name` must be a layer path, a list of them or `None`. "
                    f"Received: {side}_layer_name={path!r}."
                )
        check_name("name", name)
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self.name = name

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that may change, while no distiller uses the loss."""
        # Made on demand: a subclass may set a number before it calls `super().__init__`.
        return self.__dict__.setdefault("_numbers", {})

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The variables that hold these numbers, once a distiller uses the loss."""
        return self.__dict__.setdefault("_variables", {})

    def use(self, name: str) -> Any:
        """Return the number `name` to compute with: a tensor inside a distiller, else a number."""
        variable = self.variables.get(name)
        return self.numbers[name] if variable is None else variable.value

    def attach(self) -> list[keras.Variable]:
        """Fix the arguments for use in a distiller, and return the variables it has to track."""
        for name in tunable_names(self):
            if name not in self.variables:
                self.variables[name] = number_variable(f"{self.name}_{name}", self.numbers[name])
        self._is_used = True
        own = [value for value in vars(self).values() if isinstance(value, keras.Variable)]
        return [*self.variables.values(), *own]

    def __setattr__(self, name: str, value: Any) -> None:
        fixed = self._is_used and not name.startswith("_")
        if fixed and name in self.__dict__ and not isinstance(value, keras.Variable):
            may = tunable_names(self)
            raise AttributeError(
                f"A distiller uses this `{type(self).__name__}`, and its compiled step would not "
                f"hear of a new {name!r}: build a new loss and a new distiller. "
                + (f"What may change while training: {may}. " if may else "")
                + f"Received: {name}={value!r}."
            )
        super().__setattr__(name, value)

    def build_adapter(self, teacher: Any, student: Any) -> keras.Layer | None:
        """Return the built layer `(teacher, student, training) -> (teacher, student)`, or `None`.

        Args:
            teacher: Symbolic output (`keras.KerasTensor`, or a list of them).
            student: The same for the student.
        """
        return None

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Refuse `keras.distillation.Distiller`, which calls this, where it skips the layer."""
        if type(self).build_adapter is not CrossModalLoss.build_adapter:
            raise ValueError(
                f"`{type(self).__name__}` trains a layer of its own, which "
                "`keras.distillation.Distiller` does not run: use "
                f"`keras_fdkd.CrossModalDistiller`. Received: {type(self).__name__}."
            )

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Raise `ValueError` unless the outputs (symbolic or real) can be compared."""

    def call(self, teacher: Any, student: Any, y: Any = None) -> Any:
        """Return the loss per sample, shape `(batch,)`.

        `y` are labels, `None` if unknown, -1 for a sample without a label. A `call` that has an
        argument `mask` gets the positions that count, boolean of shape `(batch, ...)`, or `None`
        for all.
        """
        return mean_per_sample(self.values(teacher, student, y))

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        """Return the loss per position, shape `(batch, ...)`; see `call`.

        The values of masked positions are discarded afterwards; `mask` is there for statistics over
        positions.
        """
        raise NotImplementedError

    @classmethod
    def gives_positions(cls) -> bool:
        """Whether the loss comes from `values`, rather than from a `call` that overrides it."""
        first = next(c for c in cls.__mro__ if {"call", "values"} & set(vars(c)))
        return "values" in vars(first) and first is not CrossModalLoss

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        mask: Any = None,
        valid: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return the scalar loss: the mean over all that counts, weighted by `sample_weight`.

        Args:
            teacher_outputs: The teacher's output that is compared.
            student_outputs: The student's output that is compared.
            y: Labels, see `call`.
            sample_weight: Shape `(batch,)` or, for positions, `(batch, ...)`; or `None`.
            mask: Boolean, shape `(batch,)` or `(batch, ...)`: the samples or positions that are
                present on both sides; or `None` for all.
            valid: 0 to 1, of the same shapes: how much each of them counts; or `None` for all.
            **kwargs: Ignored, as `keras.distillation.Distiller` may pass more.
        """
        seen = counted_positions(teacher_outputs, student_outputs, mask, valid)
        if self.gives_positions():
            values = self.values(teacher_outputs, student_outputs, y, seen)
        else:
            masked = {"mask": seen} if takes_argument(type(self).call, "mask") else {}
            values = self.call(teacher_outputs, student_outputs, y, **masked)
        return weighted_mean(values, sample_weight, mask, valid)

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CrossModalLoss":
        return cls(**config)


# Cached, because uncompiled steps ask each time, and `inspect` is slow.
@functools.cache
def takes_argument(function: Any, name: str) -> bool:
    """Whether a function has an argument with this name."""
    return name in inspect.signature(function).parameters


def _is_path(path: Any) -> bool:
    if isinstance(path, list):
        return bool(path) and all(item and isinstance(item, str) for item in path)
    return path is None or (isinstance(path, str) and bool(path))


def check_same_shape(loss: CrossModalLoss, teacher: Any, student: Any, axes: slice) -> None:
    """Raise unless the given axes of both outputs agree (unknown sizes agree with any)."""
    shapes = [tuple(value.shape) for value in (teacher, student)]
    pairs = zip(shapes[0][axes], shapes[1][axes], strict=False)
    same_rank = len(shapes[0]) == len(shapes[1])
    if not same_rank or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(
            f"`{type(loss).__name__}` needs teacher and student outputs of the same shape"
            f"{'' if axes == slice(None) else ' along the axes it compares'}. Compare layers of "
            "one size, or give the student a layer that maps its feature to the teacher's size. "
            f"Received: teacher {shapes[0]}, student {shapes[1]}."
        )
