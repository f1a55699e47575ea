"""LogitProxy: a small head that predicts the classes from a feature."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.positions import mean_over_positions


@keras.saving.register_keras_serializable(package="keras_fdkd")
class LogitProxy(keras.layers.Layer):
    """Classify a feature with a hidden layer: C2KD's proxy student or proxy teacher.

    `keras_fdkd.C2KDDistiller` makes both; use it directly only in a distiller of your own.

    `Dense(leaky_relu(batch_norm(mean(feature) @ kernel), 0.1))`, the mean over all axes but the
    first and the last. Batch normalization has epsilon 1e-5 and momentum 0.9, as in PyTorch.

    Args:
        num_classes: Integer, the number of logits.
        hidden: Integer, units of the hidden layer. Defaults to `None`: the number of the feature's
            channels, as in the authors' code (256).
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Feature, shape `(batch, positions..., channels)`: a vector, a sequence or a map.
        training: Boolean, whether the statistics of the batch are used and updated.
        mask: Boolean, shape `(batch, positions...)`, true at the positions to average; the mean
            over no position is 0. Defaults to `None`: all, or those of the mask that Keras attached
            to `inputs`.

    Returns:
        Logits, shape `(batch, num_classes)`.

    Raises:
        ValueError: If a size is not a positive integer, the feature's channels are unknown, or the
            mask does not fit.

    Example:
    >>> import numpy as np
    >>> tuple(LogitProxy(3)(np.ones((2, 7, 7, 8), "float32")).shape)
    (2, 3)

    References:
        - Huo et al., "C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation",
          CVPR 2024; sizes, slope and normalization as in
          [huofushuo/C2KD](https://github.com/huofushuo/C2KD).
    """

    def __init__(self, num_classes: int, hidden: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer("num_classes", num_classes)
        check_integer("hidden", hidden, optional=True)
        self.num_classes = num_classes
        self.hidden = hidden

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(
                "A proxy needs a feature of shape (batch, ..., channels) with the channels known. "
                f"Received: shape {tuple(input_shape)}."
            )
        units = self.hidden or input_shape[-1]
        # No bias, since batch normalization would subtract it again.
        self.dense = keras.layers.Dense(
            units, use_bias=False, dtype=self.dtype_policy, name="hidden"
        )
        self.normalization = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name="normalization"
        )
        self.head = keras.layers.Dense(self.num_classes, dtype=self.dtype_policy, name="logits")
        self.dense.build((None, input_shape[-1]))
        self.normalization.build((None, units))
        self.head.build((None, units))
        self.built = True

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        x = self.dense(mean_over_positions(inputs, mask))
        x = self.normalization(x, training=training)
        return self.head(ops.leaky_relu(x, negative_slope=0.1))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # No positions are left.

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "hidden": self.hidden}
