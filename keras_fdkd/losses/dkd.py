"""DKD: decoupled knowledge distillation."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.losses.binary_kd import binary_divergence
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss
from keras_fdkd.losses.kd import divergence_of_bounded
from keras_fdkd.losses.pairs import check_logits, same_positions
from keras_fdkd.losses.tunable import Tunable
from keras_fdkd.numerics import bounded_logits, full_precision

# A logit that adds nothing to a softmax of bounded ones, and whose products with 0 are 0.
_MASKED = -1e30


@keras.saving.register_keras_serializable(package="keras_fdkd")
class DKD(CrossModalLoss):
    """Decoupled knowledge distillation: target class and other classes weighted separately.

    For a teacher and a student that predict the same classes, when there are many classes. Start
    with `loss_weights=[0.5]`. The authors raise the weight of this loss linearly from 0 over the
    first 20 epochs, as `keras_fdkd.callbacks.WeightSchedule` can.

    With `p = softmax(logits / T)` and target class `y`: `T^2 * (alpha * TCKD + beta * NCKD)`, where
    `TCKD` is the KL divergence of the pairs `(p_y, 1 - p_y)` and `NCKD` that of the softmax over
    the classes other than `y`, which is 0 for two classes. `KD` is the case `alpha = 1`,
    `beta = 1 - p_y` of the teacher.

    Args:
        alpha: Float >= 0, weight of the target class part. May be changed during training. Defaults
            to `1.0`.
        beta: Float >= 0, weight of the part of the other classes. May be changed during training.
            Defaults to `8.0`; the authors' configurations have 0.5 to 8.
        temperature: Float above 0, may be changed during training. Defaults to `4.0`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        student_layer_name: See `CrossModalLoss`. Without a path the predictions are compared.
        name: String. Defaults to `"dkd"`.

    Call args:
        teacher: Logits, shape `(batch, classes)` or `(batch, ..., classes)`, where every position
            (frame, pixel) is a sample, with at least 2 classes.
        student: Logits of the same shape.
        y: Labels: integers in `[0, classes)`, shape `(batch, ...)` or `(batch, ..., 1)`, or
            one-hot, shape `(batch, ..., classes)`. If a sample has a negative label (one-hot: no
            positive entry), its target is the teacher's most probable class; if `y` is `None`, so
            is that of all samples. Defaults to `None`.

    Returns:
        Loss per sample, shape `(batch,)`; finite for all logits except NaN and +inf. A compiled
        step cannot see the values of labels that are tensors: there, a label of `classes` or more
        gives NaN, without a gradient.

    Raises:
        ValueError: If an argument is out of range, the outputs are not logits of one shape, the
            labels have another shape, or labels in a NumPy array are not integers below `classes`.

    Example:
    >>> import numpy as np
    >>> logits = np.array([[1.0, 2.0, 3.0], [0.0, 5.0, 0.0]], "float32")
    >>> loss, labels = DKD(), np.array([2, 1])
    >>> value = float(loss.compute_loss(logits, -logits, labels))
    >>> float(loss.compute_loss(logits, logits, labels)), value > 3
    (0.0, True)

    References:
        - [Zhao et al., CVPR 2022](https://arxiv.org/abs/2203.08679). Defaults from
          megvii-research/mdistiller.
    """

    reads = "predictions"
    compares = "classes"
    takes_masks = True
    alpha = Tunable()
    beta = Tunable()
    temperature = Tunable(above=True)

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "dkd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_logits(self, teacher_outputs, student_outputs)

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(*same_positions(self, teacher, student))
        classes, temperature = student.shape[-1], self.use("temperature")
        target = ops.cast(ops.argmax(teacher, axis=-1), "int32")
        if y is not None:
            labels = _class_indices(y, student.shape)
            target = ops.where(labels >= 0, labels, target)
        is_target = ops.equal(ops.expand_dims(target, -1), ops.arange(classes, dtype="int32"))
        (target_t, others_t), (target_s, others_s) = (
            _decouple(bounded_logits(logits, temperature), is_target)
            for logits in (teacher, student)
        )
        tckd = binary_divergence(target_t, target_s)
        nckd = divergence_of_bounded(others_t, others_s)
        value = temperature**2 * (self.use("alpha") * tckd + self.use("beta") * nckd)
        # A compiled step cannot look at labels, and a wrong label must not teach.
        return value if y is None else ops.where(labels < classes, value, math.nan)

    def get_config(self) -> dict[str, Any]:
        config = {"alpha": self.alpha, "beta": self.beta, "temperature": self.temperature}
        return {**super().get_config(), **config}


def _decouple(logits: Any, is_target: Any) -> tuple[Any, Any]:
    """Return the log-odds of the target, shape `(batch,)`, and the logits without it."""
    others = ops.where(is_target, _MASKED, logits)
    target = ops.sum(ops.where(is_target, logits, 0.0), axis=-1)
    # From logits: of a probability that rounds to 1, `1 - p` would be 0.
    return target - ops.logsumexp(others, axis=-1), others


def _class_indices(y: Any, logits: tuple[int | None, ...]) -> Any:
    """Return labels of any of the shapes as integers, for logits of the given shape."""
    rank, classes = len(logits), logits[-1]
    shape = None
    if not isinstance(y, dict):
        if isinstance(y, np.ndarray):
            _check_labels(y, logits)
        y = ops.convert_to_tensor(y)
        shape = tuple(y.shape)
        if len(shape) == rank - 1:
            return ops.cast(y, "int32")
        if len(shape) == rank and shape[-1] == 1:
            return ops.cast(y[..., 0], "int32")
        if len(shape) == rank and shape[-1] == classes:
            # `argmax` of a row of zeros is 0, which is a class: such a row has no label.
            return ops.where(ops.max(y, -1) > 0, ops.cast(ops.argmax(y, -1), "int32"), -1)
    raise ValueError(
        "Labels must be integers, one for each sample or position, or one-hot, for logits of shape "
        f"{tuple(logits)}. Received: "
        f"{type(y).__name__ if shape is None else f'labels of shape {shape}'}."
    )


def _check_labels(y: np.ndarray, logits: tuple[int | None, ...]) -> None:
    """Raise `ValueError` if class indices are not classes."""
    classes = logits[-1]
    indices = y.ndim == len(logits) - 1 or (y.ndim == len(logits) and y.shape[-1] == 1)
    if indices and y.size and not (np.all(y < classes) and np.all(y == np.floor(y))):
        raise ValueError(
            f"Labels must be integers below {classes}, as the logits have {classes} classes; a "
            "negative one marks a sample without a label. "
            f"Received: labels from {y.min()} to {y.max()}, dtype {y.dtype}."
        )
