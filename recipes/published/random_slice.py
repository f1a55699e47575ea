"""RandomSlice: some steps of an axis, drawn anew for each sample while training."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_fdkd_recipes")
class RandomSlice(keras.layers.Layer):
    """Keep `size` neighbouring steps of an axis: anywhere while training, else the middle.

    Args:
        size: Number of steps to keep.
        axis: Whose steps, 1 or higher.
        seed: Of the draws. Defaults to `None`: Keras's own.
        **kwargs: See `keras.Layer`.

    Example:
    >>> import numpy as np
    >>> frames = np.arange(5.0).reshape(1, 5, 1)
    >>> ops.convert_to_numpy(RandomSlice(3)(frames)).ravel().tolist()
    [1.0, 2.0, 3.0]
    """

    def __init__(self, size: int, axis: int = 1, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.axis, self.seed = size, axis, seed
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if (input_shape[self.axis] or 0) < self.size:
            raise ValueError(
                f"Axis {self.axis} must have at least {self.size} steps. Received: {input_shape}."
            )
        self._last = input_shape[self.axis] - self.size

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            middle = self._last // 2
            return ops.take(inputs, range(middle, middle + self.size), self.axis)
        count = ops.shape(inputs)[0]
        starts = keras.random.randint((count, 1), 0, self._last + 1, seed=self.draws)
        steps = starts + ops.arange(self.size, dtype=starts.dtype)
        # `take_along_axis` broadcasts these axes, so each sample has steps of its own.
        ones = [1] * (len(inputs.shape) - 2)
        ones.insert(self.axis - 1, self.size)
        return ops.take_along_axis(inputs, ops.reshape(steps, (-1, *ones)), self.axis)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[: self.axis], self.size, *input_shape[self.axis + 1 :])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "axis": self.axis, "seed": self.seed}
