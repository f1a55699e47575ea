"""CrossModalDistiller: a teacher and a student that see different inputs."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.data import STUDENT, TEACHER, TEACHER_OUTPUTS, check_pair, is_pair
from keras_fdkd.distillers.teacher_pass import teacher_pass
from keras_fdkd.features import PREDICTIONS, FeatureTap


class CrossModalDistiller(keras.Model):
    """Base of the distillers: one frozen teacher pass and one student pass a step.

    A subclass says what to compare (`compare`, where trainable layers run) and how to score it
    (`terms`). Everything else is Keras's own training step: gradient, loss scaling, distribution,
    optimizer, metrics.

    Args:
        teacher: Built `keras.Model`. It is frozen in place and runs in inference mode.
        student: Built `keras.Model` with inputs of its own.
        teacher_features, student_features: Where to read the feature of each model, see
            `keras_fdkd.features.FeatureTap`.
        logs: Names of the terms and monitors that `terms` returns; they appear in the logs besides
            `task_loss`.
        **kwargs: See `keras.Model`.

    Raises:
        ValueError: If a model is not a built `keras.Model`, a feature cannot be found, or the
            models share layers.

    Example:
    >>> import numpy as np
    >>> class FeatureDistiller(CrossModalDistiller):
    ...     def compare(self, teacher, student):
    ...         return {"teacher": teacher["features"], "student": student["features"]}
    ...     def terms(self, compared, y, sample_weight):
    ...         loss = keras.losses.CosineSimilarity()
    ...         value = loss(compared["teacher"], compared["student"], sample_weight)
    ...         return {"cosine_loss": (1.0, value)}, {}
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = FeatureDistiller(model(6), model(4), logs=("cosine_loss",))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss)
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> sorted(distiller.fit(x, np.zeros(8, "int32"), verbose=0).history)
    ['cosine_loss', 'loss', 'task_loss']
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        *,
        teacher_features: "str | keras.KerasTensor | None" = None,
        student_features: "str | keras.KerasTensor | None" = None,
        logs: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        teacher_tap = FeatureTap(teacher, {"features": teacher_features}, TEACHER)
        student_tap = FeatureTap(student, {"features": student_features}, STUDENT)
        # Loss scaling follows the dtype policy: it is the student that trains.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # Each model casts its own inputs.
        _check_disjoint(teacher, student)
        _check_input_names(student)
        self.teacher = teacher
        self.student = student
        self._teacher_tap = teacher_tap
        self._student_tap = student_tap
        self._trackers = {name: keras.metrics.Mean(name=name) for name in ("task_loss", *logs)}
        self.teacher.trainable = False
        if isinstance(student_tap.spec[PREDICTIONS], (list, tuple)):
            self.output_names = student.output_names  # Losses and metrics by name, as in Keras.
        self.built = True

    def compare(self, teacher: dict[str, Any], student: dict[str, Any]) -> dict[str, Any]:
        """Return what the terms need, from the outputs of both taps. Runs inside `call`."""
        return {}

    def terms(
        self, compared: dict[str, Any], y: Any, sample_weight: Any
    ) -> tuple[dict[str, tuple[float, Any]], dict[str, Any]]:
        """Return `{name: (weight, scalar)}` to add to the loss, and `{name: scalar}` to log."""
        return {}, {}

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.Model.trainable.fset(self, value)
        self.teacher.trainable = False  # Keras recurses into sublayers.

    def call(self, inputs: Any, training: bool = False) -> Any:
        student_inputs = inputs[STUDENT] if is_pair(inputs) else inputs
        student = self._student_tap(student_inputs, training=training)
        if not (is_pair(inputs) and TEACHER_OUTPUTS in inputs):
            return student[PREDICTIONS]
        compared = self.compare(inputs[TEACHER_OUTPUTS], student)
        return {PREDICTIONS: student[PREDICTIONS], **compared}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure training, see `keras.Model.compile`."""
        self.teacher.trainable = False
        super().compile(*args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        self.teacher.trainable = False
        return super().train_on_batch(*args, **kwargs)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train the student, see `keras.Model.fit`.

        Args:
            x: `{"teacher": inputs, "student": inputs}`, each side any nested structure of arrays;
                the teacher's features may stand in for its inputs as
                `"teacher_outputs": {"features": array}`;
                or a `tf.data.Dataset`, `keras.utils.PyDataset` or torch `DataLoader` of
                `(x, y)` or `(x, y, sample_weight)`. Validation data may hold the student's
                inputs alone.
            y: Labels of the student's task.
            *args: See `keras.Model.fit`.
            **kwargs: See `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.
        """
        self.teacher.trainable = False
        # Anything but arrays is a data set, which yields the pair: `train_step` checks it.
        if y is not None:
            check_pair(x)
        return super().fit(x, y, *args, **kwargs)

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        return super().train_step(*state, self._with_teacher_outputs(data, *state, train=True))

    def test_step(self, *args: Any) -> Any:
        *state, data = args
        return super().test_step(*state, self._with_teacher_outputs(data, *state, train=False))

    def _with_teacher_outputs(self, data: Any, state: Any = None, *, train: bool) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if train:
            check_pair(x)
        if is_pair(x) and TEACHER in x:
            values = None if state is None else state[1]
            outputs = teacher_pass(
                self._teacher_tap, x[TEACHER], self.non_trainable_variables, values
            )
            x = {STUDENT: x[STUDENT], TEACHER_OUTPUTS: outputs}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        predictions, compared = _split(x, y_pred)
        logs = {"task_loss": self._task_loss(x, y, predictions, sample_weight, training)}
        total = logs["task_loss"]
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        if compared is not None:
            terms, monitors = self.terms(compared, y, _per_sample(sample_weight, size))
            for name, (weight, value) in terms.items():
                total = total + weight * value
                logs[name] = value
            logs.update(monitors)
        for name, value in logs.items():
            self._trackers[name].update_state(value, sample_weight=size)
        return total

    def _task_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        """What plain training of the student would minimize."""
        if self.loss is None and not self.losses:
            return ops.zeros(())
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        predictions, compared = _split(x, y_pred)
        logs = super().compute_metrics(x, y, predictions, sample_weight)
        if compared is None:  # The student alone: its task is all there is to report.
            logs = {name: logs[name] for name in logs if name not in self._pair_logs}
        return logs

    @property
    def _pair_logs(self) -> set[str]:
        return set(self._trackers) - {"task_loss"}

    def get_config(self) -> dict[str, Any]:
        config = {
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher_features": self._teacher_tap.paths["features"],
            "student_features": self._student_tap.paths["features"],
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
                if isinstance(value, Mapping) and "class_name" in value
                else value
                for name, value in config.items()
            }
        )


