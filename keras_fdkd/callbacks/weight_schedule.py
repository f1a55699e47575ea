"""WeightSchedule: weights of terms that follow a schedule over the training steps."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.arguments import check_integer
from keras_fdkd.running import place_of_steps


class WeightSchedule(keras.callbacks.Callback):
    """Change weights of distillation terms during training: warm-up, or annealing.

    For methods whose weight should rise at the start (such as DKD) or fade out at the end. A weight
    in `distiller.term_weights` is a variable, which compiled steps follow. Batches are counted by
    the optimizer, so a training that is resumed later also resumes its schedule.

    Args:
        weights: Dict from the name of a term in the logs (`"kd_loss"`, `"low_loss"`) to a
            `keras.optimizers.schedules.LearningRateSchedule`, or to a function from the number of
            steps to a number >= 0. A term of `FrequencyDistiller` whose weight was 0 when it was
            made does not exist.
        every: Integer, number of steps between two changes: on JAX, each change returns the state
            of the step to the model and reads it again. Defaults to `1`.

    Raises:
        ValueError: If `weights` is not such a dict, or, when training begins, names something that
            is not a term.

    Example:
    >>> import numpy as np
    >>> from keras_fdkd import CrossModalDistiller
    >>> from keras_fdkd.losses import KD
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(3)])
    >>> distiller = CrossModalDistiller(model(6), model(4), losses=[KD()])
    >>> distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> warm_up = keras.optimizers.schedules.PolynomialDecay(0.0, 4, end_learning_rate=1.0)
    >>> schedule = WeightSchedule({"kd_loss": warm_up})
    >>> history = distiller.fit(x, np.zeros(8, "int32"), batch_size=4, epochs=2, verbose=0,
    ...                         callbacks=[schedule])
    >>> distiller.term_weights["kd_loss"]  # in the last of four steps
    0.75
    """

    def __init__(self, weights: Mapping[str, Any], every: int = 1) -> None:
        super().__init__()
        if (
            not isinstance(weights, Mapping)
            or not weights
            or not all(isinstance(name, str) and callable(weights[name]) for name in weights)
            # A class is callable too: it stands for a schedule that was not made.
            or any(isinstance(value, type) for value in weights.values())
        ):
            raise ValueError(
                "`weights` must be a dict from names of terms to schedules, or functions from a "
                f"number of steps to a number. Received: weights={weights!r}."
            )
        check_integer("every", every)
        self.weights = dict(weights)
        self.every = every
        self._first = self._next = 0
        self._stride = -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        terms = getattr(self.model, "term_weights", None)
        if terms is None:
            raise ValueError(
                "`WeightSchedule` is for a distiller that has `term_weights`. "
                f"Received: {type(self.model).__name__}."
            )
        for name in self.weights:
            terms[name]  # Raises if there is no such term.
        # Read once, and counted from here: on JAX it has no value while an epoch runs.
        optimizer = self.model.optimizer
        place = place_of_steps(optimizer)
        count = optimizer.iterations if place is None else optimizer.variables[place]
        self._next = int(keras.ops.convert_to_numpy(count))
        self._stride = -1  # The first step sets the weights in any case.

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._first = self._next

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = self._first + batch  # One call may be for several steps.
        if step // self.every == self._stride:
            return
        self._stride = step // self.every
        for name, schedule in self.weights.items():
            value = keras.ops.convert_to_numpy(schedule(step))  # Schedules of Keras return tensors.
            self.model.term_weights[name] = float(value)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._next = self._first + batch + 1
