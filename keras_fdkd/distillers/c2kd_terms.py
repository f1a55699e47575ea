"""The terms of C2KD between a teacher, a student and their proxies."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.distillers.rank_correlation import kendall
from keras_fdkd.losses.kd import kl_divergence


def bidirectional_terms(
    logits: dict[str, Any],
    target: Any,
    krc: float = 0.0,
    sample_weight: Any = None,
    dtype: Any = None,
) -> tuple[dict[str, Any], Any]:
    """Return the six divergences of C2KD and which samples are distilled across modalities.

    Each is `mean(KL(softmax(followed) || softmax(follower)))` over the whole batch, with the
    followed logits held constant. By name, followed and follower:

    - `student_proxy_loss`: the student, and its proxy;
    - `student_feedback_loss`: the student's proxy, and the student;
    - `teacher_proxy_loss`: the teacher, and its proxy;
    - `teacher_feedback_loss`: the teacher's proxy, and the teacher;
    - `cross_student_loss`: the teacher's proxy, and the student's proxy;
    - `cross_teacher_loss`: the student's proxy, and the teacher's proxy.

    The last two count only selected samples, and see the true class's logit as 0.

    Args:
        logits: `"student"`, `"teacher"`, `"student_proxy"` and `"teacher_proxy"`, each of shape
            `(batch, classes)`.
        target: Boolean, shape `(batch, classes)`, true at the true class; a row without one is an
            unlabelled sample.
        krc: Float; a sample is selected where Kendall's tau-b of the proxies is above it.
        sample_weight: Shape `(batch,)`, or `None`.
        dtype: Dtype of the divergences. Defaults to `keras.config.floatx()`.

    The selection takes memory of `batch * classes`, see `kendall`. Infinite logits are bounded, as
    in `kl_divergence`.

    Returns:
        The terms, scalars by name, and the selection, boolean of shape `(batch,)`.

    Example:
    >>> import numpy as np
    >>> z = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], "float32")
    >>> logits = {"student": z, "teacher": z, "student_proxy": z, "teacher_proxy": z[::-1].copy()}
    >>> terms, selected = bidirectional_terms(logits, np.eye(3)[:2] > 0)
    >>> round(float(terms["teacher_proxy_loss"]), 2), float(terms["cross_student_loss"])
    (1.15, 0.0)
    """
    divergence = _Divergence(name="divergence", dtype=dtype)
    excess, scale = kendall(logits["teacher_proxy"], logits["student_proxy"])
    # Not divided, so that rounding cannot lift a tau over the threshold.
    selected = ops.logical_and(excess > krc * scale, scale > 0)
    chosen = ops.cast(selected, divergence.dtype)
    if sample_weight is not None:
        chosen = chosen * ops.cast(sample_weight, divergence.dtype)
    terms = {}
    for side in ("student", "teacher"):
        main, proxy = logits[side], logits[f"{side}_proxy"]
        terms[f"{side}_proxy_loss"] = divergence(main, proxy, sample_weight)
        terms[f"{side}_feedback_loss"] = divergence(proxy, main, sample_weight)
    student, teacher = (
        ops.where(target, 0.0, logits[f"{side}_proxy"]) for side in ("student", "teacher")
    )
    terms["cross_student_loss"] = divergence(teacher, student, chosen)
    terms["cross_teacher_loss"] = divergence(student, teacher, chosen)
    return terms, selected


class _Divergence(keras.losses.Loss):
    """`KL(softmax(y_true) || softmax(y_pred))` of logits, with `y_true` constant."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return kl_divergence(ops.stop_gradient(y_true), y_pred)
