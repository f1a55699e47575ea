"""BandClassifier: one head that judges a band of both modalities."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.positions import mean_over_positions


@keras.saving.register_keras_serializable(package="keras_fdkd")
class BandClassifier(keras.layers.Layer):
    """Classify a frequency band: `Dense(relu(band))`.

    The same instance is called on the teacher's and on the student's band, which puts both
    modalities into one decision space.

    Args:
        num_classes: Integer, the number of logits.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Band, shape `(batch, dim)`; with further axes, `(batch, positions..., dim)`, the
            rectified band is averaged over them.
        mask: Boolean, shape `(batch, positions...)`, true at the positions to average; the average
            of none is 0. Defaults to `None`: all, or those of the mask that Keras attached to
            `inputs`.

    Returns:
        Logits, shape `(batch, num_classes)`.

    Raises:
        ValueError: If `num_classes` is no positive integer, or the mask does not fit.

    Example:
    >>> import numpy as np
    >>> tuple(BandClassifier(3)(np.ones((2, 8), "float32")).shape)
    (2, 3)

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), shared classifiers.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer("num_classes", num_classes)
        self.num_classes = num_classes
        self.dense = keras.layers.Dense(num_classes, dtype=self.dtype_policy, name="dense")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.dense.build((None, input_shape[-1]))
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        x = mean_over_positions(ops.relu(inputs), mask)
        return self.dense.call(x)  # What Keras does around a layer has been done for this one.

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # No positions are left.

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}
