"""FeatureProjector: the student's feature in the size of the teacher's."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.positions import check_mask
from keras_fdkd.layers.resizing import are_sizes, resized
from keras_fdkd.layers.step_resampler import resampled
from keras_fdkd.numerics import as_dtype


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FeatureProjector(keras.layers.Layer):
    """Map the student's feature linearly to the channels and positions of the teacher's.

    For a student whose feature has another shape than the teacher's; `projector="auto"` makes it.
    It is trained with the student and thrown away with the teacher.

    The last axis goes through a dense layer, the same at each position (a 1x1 convolution). With
    `sizes`, positions are brought to the teacher's number too, by linear interpolation without
    weights of its own: maps with antialiasing, as
    `keras.ops.image.resize(..., "bilinear", antialias=True)`; sequences by the rule of
    `StepResampler`, first step to first and last to last, using valid steps only. The student's
    feature is the one that changes, because the teacher's must stay what it was trained to be. Both
    parts are linear and the weights of an interpolation add up to 1, so their order makes no
    difference; the dense layer runs where there are fewer positions.

    Args:
        units: Integer, size of the teacher's feature along the last axis.
        sizes: Sizes of the teacher's feature between batch and channels: `(steps,)`,
            `(height, width)`, or three axes. `None` among them leaves an axis as it is. Defaults to
            `None`: all axes stay as they are.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Student feature, shape `(batch, ..., dim)`. Sizes before the last may be unknown.
        mask: Boolean, shape `(batch, steps)`, true at the valid steps of a sequence. It is used
            where steps are resampled: all output steps are then valid, and zeros for a sample
            without any. Defaults to `None`: all, or those of the mask that Keras attached.

    Returns:
        Tensor of shape `(batch, ..., units)`, or `(batch, *sizes, units)`.

    Raises:
        ValueError: If an argument is out of its range, the feature has other axes than `sizes`, or
            a map that is resized carries a mask.

    Example:
    >>> import numpy as np
    >>> tuple(FeatureProjector(16)(np.ones((2, 8), "float32")).shape)
    (2, 16)
    >>> tuple(FeatureProjector(16, sizes=(7, 7))(np.ones((2, 4, 9, 8), "float32")).shape)
    (2, 7, 7, 16)
    """

    def __init__(
        self,
        units: int,
        sizes: "tuple[int | None, ...] | list[int | None] | None" = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_integer("units", units)
        if sizes is not None and not are_sizes(sizes):
            raise ValueError(
                "`sizes` must be `(steps,)`, `(height, width)` or three sizes, each a positive "
                f"integer or `None`; or `None`. Received: sizes={sizes!r}."
            )
        self.units = units
        self.sizes = None if sizes is None else tuple(sizes)
        self.dense = keras.layers.Dense(units, dtype=self.dtype_policy, name="dense")

    @property
    def resamples_steps(self) -> bool:
        """Whether it takes the mask of a sequence, after which all steps are valid."""
        return self.sizes is not None and len(self.sizes) == 1 and self.sizes[0] is not None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.sizes is not None and len(input_shape) != len(self.sizes) + 2:
            raise ValueError(
                f"A feature of {len(self.sizes) + 2} axes is needed, batch and channels included: "
                "as many between these as `sizes` has. "
                f"Received: shape {tuple(input_shape)}, sizes={self.sizes}."
            )
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if self.sizes and self.resamples_steps:
            return self._sequence(inputs, self.sizes[0], mask)
        wanted = {axis: n for axis, n in enumerate(self.sizes or (), 1) if n is not None}
        if wanted and mask is not None:
            raise ValueError(
                "A map that carries a Keras mask cannot be resized: pool it, or compare maps of "
                f"one size. Received: shape {tuple(inputs.shape)}, sizes={self.sizes}."
            )
        # Shrink before the dense layer, grow after it: it runs on fewer positions.
        x, grows = inputs, []
        for axis, size in wanted.items():
            if x.shape[axis] is not None and x.shape[axis] < size:
                grows.append(axis)
            else:
                x = resized(x, axis, size)
        x = self.dense(x)
        for axis in grows:
            x = resized(x, axis, wanted[axis])
        return x

    def _sequence(self, x: Any, steps: Any, mask: Any) -> Any:
        check_mask(mask, x.shape)
        valid = None if mask is None else ops.expand_dims(ops.cast(mask, "bool"), -1)
        if x.shape[1] is not None and x.shape[1] < steps:
            if valid is not None:  # NaN there would reach the kernel's gradient.
                x = ops.where(valid, x, 0.0)
            return as_dtype(resampled(self.dense(x), steps, mask), self.compute_dtype)
        x = self.dense(as_dtype(resampled(x, steps, mask), self.compute_dtype))
        if valid is None:
            return x
        # Without it the bias would fill the steps of a sample that has none.
        return x * ops.cast(ops.any(valid, axis=1, keepdims=True), x.dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return None if self.resamples_steps else previous_mask

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        sizes = zip(self.sizes or input_shape[1:-1], input_shape[1:-1], strict=True)
        return (
            input_shape[0],
            *(given if size is None else size for size, given in sizes),
            self.units,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "sizes": self.sizes}
