"""DIST: distillation from a stronger teacher, by correlation."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss
from keras_fdkd.losses.masking import filled_with_mean
from keras_fdkd.losses.pairs import check_logits, same_positions
from keras_fdkd.losses.tunable import Tunable
from keras_fdkd.numerics import bounded_logits, centered, full_precision

_EPSILON = 1e-8


@keras.saving.register_keras_serializable(package="keras_fdkd")
class DIST(CrossModalLoss):
    """Correlate predictions instead of matching them: between classes, and within each class.

    For a teacher and a student that predict the same classes, when the teacher is far stronger: a
    weak student can follow the relations between predictions better than their exact values. Start
    with `loss_weights=[2.0]`, the authors' factor.

    With `P = softmax(student / T)`, `Q = softmax(teacher / T)` and the Pearson correlation
    `rho(u, v) = <u - mean u, v - mean v> / (||u - mean u|| ||v - mean v|| + 1e-8)`: `T^2 *
    (inter_weight * (1 - rho(row of P, row of Q)) + intra_weight * (1 - mean over classes of
    rho(column of P, column of Q)))`. Rows are samples, columns the probabilities of one class over
    the batch. A constant row or column (one sample in the batch, an untrained uniform prediction)
    has correlation 0 and no gradient.

    Args:
        inter_weight: Float >= 0, the `beta` of the paper. May be changed during training. Defaults
            to `1.0`.
        intra_weight: Float >= 0, the `gamma` of the paper. May be changed during training. Defaults
            to `1.0`.
        temperature: Float above 0, may be changed during training. Defaults to `1.0`; the authors
            use 4 on CIFAR-100.
        teacher_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        student_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        name: String. Defaults to `"dist"`.

    Call args:
        teacher: Logits, shape `(batch, classes)`, or `(batch, height, width, classes)`, where every
            pixel is a sample.
        student: Logits of the same shape.

    Returns:
        Loss per sample, shape `(batch,)`. The correlation within a class belongs to the batch, and
        every sample gets the same value of it. With `sample_weight`, all samples take part in it,
        even those of weight 0; masked samples and positions do not.

    Raises:
        ValueError: If an argument is out of range, or the outputs are not logits of one shape.

    Example:
    >>> import numpy as np
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, 5.0, 0.0]], "float32")
    >>> loss = DIST()
    >>> abs(float(loss.compute_loss(logits, logits))) < 1e-5
    True
    >>> float(loss.compute_loss(logits, -logits)) > 2
    True

    References:
        - [Huang et al., NeurIPS 2022](https://arxiv.org/abs/2205.10536). Defaults from
          hunto/DIST_KD.
    """

    reads = "predictions"
    compares = "classes"
    takes_masks = True
    inter_weight = Tunable()
    intra_weight = Tunable()
    temperature = Tunable(above=True)

    def __init__(
        self,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        temperature: float = 1.0,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "dist",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.temperature = temperature

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_logits(self, teacher_outputs, student_outputs)

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(*same_positions(self, teacher, student))
        temperature = self.use("temperature")
        logits = (bounded_logits(x, temperature) for x in (teacher, student))
        q, p = (ops.softmax(x, axis=-1) for x in logits)
        inter = 1.0 - _correlation(p, q, axis=-1)
        samples = tuple(range(len(p.shape) - 1))
        # At the mean, what is masked adds nothing to a correlation within a class.
        q, p = (filled_with_mean(x, samples, mask) for x in (q, p))
        intra = 1.0 - ops.mean(_correlation(p, q, axis=samples))
        both = self.use("inter_weight") * inter + self.use("intra_weight") * intra
        return temperature**2 * both

    def get_config(self) -> dict[str, Any]:
        config = {
            "inter_weight": self.inter_weight,
            "intra_weight": self.intra_weight,
            "temperature": self.temperature,
        }
        return {**super().get_config(), **config}


def _correlation(x: Any, y: Any, axis: Any) -> Any:
    (x, norm_x), (y, norm_y) = centered(x, axis), centered(y, axis)
    product = ops.sum(x * y, axis=axis, keepdims=True)
    return ops.squeeze(product / (norm_x * norm_y + _EPSILON), axis=axis)
