"""Layers for padded sequences of known lengths."""

from typing import Any

import keras
from keras import ops

_FAR = -1e4  # Logit of what cannot be; within the range of float16.


@keras.saving.register_keras_serializable(package="recipes")
class LengthMask(keras.layers.Layer):
    """Attaches the Keras mask of the steps before the end of each sequence.

    Call args:
        inputs: Sequences, shape `(batch, steps, dim)`, and their lengths in steps, integers of
            shape `(batch,)`.
    """

    def call(self, inputs: list[Any]) -> Any:
        return inputs[0]

    def compute_mask(self, inputs: list[Any], previous_mask: Any = None) -> Any:
        x, length = inputs
        return ops.less(ops.arange(x.shape[1], dtype="int32"), ops.expand_dims(length, -1))


@keras.saving.register_keras_serializable(package="recipes")
class MaskedConv1D(keras.layers.Conv1D):
    """A convolution that sees 0 where steps are masked, as beyond the ends of the input.

    It hands on the mask, of every `strides`-th step. See `keras.layers.Conv1D`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is not None:
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, 0)
        return super().call(inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None if previous_mask is None else previous_mask[:, :: self.strides[0]]


@keras.saving.register_keras_serializable(package="recipes")
class MeanSubtraction(keras.layers.Layer):
    """Subtracts the mean over the valid steps of each sequence: what stands still is left out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        # A layer inside another has the global policy unless it is told its own.
        self.mean = keras.layers.GlobalAveragePooling1D(keepdims=True, dtype=self.dtype_policy)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        return inputs - self.mean(inputs, mask=mask)


@keras.saving.register_keras_serializable(package="recipes")
class MaskedMaxPooling1D(keras.layers.GlobalMaxPooling1D):
    """The largest of the valid steps, of values that are never below 0."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is not None:
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, 0)
        return super().call(inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None


@keras.saving.register_keras_serializable(package="recipes")
class BlankPadding(keras.layers.Layer):
    """Logits of words, of which masked steps say "blank" for sure, without a mask.

    `keras.losses.CTC` takes no lengths: it reads every step. A step that is blank for sure changes
    neither the loss nor what is decoded, so both are those of the sequences without padding.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return inputs
        # `keras.losses.CTC` takes class 0 for the blank.
        blank = ops.arange(inputs.shape[-1]) == 0
        padding = ops.cast(ops.where(blank, 0.0, _FAR), inputs.dtype)
        return ops.where(ops.expand_dims(mask, -1), inputs, padding)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None
