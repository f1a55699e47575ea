"""FitNet: the teacher's hidden feature as a hint."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.layers.feature_regressor import FeatureRegressor, plan_convolution
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape
from keras_fdkd.losses.pairs import check_outputs, same_positions
from keras_fdkd.losses.student_adapter import StudentAdapter
from keras_fdkd.numerics import full_precision


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FitNet(CrossModalLoss):
    """Mean squared error between the teacher's feature and the student's, mapped to its shape.

    For features of any task, when their scale matters. Start with `loss_weights=[100.0]`, the
    published weight.

    `mean((regressor(student) - teacher) ** 2)`. The regressor is trained with the student by
    `keras_fdkd.CrossModalDistiller`. For features of one shape that need no regressor, use
    `keras.distillation.FeatureDistillation("mse")`.

    Args:
        regressor: `keras.Layer` that maps the student's feature to the teacher's shape; one object
            serves one distiller. Defaults to `None`: `keras_fdkd.layers.FeatureRegressor`, a
            convolution (for vectors a dense layer), batch normalization and ReLU, after the
            student's map is resized along the axes where it is smaller than the teacher's. ReLU
            suits a teacher's feature that was rectified; other features have negative values.
        teacher_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        student_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        name: String. Defaults to `"fitnet"`.

    Call args:
        teacher: Feature: vectors `(batch, dim)`, sequences `(batch, steps, channels)` or maps
            `(batch, height, width, channels)`; any shape if you pass your own regressor.
        student: Feature of the teacher's shape, made by the layer that `build_adapter` returns.

    Returns:
        Loss per sample, shape `(batch,)`. Samples of weight 0 still take part in the regressor's
        batch normalization; masked steps of a sequence do not.

    Raises:
        ValueError: If `regressor` is not a layer, no convolution leads from one shape to the other,
            or a regressor gives another shape than the teacher's.

    Example:
    >>> import numpy as np
    >>> teacher, student = np.ones((4, 3), "float32"), np.ones((4, 5), "float32")
    >>> loss = FitNet()
    >>> adapter = loss.build_adapter(teacher, student)
    >>> teacher, regressed = adapter(teacher, student, training=True)
    >>> tuple(regressed.shape), tuple(loss.call(teacher, regressed).shape)
    ((4, 3), (4,))

    A student's map that is smaller along one axis and larger along another:

    >>> teacher, student = np.ones((4, 8, 8, 3), "float32"), np.ones((4, 4, 10, 5), "float32")
    >>> adapter = FitNet().build_adapter(teacher, student)
    >>> tuple(adapter(teacher, student, training=True)[1].shape)
    (4, 8, 8, 3)

    References:
        - [Romero et al., ICLR 2015](https://arxiv.org/abs/1412.6550). The regressor is that of
          megvii-research/mdistiller.
    """

    takes_masks = True

    def __init__(
        self,
        regressor: keras.Layer | None = None,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "fitnet",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        if regressor is not None and not isinstance(regressor, keras.Layer):
            raise ValueError(
                "`regressor` must be a `keras.Layer` that maps the student's feature to the "
                f"teacher's shape, or `None`. Received: regressor={regressor!r}."
            )
        self.regressor = regressor

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        if self.regressor is not None:
            check_outputs(self, teacher_outputs, student_outputs, 2)
            return
        check_outputs(self, teacher_outputs, student_outputs, 2, 4)
        plan_convolution(tuple(student_outputs.shape), tuple(teacher_outputs.shape[1:]))

    def build_adapter(self, teacher: Any, student: Any) -> keras.Layer:
        regressor = self.regressor or FeatureRegressor(tuple(teacher.shape[1:]), name="regressor")
        adapter = _RegressStudent(regressor, name=self.name)
        # On symbols, so that a regressor of another shape is refused before training.
        check_same_shape(self, *adapter.built_for(teacher, student), slice(1, None))
        return adapter

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(*same_positions(self, teacher, student))
        return ops.mean(ops.square(student - teacher), axis=-1)

    def get_config(self) -> dict[str, Any]:
        regressor = self.regressor and keras.saving.serialize_keras_object(self.regressor)
        return {**super().get_config(), "regressor": regressor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FitNet":
        config = dict(config)
        if config.get("regressor") is not None:
            config["regressor"] = keras.saving.deserialize_keras_object(config["regressor"])
        return cls(**config)


class _RegressStudent(StudentAdapter):
    """A class of its own, because files name the layer after its class."""
