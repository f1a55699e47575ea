"""FeatureRegressor: the student's feature in the shape of the teacher's, by convolution."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import is_integer
from keras_fdkd.layers.positions import check_mask
from keras_fdkd.layers.resizing import resized
from keras_fdkd.layers.step_resampler import resampled
from keras_fdkd.numerics import as_dtype


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FeatureRegressor(keras.layers.Layer):
    """Map the student's feature to the teacher's shape: `relu(batch_norm(convolution(x)))`.

    The default regressor of `keras_fdkd.losses.FitNet`, for teacher features that were rectified.
    It is trained with the student and thrown away with the teacher.

    Along each axis of a map that is twice the target, the kernel is 3 wide with stride 2 and one
    zero on both sides; along any other it is `1 + size - target` wide, without padding. Along an
    axis where the student's map is the smaller one, it is first resized to the target, bilinearly,
    and the kernel is 1 wide; a sequence with fewer steps is resized by the rule of `StepResampler`.
    Vectors go through a dense layer.

    Args:
        target_shape: Shape of the teacher's feature without the batch: `(dim,)`,
            `(steps, channels)` or `(height, width, channels)`. A size may be `None` if the
            student's is unknown too; both are then assumed to be equal.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Student feature with the same number of axes.
        training: Boolean. Whether the batch normalization uses the batch. Defaults to `None`: as in
            the call of the surrounding layer.
        mask: Boolean, shape of `inputs` without its last axis, true at the positions that count.
            The others are treated as 0, and only outputs that see none of them count in the
            statistics of the batch normalization. If a sequence is lengthened, its valid steps are
            resampled, and all output steps count. Defaults to `None`: all, or those of the mask
            that Keras attached to `inputs`.

    Returns:
        Tensor of shape `(batch, *target_shape)`.

    Raises:
        ValueError: If the target is not such a shape, the feature has another number of axes or an
            unknown size where the target's is known, or the mask does not fit.

    Example:
    >>> import numpy as np
    >>> tuple(FeatureRegressor((4, 4, 6))(np.ones((2, 8, 5, 3), "float32")).shape)
    (2, 4, 4, 6)
    >>> tuple(FeatureRegressor((4, 4, 6))(np.ones((2, 3, 2, 3), "float32")).shape)
    (2, 4, 4, 6)

    References:
        - [Romero et al., ICLR 2015](https://arxiv.org/abs/1412.6550). Sizes of kernels and batch
          normalization as in megvii-research/mdistiller.
    """

    def __init__(self, target_shape: tuple[int | None, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        target = tuple(target_shape) if isinstance(target_shape, (list, tuple)) else ()
        sizes = [size for size in target[:-1] if size is not None] + list(target[-1:])
        if not 1 <= len(target) <= 3 or not all(is_integer(n, 1) for n in sizes):
            raise ValueError(
                "`target_shape` must be one of `(dim,)`, `(steps, channels)` and `(height, width, "
                "channels)`, of positive integers; sizes before the last may be `None`. "
                f"Received: target_shape={target_shape!r}."
            )
        self.target_shape = target
        self.batch_norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name="batch_norm"
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        plan = plan_convolution(input_shape, self.target_shape)
        self._plan = plan
        self._grown = _grown(input_shape, self.target_shape)
        channels = self.target_shape[-1]
        options: dict[str, Any] = {"dtype": self.dtype_policy, "name": "linear"}
        if plan:
            convolution = (keras.layers.Conv1D, keras.layers.Conv2D)[len(plan) - 1]
            options["kernel_size"] = [kernel for kernel, _, _ in plan]
            options["strides"] = [stride for _, stride, _ in plan]
            self.linear = convolution(channels, data_format="channels_last", **options)
        else:
            self.linear = keras.layers.Dense(channels, **options)
        # The shape of the weights depends on the last axis only.
        self.linear.build((*(None for _ in self.target_shape), input_shape[-1]))
        self.batch_norm.build((None, *self.target_shape))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        x = inputs
        check_mask(mask, x.shape)
        if self._lengthens():
            x = as_dtype(resampled(x, self._grown[1], mask), self.compute_dtype)
            if mask is not None:  # All steps count, except those of a sample without any.
                mask = ops.any(ops.cast(mask, "bool"), axis=1, keepdims=True)
                mask = ops.repeat(mask, self._grown[1], axis=1)
        elif mask is not None:
            mask = ops.cast(mask, "bool")
            x = ops.where(ops.expand_dims(mask, -1), x, 0.0)
            mask = self._mask_of_outputs(mask)
        for axis, size in self._grown.items():
            x = resized(x, axis, size)
        # By hand: `padding="same"` with stride 2 puts its one zero at the end only.
        if any(padding for _, _, padding in self._plan):
            x = ops.pad(x, [(0, 0), *((n, n) for _, _, n in self._plan), (0, 0)])
        return ops.relu(self.batch_norm(self.linear(x), training=training, mask=mask))

    def _lengthens(self) -> bool:
        """Whether it gives a sequence more steps."""
        return bool(self._grown) and len(self._plan) == 1

    def _mask_of_outputs(self, mask: Any) -> Any:
        """Return where the convolution saw only valid positions (and zeros around the map)."""
        if self._grown:
            padding = ops.expand_dims(ops.cast(ops.logical_not(mask), "float32"), -1)
            for axis, size in self._grown.items():
                padding = resized(padding, axis, size)
            mask = ops.squeeze(padding, -1) < 1e-6  # A share of 0, up to rounding.
        if all(part == (1, 1, 0) for part in self._plan):
            return mask
        kernels, strides, paddings = zip(*self._plan, strict=True)
        padded = ops.pad(
            ops.cast(ops.logical_not(mask), "float32"), [(0, 0), *((n, n) for n in paddings)]
        )
        seen = ops.max_pool(
            ops.expand_dims(padded, -1), kernels, strides, "valid", data_format="channels_last"
        )
        return ops.squeeze(seen, -1) <= 0

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if previous_mask is None or self._lengthens():
            return None
        return self._mask_of_outputs(ops.cast(previous_mask, "bool"))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape[0], *self.target_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": self.target_shape}


def plan_convolution(
    input_shape: tuple[int | None, ...], target_shape: tuple[int | None, ...]
) -> list[tuple[int, int, int]]:
    """Return the kernel size, the stride and the padding along each axis of the map.

    Args:
        input_shape: Shape of the student's feature, the batch first.
        target_shape: Shape of the teacher's feature, without the batch.

    Raises:
        ValueError: If there is no such convolution.
    """
    sizes, targets = input_shape[1:-1], target_shape[:-1]
    plans = []
    fits = len(sizes) == len(targets) and input_shape[-1] is not None
    for size, target in zip(sizes, targets, strict=False):
        if size is None or target is None:
            fits = fits and size is target
            plans.append((1, 1, 0))
        else:
            # A smaller map is resized to the target first.
            plans.append((3, 2, 1) if size == 2 * target else (1 + max(size - target, 0), 1, 0))
    if not fits:
        raise ValueError(
            "A convolution maps the student's feature to the teacher's if both have the same "
            "number of axes, and sizes of which both are known or both unknown. Give the models "
            "inputs of fixed size, or pass a layer of your own as `regressor=`. "
            f"Received: student {tuple(input_shape[1:])}, teacher {tuple(target_shape)}, both "
            "without the batch."
        )
    return plans


def _grown(
    input_shape: tuple[int | None, ...], target_shape: tuple[int | None, ...]
) -> dict[int, int]:
    """Return the axes along which the student's map is smaller, with the target's size."""
    pairs = enumerate(zip(input_shape[1:-1], target_shape[:-1], strict=True), 1)
    return {
        axis: target
        for axis, (size, target) in pairs
        if size is not None and target is not None and size < target
    }
