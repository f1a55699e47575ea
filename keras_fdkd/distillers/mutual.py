"""MutualDistiller: two modalities that teach each other's students, in one training."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.data.class_weights import with_class_weight
from keras_fdkd.data.pairs import STUDENT, TEACHER_OUTPUTS, has_teacher_outputs
from keras_fdkd.distillers.cross_modal import CrossModalDistiller
from keras_fdkd.distillers.data_checks import guarded
from keras_fdkd.distillers.mutual_checks import BothChecks, check_directions, check_modalities
from keras_fdkd.distillers.replicas import replicas
from keras_fdkd.distillers.training_model import TrainingModel

_LOSSES = "layer_losses"


@keras.saving.register_keras_serializable(package="keras_fdkd")
class MutualDistiller(TrainingModel):
    """Train both directions between two modalities at once, as the authors of FD-CMKD do.

    Use it if you need a student in each modality: one run gives both. Two distillers, each with a
    teacher and a student, share the batches and the optimizer:
    `loss = loss of the first + loss of the second`. They share no variable, so each learns what it
    would learn alone on the same batches.

    Args:
        distillers: Dict with two entries: the name of a modality, and the `CrossModalDistiller`
            (or `FrequencyDistiller`) whose *student* sees this modality and whose *teacher* sees
            the other one.
        **kwargs: See `keras.Model`.

    Call args:
        inputs: Dict with the inputs of each modality, for the student of one distiller and the
            teacher of the other.

    Returns:
        Dict with the predictions of each modality's student.

    Logs:
        `loss`, and everything that the inner distillers log, prefixed with the student's modality:
        `audio_loss`, `audio_task_loss`, `audio_low_loss`, `audio_accuracy`, ...

    Raises:
        ValueError: If there are not two distillers, if they share variables other than
            their teachers', or if a loss of theirs needs the index of each sample. In training, if
            the data are not a dict with both modalities.

    Example:
    >>> import numpy as np
    >>> from keras_fdkd import FrequencyDistiller
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = MutualDistiller({
    ...     "audio": FrequencyDistiller(teacher=model(6), student=model(4)),
    ...     "video": FrequencyDistiller(teacher=model(4), student=model(6)),
    ... })
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss, metrics=["accuracy"])
    >>> x = {"audio": np.ones((8, 4), "float32"), "video": np.ones((8, 6), "float32")}
    >>> history = distiller.fit(x, np.zeros(8, "int32"), verbose=0).history
    >>> [name for name in sorted(history) if name.startswith("audio")]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['audio_accuracy', 'audio_align_loss', 'audio_high_loss', 'audio_high_similarity',
     'audio_loss', 'audio_low_loss', 'audio_low_similarity', 'audio_task_loss']
    >>> sorted(distiller.predict(x, verbose=0))
    ['audio', 'video']
    """

    def __init__(self, distillers: Mapping[str, CrossModalDistiller], **kwargs: Any) -> None:
        check_directions(distillers)
        policies = [inner.dtype_policy for inner in distillers.values()]
        # Loss scaling follows the dtype policy: it is needed if one side asks for it.
        scaled = [policy for policy in policies if policy.name == "mixed_float16"]
        kwargs.setdefault("dtype", (scaled or policies)[0])
        super().__init__(**kwargs)
        self.autocast = False  # Each model casts its own inputs.
        self.supports_masking = True  # Recorded outputs may carry masks.
        self._names = tuple(distillers)
        # Attributes with parameters of their own: PyTorch finds only one of those with equal paths.
        self._first, self._second = distillers.values()
        for inner in distillers.values():
            inner._post_build()
        self._sides = [_Logs(name, inner) for name, inner in distillers.items()]
        self.built = True

    @property
    def distillers(self) -> dict[str, CrossModalDistiller]:
        """The inner distillers by the modality of their students."""
        return dict(zip(self._names, (self._first, self._second), strict=True))

    @property
    def metrics(self) -> list:
        return [self._loss_tracker, *self._sides] if self.compiled else []

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure training, see `keras.Model.compile`.

        Both distillers are compiled with the loss and their own copies of the metrics, without an
        optimizer; to train one alone afterwards, compile it again.

        Args:
            optimizer: Trains both.
            loss: Loss of each student's task, on the shared labels.
            loss_weights: See `keras.Model.compile`, for each student.
            metrics: See `keras.Model.compile`, for each student.
            weighted_metrics: See `keras.Model.compile`, for each student.
            **kwargs: See `keras.Model.compile`.
        """
        for inner in self.distillers.values():
            own = {"metrics": _copies(metrics), "weighted_metrics": _copies(weighted_metrics)}
            inner.compile(None, loss, loss_weights, **own)
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, **kwargs)
        # Keras asks these whether the first batch must build them: both sides do, or neither.
        self._compile_loss = self._first._compile_loss
        self._compile_metrics = self._first._compile_metrics

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs: Any, training: bool = False) -> Any:
        check_modalities(inputs, self._names)
        outputs = {}
        for name, inner in self.distillers.items():
            outputs[name] = inner(inputs[name], training=training)
            if has_teacher_outputs(inputs[name]):
                outputs[name][_LOSSES] = inner.losses
        return outputs

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train both students, see `keras.Model.fit`.

        Args:
            x: Dict with the inputs of both modalities for the same samples, named like the
                distillers; or a data set that yields `(x, y)` or `(x, y, sample_weight)`.
            y: Labels, of both students' tasks.
            *args: See `keras.Model.fit`.
            **kwargs: See `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.
        """
        checks = BothChecks({name: inner._data_checks() for name, inner in self.distillers.items()})
        if y is not None or isinstance(x, Mapping):
            checks.arrays(x, y)
        else:
            x = guarded(x, checks)
            x, kwargs = with_class_weight(x, kwargs)
        teachers = [inner._teacher for inner in self.distillers.values()]
        for teacher in teachers:
            teacher.hold(True)
        try:
            return super().fit(x, y, *args, **kwargs)
        finally:
            for teacher in teachers:
                teacher.hold(False)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measure both students, see `keras.Model.evaluate`.

        Raises:
            ValueError: If the data are not a dict with both modalities of the same samples.
        """
        if y is not None:
            check_modalities(x, self._names)
        return super().evaluate(x, y, *args, **kwargs)

    def _frozen_teachers(self) -> list[keras.Model]:
        return [
            teacher for inner in self.distillers.values() for teacher in inner._frozen_teachers()
        ]

    def _check_teacher(self, filepath: Any) -> None:
        for inner in self.distillers.values():
            inner._check_teacher(filepath)

    def _with_teacher_outputs(self, data: Any, state: Any = None, *, train: bool) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        check_modalities(x, self._names)
        values = None if state is None else state[1]
        step = self._step_number(state) if train else None
        pairs = {}
        for (name, inner), other in zip(
            self.distillers.items(), reversed(self.distillers), strict=True
        ):
            outputs = inner._run_teacher(x[other], self.non_trainable_variables, values, step)
            pairs[name] = {STUDENT: x[name], TEACHER_OUTPUTS: outputs}
        return keras.utils.pack_x_y_sample_weight(pairs, y, sample_weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        total = 0.0
        for name, inner in self.distillers.items():
            losses, outputs = _split(x[name], y_pred[name])
            # Private: `losses` returns these instead of its own, as when Keras passes them on JAX.
            inner._losses_override[:] = losses
            try:
                value = inner.compute_loss(x[name], y, outputs, sample_weight, training)
            finally:
                inner._losses_override.clear()
            inner._loss_tracker.update_state(value * replicas(), sample_weight=size)
            total = total + value
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        for name, inner in self.distillers.items():
            _, outputs = _split(x[name], y_pred[name])
            with inner._in_stage("test"):  # Its metrics are read through `get_metrics_result`.
                inner.compute_metrics(x[name], y, outputs, sample_weight)
        return self.get_metrics_result()

    def get_config(self) -> dict[str, Any]:
        distillers = {
            name: keras.saving.serialize_keras_object(inner)
            for name, inner in self.distillers.items()
        }
        return {**super().get_config(), "distillers": distillers}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        distillers = {
            name: keras.saving.deserialize_keras_object(inner, custom_objects=custom_objects)
            for name, inner in config["distillers"].items()
        }
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(**{**config, "distillers": distillers, "dtype": dtype})


class _Logs(keras.metrics.Metric):
    """The metrics of one distiller, with the name of its modality as prefix."""

    def __init__(self, name: str, distiller: CrossModalDistiller) -> None:
        super().__init__(name=name)
        self._distiller = distiller

    @property
    def variables(self) -> list:
        return self._distiller.metrics_variables

    def reset_state(self) -> None:
        self._distiller.reset_metrics()

    def result(self) -> dict[str, Any]:
        logs = self._distiller._own_metrics()
        return {f"{self.name}_{name}": value for name, value in logs.items()}


def _split(x: Any, y_pred: Any) -> tuple[list, Any]:
    """Separate the losses of layers from what a distiller returned."""
    if not has_teacher_outputs(x):
        return [], y_pred
    return y_pred[_LOSSES], {name: y_pred[name] for name in y_pred if name != _LOSSES}


def _copies(metrics: Any) -> Any:
    """Return copies of metrics that hold state, because each counts for one student."""
    return keras.tree.map_structure(
        lambda metric: (
            type(metric).from_config(metric.get_config())
            if isinstance(metric, keras.metrics.Metric)
            else metric
        ),
        metrics,
    )
