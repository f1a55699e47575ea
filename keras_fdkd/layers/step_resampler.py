"""StepResampler: sequences of any length resampled to one length."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.positions import check_mask
from keras_fdkd.numerics import as_dtype, precise


@keras.saving.register_keras_serializable(package="keras_fdkd")
class StepResampler(keras.layers.Layer):
    """Resample the valid steps of a sequence to a fixed number, linearly.

    For sequences of two modalities that differ in rate or length: afterwards they can be compared
    step by step. `time_steps=` of the distillers uses it.

    With `L` valid steps, numbered `0 .. L - 1` in order, output `j` is the value at
    `j * (L - 1) / (steps - 1)`, by linear interpolation: the first output is the first valid step,
    the last output the last. A single valid step is repeated. Without any, the outputs are zeros,
    and so are their gradients.

    Args:
        steps: Integer, the number of output steps. A single output step is the middle of the
            sequence.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Sequence, shape `(batch, time, dim)`; `time` may be unknown. Half precision is
            interpolated in float32.
        mask: Boolean, shape `(batch, time)`, true at the valid steps, which may lie anywhere; the
            rest has no effect. Defaults to `None`: all, or those of the mask that Keras attached to
            `inputs`.

    Returns:
        Tensor of shape `(batch, steps, dim)`, without a mask.

    Raises:
        ValueError: If `steps` is not a positive integer, the inputs are not a sequence, or the mask
            does not fit.

    Example:
    >>> import numpy as np
    >>> x = np.array([[[0.0], [10.0], [20.0], [99.0]]], "float32")
    >>> y = StepResampler(5)(x, mask=np.array([[True, True, True, False]]))
    >>> ops.convert_to_numpy(y)[0, :, 0].tolist()
    [0.0, 5.0, 10.0, 15.0, 20.0]
    """

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer("steps", steps)
        self.steps = steps

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                "A sequence of shape (batch, time, dim) is needed; reshape maps and vectors. "
                f"Received: shape {tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        check_mask(mask, inputs.shape)
        return as_dtype(resampled(inputs, self.steps, mask), self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # All steps are valid.

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape[0], self.steps, input_shape[2]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps}


def resampled(x: Any, steps: Any, mask: Any = None) -> Any:
    """Return the valid steps of a sequence, resampled to `steps`; see `StepResampler`.

    Args:
        x: Shape `(batch, time, dim)`.
        steps: Integer, or a scalar tensor where TensorFlow does not know it yet.
        mask: Boolean, shape `(batch, time)`, or `None`.

    Returns:
        Shape `(batch, steps, dim)`, in float32 or float64 unless `x` is returned as it is.
    """
    if mask is None and x.shape[1] == steps:
        return x
    x = precise(x)
    time = ops.shape(x)[1]
    if mask is None:
        return _mix(time, steps, lambda n: ops.take(x, n, axis=1))
    mask = ops.cast(mask, "bool")
    place = ops.arange(time, dtype="int32")
    # Valid steps first. The keys are unique, so any sort keeps the order.
    order = ops.sort(ops.where(mask, place, place + time), axis=1) % time
    count = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)

    def step(n: Any) -> Any:
        n = ops.take_along_axis(order, n, axis=1)
        return ops.take_along_axis(x, ops.expand_dims(n, -1), axis=1)

    return ops.where(ops.expand_dims(count, -1) > 0, _mix(count, steps, step), 0.0)


def _mix(count: Any, steps: Any, step: Callable[[Any], Any]) -> Any:
    """Return the outputs, from the number of valid steps and a function that reads steps.

    Places are counted in integers, so that an output that falls on a step equals it exactly.
    """
    last = ops.maximum(ops.cast(count, "int32") - 1, 0)
    numbers = ops.arange(steps, dtype="int32")
    if isinstance(steps, int):
        numbers, parts = (numbers, steps - 1) if steps > 1 else (numbers + 1, 2)  # The middle.
    else:
        parts = ops.maximum(steps - 1, 1)
    scaled = last * numbers
    low, rest = scaled // parts, scaled % parts
    below, above = step(low), step(low + ops.cast(rest > 0, "int32"))
    share = ops.expand_dims(ops.cast(rest, below.dtype) / ops.cast(parts, below.dtype), -1)
    return below * (1.0 - share) + above * share