def _split(x: Any, y_pred: Any) -> tuple[Any, dict[str, Any] | None]:
    """Separate the student's predictions from what `compare` returned, if it ran."""
    if not (is_pair(x) and TEACHER_OUTPUTS in x):
        return y_pred, None
    return y_pred[PREDICTIONS], {name: y_pred[name] for name in y_pred if name != PREDICTIONS}


def _per_sample(sample_weight: Any, size: Any) -> Any:
    """One weight a sample, which is what a distillation term can use."""
    if sample_weight is None:
        return None
    if not keras.tree.is_nested(sample_weight):
        # TensorFlow's adapters give weights of unknown rank.
        return ops.mean(ops.reshape(sample_weight, (size, -1)), axis=-1)
    raise ValueError(
        "The terms of distillation take one weight a sample. With weights of their own for several "
        f"outputs they have none. Received: {type(sample_weight).__name__} of sample weights."
    )


def _check_disjoint(teacher: keras.Model, student: keras.Model) -> None:
    ids = {id(variable) for variable in teacher.variables}
    shared = [variable.path for variable in student.variables if id(variable) in ids]
    if shared:
        raise ValueError(
            "Teacher and student must not share layers: freezing the teacher would freeze the "
            "student's. Build one of them anew, or use `keras.models.clone_model`. "
            f"Received shared variables: {shared}."
        )


def _check_input_names(student: keras.Model) -> None:
    inputs = getattr(student, "input", None)
    if isinstance(inputs, Mapping) and is_pair(inputs):
        raise ValueError(
            'The student\'s inputs must not be named like the sides of a pair, "teacher" and '
            f'"student". Received input names: {sorted(inputs)}.'
        )
