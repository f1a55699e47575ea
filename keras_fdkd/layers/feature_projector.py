"""FeatureProjector: the student's feature in the size of the teacher's."""

from typing import Any

import keras

from keras_fdkd.arguments import check_integer


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FeatureProjector(keras.layers.Layer):
    """Map the last axis of the student's feature linearly onto the teacher's size.

    It is trained with the student and thrown away with the teacher.

    Args:
        units: Integer, size of the teacher's feature along the last axis.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Student feature, shape `(batch, ..., dim)`.

    Returns:
        Tensor of shape `(batch, ..., units)`.

    Example:
    >>> import numpy as np
    >>> tuple(FeatureProjector(16)(np.ones((2, 8), "float32")).shape)
    (2, 16)
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer("units", units)
        self.units = units
        self.dense = keras.layers.Dense(units, dtype=self.dtype_policy, name="dense")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
