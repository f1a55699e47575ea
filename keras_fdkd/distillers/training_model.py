"""TrainingModel: a model that trains parts of itself beside teachers, and survives errors."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_fdkd.distillers.resumable import Resumable
from keras_fdkd.running import place_of_steps, running


class TrainingModel(Resumable):
    """What all distillers share: teachers that no step trains, and models that survive errors.

    A frozen teacher is part of the model, so that it is saved and spread over devices with it, but
    none of its variables counts as trainable here. The teacher itself is not touched: its
    `trainable` flags stay as the user set them, and it can be trained again at any time.
    """

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that training changes: none of a frozen teacher's."""
        kept = self._ids_of_teachers()
        return [v for v in super().trainable_variables if id(v) not in kept]

    @property
    def non_trainable_variables(self) -> list[Any]:
        """All other variables."""
        trained = {id(v) for v in self.trainable_variables}
        return [v for v in self.variables if id(v) not in trained]

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that training changes: none of a frozen teacher's."""
        kept = self._ids_of_teachers()
        return [v for v in super().trainable_weights if id(v) not in kept]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """All other weights."""
        trained = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trained]

    @property
    def trainable(self) -> bool:
        """Whether anything trains. Setting it affects all layers but those of frozen teachers."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        teachers = {id(teacher) for teacher in self._frozen_teachers()}
        self._trainable = bool(value)
        for layer in self._layers:  # As Keras does, which would also set the teachers.
            if id(layer) not in teachers:
                layer.trainable = value

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Return no mask: one of recorded outputs belongs to the teacher, not to the result."""

    def _ids_of_teachers(self) -> set[int]:
        return {id(v) for teacher in self._frozen_teachers() for v in teacher.variables}

    def _step_number(self, state: Any) -> Any:
        """Return the number of training steps so far, a tensor, or `None` if it is not known."""
        optimizer = getattr(self, "optimizer", None)
        if optimizer is None:
            return None
        place = place_of_steps(optimizer)
        if place is None:
            return None
        return optimizer.variables[place] if state is None else state[2][place]

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        return super().train_step(*state, self._with_teacher_outputs(data, *state, train=True))

    def test_step(self, *args: Any) -> Any:
        *state, data = args
        return super().test_step(*state, self._with_teacher_outputs(data, *state, train=False))

    def _with_teacher_outputs(self, data: Any, state: Any = None, *, train: bool) -> Any:
        """Return a batch with what the step needs of the teacher. On JAX, `state` is the step's."""
        raise NotImplementedError

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        with running(self), self._state_kept():
            return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with running(self), self._state_kept():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        with self._state_kept():
            return super().predict(*args, **kwargs)

    @contextlib.contextmanager
    def _state_kept(self) -> Iterator[None]:
        """Restore the values of all variables if a step raises.

        Keras's JAX trainer takes the values out of the variables before it traces a step, and loses
        them if that raises: teacher and student would be left empty.
        """
        if keras.config.backend() != "jax":
            yield
            return
        self._build_optimizer()
        optimizer = getattr(self, "optimizer", None)
        variables = [*self.variables, *self.metrics_variables]
        variables += [] if optimizer is None else optimizer.variables
        held = [(variable, variable.value) for variable in variables]
        try:
            yield
        except BaseException:
            self.jax_state_sync()  # What the last complete step left, if there was one.
            for variable, value in held:
                # Private: no public name tells a variable without a value from its placeholder.
                if variable._value is None and not value.is_deleted():
                    variable.assign(value)
            raise
