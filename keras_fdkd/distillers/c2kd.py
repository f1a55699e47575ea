"""C2KDDistiller: cross-modal distillation with a teacher that is trained too."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import is_number
from keras_fdkd.data.pairs import (
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    check_samples,
    has_teacher_outputs,
    with_samples_of,
)
from keras_fdkd.distillers.c2kd_terms import bidirectional_terms
from keras_fdkd.distillers.cross_modal import CrossModalDistiller
from keras_fdkd.distillers.masks import both
from keras_fdkd.distillers.output_checks import check_logits_end
from keras_fdkd.distillers.task import loss_of_output
from keras_fdkd.distillers.teachers import TrainedTeacher, refuse_outputs
from keras_fdkd.features import FEATURES, PREDICTIONS, check_model
from keras_fdkd.layers.logit_proxy import LogitProxy
from keras_fdkd.recorded_teacher import RecordedTeacher

_HALF = "mixed_float16"
_CATEGORICAL = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
)


@keras.saving.register_keras_serializable(package="keras_fdkd")
class C2KDDistiller(CrossModalDistiller):
    """Train a student with a teacher of another modality that learns from it in turn (C2KD).

    For classification with modalities so different that a student cannot follow a fixed teacher, if
    the teacher may change and can run in each step.

    Next to each model stands a proxy, a small classifier on an inner feature. Model and proxy
    follow each other's predictions, and the proxies follow each other's across the modalities, in
    both directions, but only for samples whose classes they rank alike (Kendall's tau-b above
    `krc`), and only in the classes other than the true one (its logit is set to 0)::

        loss = task_loss + teacher_loss + student_proxy_loss + student_feedback_loss
               + teacher_proxy_loss + teacher_feedback_loss + cross_student_loss
               + cross_teacher_loss

    **The teacher is changed**: it is trained in place, with batch normalization and dropout in
    training mode. Clone it first if you need it as it was. Start from a teacher trained on its own.

    Args:
        teacher: Built `keras.Model` with logits of shape `(batch, classes)` and weights to train.
        student: Built `keras.Model` with the same number of logits, and its own inputs.
        teacher_features: Where the teacher's proxy reads, see `keras_fdkd.features.FeatureTap`: a
            vector, sequence or map of shape `(batch, ..., channels)`, averaged over the axes
            between. Defaults to `None`, the input of the `Dense` layer that makes the
            predictions; the authors read the third of four residual stages.
        student_features: The same for the student's proxy. Defaults to `None`.
        krc: Float in [-1, 1), the Kendall rank correlation above which a sample is distilled across
            the modalities. Defaults to `0.0`, as in the authors' code.
        **kwargs: See `keras.Model`.

    Logs:
        `loss`; `task_loss` and `teacher_loss`, the compiled cross-entropy of student and teacher;
        the six divergences named in the sum above; `selected`, the share of samples distilled
        across the modalities; and the compiled metrics, of the student. `task_loss` includes what
        the regularizers of both models add.

    Labels are class indices or one-hot. With `ignore_class=-1` in the compiled loss, the label -1
    marks unlabelled samples, which take part in all divergences.

    Raises:
        ValueError: If the models' logits do not fit each other, a feature has no known channels, or
            the teacher has nothing to train. At `compile`, if `loss` is not a categorical
            cross-entropy on logits. In training, if the data hold the teacher's outputs.

    Example:
    >>> import numpy as np
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = C2KDDistiller(teacher=model(6), student=model(4))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss)
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> history = distiller.fit(x, np.zeros(8, "int32"), verbose=0)
    >>> sorted(history.history)  # doctest: +NORMALIZE_WHITESPACE
    ['cross_student_loss', 'cross_teacher_loss', 'loss', 'selected', 'student_feedback_loss',
     'student_proxy_loss', 'task_loss', 'teacher_feedback_loss', 'teacher_loss',
     'teacher_proxy_loss']

    References:
        - Huo et al., "C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation",
          CVPR 2024; what its text leaves open as in
          [huofushuo/C2KD](https://github.com/huofushuo/C2KD).
    """

    _teacher_class = TrainedTeacher
    _align_loss: Any = None  # the cross-entropy of both models, once compiled

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        *,
        teacher_features: "str | keras.KerasTensor | None" = None,
        student_features: "str | keras.KerasTensor | None" = None,
        krc: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if isinstance(teacher, (Mapping, RecordedTeacher)):
            raise ValueError(
                "`C2KDDistiller` trains the teacher along, which must be one `keras.Model`. "
                f"Received: teacher={teacher!r}."
            )
        # Before `super().__init__`, because their dtype policies are read below.
        check_model(teacher, TEACHER)
        check_model(student, STUDENT)
        if not is_number(krc) or not -1 <= krc < 1:
            raise ValueError(f"`krc` must be a number in [-1, 1). Received: krc={krc!r}.")
        # Loss scaling follows the dtype policy, and here both models train.
        scaled = [m.dtype_policy for m in (student, teacher) if m.dtype_policy.name == _HALF]
        kwargs.setdefault("dtype", (scaled or [student.dtype_policy])[0])
        super().__init__(
            teacher,
            student,
            losses=None,
            loss_weights=None,
            teacher_features=teacher_features,
            student_features=student_features,
            logs=(
                "teacher_loss",
                "student_proxy_loss",
                "student_feedback_loss",
                "teacher_proxy_loss",
                "teacher_feedback_loss",
                "cross_student_loss",
                "cross_teacher_loss",
                "selected",
            ),
            **kwargs,
        )
        if not teacher.trainable_variables:
            raise ValueError(
                "The teacher is trained along with the student: set `teacher.trainable = True` "
                "(it may have been frozen as the teacher of another distiller). "
                f"Received: model '{teacher.name}' without trainable variables."
            )
        self._krc = krc
        classes = _count_classes(
            self._teacher_tap.spec[PREDICTIONS], self._student_tap.spec[PREDICTIONS]
        )
        for side, tap in ((TEACHER, self._teacher_tap), (STUDENT, self._student_tap)):
            check_logits_end("C2KDDistiller", side, tap, PREDICTIONS)
        self.teacher_proxy = LogitProxy(classes, dtype=self.dtype_policy, name="teacher_proxy")
        self.student_proxy = LogitProxy(classes, dtype=self.dtype_policy, name="student_proxy")
        self.teacher_proxy.build(self._teacher_tap.spec[FEATURES].shape)
        self.student_proxy.build(self._student_tap.spec[FEATURES].shape)

    @property
    def krc(self) -> float:
        """The rank correlation above which samples are distilled; fixed once the step compiles."""
        return self._krc

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure training, see `keras.Model.compile`.

        Raises:
            ValueError: If `loss` is not a categorical cross-entropy on logits.
        """
        super().compile(*args, **kwargs)
        # If the new loss is refused, that of an earlier `compile` must not stay.
        self._align_loss = None
        loss = loss_of_output(self.loss, None)
        if type(loss) not in _CATEGORICAL or not loss.get_config()["from_logits"]:
            raise ValueError(
                "`C2KDDistiller` compares the logits of both models: let them end without softmax "
                "and compile with `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`, "
                "or the same of `CategoricalCrossentropy`. "
                f"Received: loss={self.loss!r}."
            )
        self._align_loss = loss

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not has_teacher_outputs(inputs):
            return super().call(inputs, training=training)
        check_samples(inputs)
        teacher = self._teacher.in_call(inputs[TEACHER_OUTPUTS], training)
        teacher = with_samples_of(inputs[STUDENT], teacher)
        student = self._student_tap(inputs[STUDENT], training=training)
        return {
            PREDICTIONS: student[PREDICTIONS],
            "student": student[PREDICTIONS],
            "teacher": teacher[PREDICTIONS],
            "student_proxy": self._proxy(self.student_proxy, student, training),
            "teacher_proxy": self._proxy(self.teacher_proxy, teacher, training),
        }

    @staticmethod
    def _proxy(proxy: LogitProxy, outputs: dict[str, Any], training: bool) -> Any:
        mask = both([outputs["features_mask"]]) if "features_mask" in outputs else None
        masked = {} if mask is None else {"mask": mask}
        return proxy(outputs[FEATURES], training=training, **masked)

    def predict_teacher(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Refuse: the teacher changes in each step."""
        return refuse_outputs()

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, Mapping) and TEACHER_OUTPUTS in x:
            refuse_outputs()
        return super().fit(x, *args, **kwargs)

    def _check_pair(self, x: Any) -> None:
        if isinstance(x, Mapping) and TEACHER_OUTPUTS in x:
            refuse_outputs()
        super()._check_pair(x)

    def terms(
        self, compared: dict[str, Any], y: Any, sample_weight: Any
    ) -> tuple[dict[str, tuple[float, Any]], dict[str, Any]]:
        # By default a loss computes in `floatx`, which would round those of a float64 student.
        divergences, selected = bidirectional_terms(
            compared, self._target(y), self.krc, sample_weight, self.student.variable_dtype
        )
        teacher_loss = self._label_loss(y, compared["teacher"], sample_weight)
        terms = {"teacher_loss": teacher_loss, **divergences}
        share = ops.mean(ops.cast(selected, "float32"))
        return {name: (1.0, value) for name, value in terms.items()}, {"selected": share}

    def _target(self, y: Any) -> Any:
        """Return where the true class is, boolean of shape `(batch, classes)`."""
        classes = ops.arange(self._student_tap.spec[PREDICTIONS].shape[-1], dtype="int32")
        if isinstance(self._align_loss, keras.losses.CategoricalCrossentropy):
            # A row of zeros has no true class; `argmax` would make it the first one.
            true = ops.cast(ops.argmax(y, axis=-1), "int32")[:, None]
            return ops.logical_and(ops.equal(true, classes), ops.max(y, -1, keepdims=True) > 0)
        labels = ops.reshape(ops.cast(y, "int32"), (-1, 1))
        target = ops.equal(labels, classes)
        ignored = self._align_loss.get_config()["ignore_class"]
        return (
            target if ignored is None else ops.logical_and(target, ops.not_equal(labels, ignored))
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # Arguments of the base class that this one does not take.
        for name in ("losses", "loss_weights", "time_steps", "task_output"):
            config.pop(name)
        return {**config, "krc": self.krc}


def _count_classes(teacher: Any, student: Any) -> int:
    classes, other = (
        (logits.shape[1] or 0) if len(getattr(logits, "shape", ())) == 2 else 0
        for logits in (teacher, student)
    )
    if classes < 2 or classes != other:
        raise ValueError(
            "Teacher and student must each have one output of shape (batch, classes) with the same "
            f"2 or more classes. Received: teacher {teacher}, student {student}."
        )
    return classes
