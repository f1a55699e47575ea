"""BinaryKD: knowledge distillation of independent labels."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape
from keras_fdkd.losses.pairs import check_outputs, same_positions
from keras_fdkd.losses.tunable import Tunable
from keras_fdkd.numerics import bounded_logits, full_precision


@keras.saving.register_keras_serializable(package="keras_fdkd")
class BinaryKD(CrossModalLoss):
    """Knowledge distillation where every logit answers a question of its own (several labels).

    For a teacher and a student that predict the same independent labels (tags, findings, events),
    next to a binary cross-entropy. A softmax over independent labels, as in `KD`, would lose how
    likely each of them is. A single logit (yes or no) is one label. Start with
    `loss_weights=[2.0]`.

    `T^2 * mean over labels of KL(Bernoulli(sigmoid(teacher / T)) || Bernoulli(sigmoid(student /
    T)))`.

    Args:
        temperature: Float above 0, may be changed during training. Defaults to `1.0`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        student_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        name: String. Defaults to `"binary_kd"`.

    Call args:
        teacher: Logits, shape `(batch, labels)` or `(batch, ..., labels)`.
        student: Logits of the same shape.

    Returns:
        Loss per sample, shape `(batch,)`.

    Raises:
        ValueError: If an argument is out of range, or the outputs differ in shape.

    Example:
    >>> import numpy as np
    >>> logits = np.array([[1.0, -2.0, 3.0], [0.0, 5.0, 0.0]], "float32")
    >>> loss = BinaryKD()
    >>> abs(float(loss.compute_loss(logits, logits))) < 1e-6
    True
    >>> round(float(loss.compute_loss(np.array([[0.0]]), np.array([[np.log(3.0)]]))), 4)
    0.1438

    References:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531), with a sigmoid for each label.
    """

    reads = "predictions"
    compares = "labels"
    takes_masks = True
    temperature = Tunable(above=True)

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "binary_kd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        self.temperature = temperature

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_outputs(self, teacher_outputs, student_outputs, 2)
        check_same_shape(self, teacher_outputs, student_outputs, slice(None))

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(*same_positions(self, teacher, student))
        temperature = self.use("temperature")
        logits = (bounded_logits(x, temperature) for x in (teacher, student))
        divergence = binary_divergence(*logits)
        # Gradients of softened predictions shrink by 1 / T^2 (Hinton et al., section 2).
        return temperature**2 * ops.mean(divergence, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def binary_divergence(teacher: Any, student: Any) -> Any:
    """KL divergence of the pairs `(p, 1 - p)` with these log-odds."""
    # `1 - sigmoid(x)` as `sigmoid(-x)`: exact for large logits too, where the difference is 0.
    positive = ops.sigmoid(teacher) * (ops.log_sigmoid(teacher) - ops.log_sigmoid(student))
    negative = ops.sigmoid(-teacher) * (ops.log_sigmoid(-teacher) - ops.log_sigmoid(-student))
    return positive + negative
