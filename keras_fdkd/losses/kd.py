"""KD: the temperature-softened predictions of the teacher."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss
from keras_fdkd.losses.pairs import check_logits, same_positions
from keras_fdkd.losses.tunable import Tunable
from keras_fdkd.numerics import bounded_logits, full_precision


@keras.saving.register_keras_serializable(package="keras_fdkd")
class KD(CrossModalLoss):
    """Knowledge distillation: divergence of the student's predictions from the teacher's.

    For a teacher and a student that predict the same classes: the simplest method, to try first.
    Start with `loss_weights=[2.0]`; the published weight is 0.9, beside 0.1 for the task loss.

    `T^2 * KL(softmax(teacher / T) || softmax(student / T))`, computed from log-probabilities, so
    that a student that is confidently wrong still gets its gradient.
    (`keras.distillation.LogitsDistillation` in Keras 3.15 takes the divergence of the raw logits if
    its `loss` is the string `"kl_divergence"`, the default; with `keras.losses.KLDivergence()` it
    is this loss, but probabilities below 1e-7 get no gradient.)

    Args:
        temperature: Float above 0, may be changed during training. Defaults to `4.0`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        student_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        name: String. Defaults to `"kd"`.

    Call args:
        teacher: Logits, shape `(batch, classes)` or `(batch, ..., classes)`; every position (frame,
            pixel) counts as a sample.
        student: Logits of the same shape.

    Returns:
        Loss per sample, shape `(batch,)`.

    Raises:
        ValueError: If an argument is out of range, or the outputs are not logits of one shape.

    Example:
    >>> import numpy as np
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, 5.0, 0.0]], "float32")
    >>> loss = KD(temperature=2.0)
    >>> float(loss.compute_loss(logits, logits)), float(loss.compute_loss(logits, -logits)) > 5
    (0.0, True)

    References:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531). Defaults from
          megvii-research/mdistiller.
    """

    reads = "predictions"
    compares = "classes"
    takes_masks = True
    temperature = Tunable(above=True)

    def __init__(
        self,
        temperature: float = 4.0,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "kd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        self.temperature = temperature

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_logits(self, teacher_outputs, student_outputs)

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(*same_positions(self, teacher, student))
        temperature = self.use("temperature")
        logits = (bounded_logits(x, temperature) for x in (teacher, student))
        # Gradients of softened predictions shrink by 1 / T^2 (Hinton et al., section 2).
        return temperature**2 * divergence_of_bounded(*logits)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def kl_divergence(teacher: Any, student: Any) -> Any:
    """`KL(softmax(teacher) || softmax(student))` over the last axis, NaN where one is +inf or NaN.

    Infinite logits, such as those of masked classes, are bounded: a class without probability in
    the teacher adds 0.
    """
    return divergence_of_bounded(bounded_logits(teacher), bounded_logits(student))


def divergence_of_bounded(teacher: Any, student: Any) -> Any:
    """`kl_divergence` of logits whose differences are finite."""
    target = ops.log_softmax(teacher, axis=-1)
    difference = target - ops.log_softmax(student, axis=-1)
    return ops.sum(ops.exp(target) * difference, axis=-1)
