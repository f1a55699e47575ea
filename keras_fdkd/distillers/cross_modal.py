"""CrossModalDistiller: a teacher and a student that see different inputs."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.data import INDEX, STUDENT, TEACHER, TEACHER_OUTPUTS, check_pair, is_pair
from keras_fdkd.distillers.align_loss import check_labels, is_on_probabilities
from keras_fdkd.distillers.checks import check_disjoint, check_input_names, per_sample
from keras_fdkd.distillers.loss_terms import LossTerms
from keras_fdkd.distillers.teacher_pass import teacher_pass
from keras_fdkd.features import FEATURES, PREDICTIONS, FeatureTap

_LOSSES = "losses"


@keras.saving.register_keras_serializable(package="keras_fdkd")
class CrossModalDistiller(keras.Model):
    """Train a student with a frozen teacher that sees another modality, by any losses.

    `loss = task_loss + sum(weight * distillation_loss)`, with one teacher pass and one student
    pass a step. The losses are `keras.distillation.DistillationLoss` objects: Keras's own
    `LogitsDistillation` and `FeatureDistillation`, those of `keras_fdkd.losses`, or yours.
    Gradient, loss scaling, distribution, optimizer and metrics are those of Keras's own training
    step.

    A layer name in a loss may be a path through nested models (`"backbone/pool"`). Without one,
    Keras's losses compare the predictions; those of `keras_fdkd.losses` compare the predictions
    (which must be logits) or the features, as each says.

    A subclass may add terms: `compare` says what to compare (trainable layers run there) and
    `terms` how to score it.

    Args:
        teacher: Built `keras.Model`. It is frozen in place and runs in inference mode.
        student: Built `keras.Model` with inputs of its own.
        losses: List of `keras.distillation.DistillationLoss`. Defaults to `None`, for subclasses
            that add terms of their own.
        loss_weights: List of numbers >= 0, one for each of `losses`. Defaults to `None`: ones. The
            weight of the task loss is `compile(loss_weights=...)`.
        teacher_features, student_features: Where to read the feature of each model, see
            `keras_fdkd.features.FeatureTap`.
        logs: Names of the terms and monitors that `terms` returns; they appear in the logs besides
            `task_loss` and one term for each of `losses`, such as `logits_distillation_loss`.
        **kwargs: See `keras.Model`.

    Raises:
        ValueError: If a model is not a built `keras.Model`, a feature cannot be found, outputs do
            not fit a loss, there is nothing to distil, or the models share layers. In training
            with sample weights, if a loss is Keras's own: those cannot take them.

    Example:
    >>> import numpy as np
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> kd = keras.distillation.LogitsDistillation(4.0, loss=keras.losses.KLDivergence())
    >>> distiller = CrossModalDistiller(model(6), model(4), losses=[kd])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss)
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> sorted(distiller.fit(x, np.zeros(8, "int32"), verbose=0).history)
    ['logits_distillation_loss', 'loss', 'task_loss']

    Terms of one's own:

    >>> class FeatureDistiller(CrossModalDistiller):
    ...     def compare(self, teacher, student, training):
    ...         return {"teacher": teacher["features"], "student": student["features"]}
    ...     def terms(self, compared, y, sample_weight):
    ...         loss = keras.losses.CosineSimilarity()
    ...         value = loss(compared["teacher"], compared["student"], sample_weight)
    ...         return {"cosine_loss": (1.0, value)}, {}
    >>> distiller = FeatureDistiller(model(6), model(4), logs=("cosine_loss",))
    >>> distiller.compile("adam", loss=loss)
    >>> sorted(distiller.fit(x, np.zeros(8, "int32"), verbose=0).history)
    ['cosine_loss', 'loss', 'task_loss']
    """

    _losses_argument = "losses"  # what a subclass calls it, for messages
    _align_loss: Any = None  # the cross-entropy of logits that a subclass adds, once compiled

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        *,
        losses: "list[keras.distillation.DistillationLoss] | None" = None,
        loss_weights: list[float] | None = None,
        teacher_features: "str | keras.KerasTensor | None" = None,
        student_features: "str | keras.KerasTensor | None" = None,
        logs: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        terms = LossTerms(losses, loss_weights, self._losses_argument)
        own_terms = type(self).terms is not CrossModalDistiller.terms
        if not (terms.losses or own_terms):
            raise ValueError("Without `losses` there is nothing to distil. Received: losses=None.")
        reads, taps = {}, {}
        for role, model, where in (
            (TEACHER, teacher, teacher_features),
            (STUDENT, student, student_features),
        ):
            reads[role] = terms.reads(role)
            if own_terms or FEATURES in reads[role]:
                reads[role][FEATURES] = where
            elif where is not None:
                raise ValueError(
                    f"None of the losses reads `{role}_features`. Give the path to a loss, or "
                    f"leave it out. Received: {role}_features={where!r}."
                )
            inner = {name: path for name, path in reads[role].items() if name != PREDICTIONS}
            taps[role] = FeatureTap(model, inner, role)
        teacher_tap, student_tap = taps[TEACHER], taps[STUDENT]
        # Loss scaling follows the dtype policy: it is the student that trains.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(**kwargs)
        self.autocast = False  # Each model casts its own inputs.
        check_disjoint(teacher, student)
        check_input_names(student)
        self.teacher = teacher
        self.student = student
        self._teacher_tap = teacher_tap
        self._student_tap = student_tap
        self._loss_terms = terms
        self._teacher_reads = set(reads[TEACHER])
        for name, adapter in terms.build(teacher_tap.spec, student_tap.spec).items():
            # Attributes, not a dict: PyTorch clears the gradients of the modules it finds in these,
            # and two adapters may name their weights alike.
            setattr(self, f"{name}_adapter", adapter)
        names = ("task_loss", *(f"{name}_loss" for name in terms.losses), *logs)
        if repeated := sorted({name for name in names if names.count(name) > 1 or name == "loss"}):
            raise ValueError(
                "Two terms must not have one name in the logs: give the loss another `name`. "
                f"Received twice: {repeated}."
            )
        self._logs = tuple(logs)
        self._trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self._freeze_teacher()
        if isinstance(student_tap.spec[PREDICTIONS], (list, tuple)):
            self.output_names = student.output_names  # Losses and metrics by name, as in Keras.
        self.built = True

    @property
    def adapters(self) -> dict[str, keras.Layer]:
        """The trainable layers of the losses that have some, by the name of the loss."""
        names = self._loss_terms.losses
        found = {name: getattr(self, f"{name}_adapter", None) for name in names}
        return {name: adapter for name, adapter in found.items() if adapter is not None}

    def _freeze_teacher(self) -> None:
        self.teacher.trainable = False

    def compare(
        self, teacher: dict[str, Any], student: dict[str, Any], training: bool
    ) -> dict[str, Any]:
        """Return what the terms need, from the outputs of both taps. Runs inside `call`.

        Hand `training` on to layers that ask for it: on JAX they cannot find it out themselves.
        """
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
        self._freeze_teacher()  # Keras recurses into sublayers.

    def call(self, inputs: Any, training: bool = False) -> Any:
        student_inputs = inputs[STUDENT] if is_pair(inputs) else inputs
        student = self._student_tap(student_inputs, training=training)
        if not (is_pair(inputs) and TEACHER_OUTPUTS in inputs):
            return student[PREDICTIONS]
        teacher = inputs[TEACHER_OUTPUTS]
        compared = self.compare(teacher, student, training)
        if self._loss_terms.losses:
            compared[_LOSSES] = self._loss_terms.compare(
                self.adapters, teacher, student, training, inputs.get(INDEX) if training else None
            )
        return {PREDICTIONS: student[PREDICTIONS], **compared}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure training, see `keras.Model.compile`.

        Raises:
            ValueError: If `loss` is a cross-entropy on probabilities, and a distillation loss of
                this package compares predictions, which must be logits.
        """
        self._freeze_teacher()
        super().compile(*args, **kwargs)
        if self._loss_terms.needs_logits and is_on_probabilities(self.loss):
            raise ValueError(
                "A distillation loss compares logits: let both models end without softmax and "
                "compile with a cross-entropy of `from_logits=True`. "
                f"Received: loss={self.loss!r}."
            )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:  # Inside a `MutualDistiller` there is none.
            self.optimizer.build(self.trainable_variables)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        self._freeze_teacher()
        return super().train_on_batch(*args, **kwargs)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train the student, see `keras.Model.fit`.

        Args:
            x: `{"teacher": inputs, "student": inputs}`, each side any nested structure of arrays;
                the teacher's outputs may stand in for its inputs, as
                `"teacher_outputs": {"features": array}`, with what the losses read of it;
                `"index"`, the number of each sample, for losses that ask for it;
                or a `tf.data.Dataset`, `keras.utils.PyDataset` or torch `DataLoader` of
                `(x, y)` or `(x, y, sample_weight)`. Validation data may hold the student's
                inputs alone.
            y: Labels of the student's task.
            *args: See `keras.Model.fit`.
            **kwargs: See `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.
        """
        self._freeze_teacher()
        # Anything but arrays is a data set, which yields the pair: `train_step` checks it.
        if y is not None:
            self._check_pair(x)
            self._check_labels(y)
        return super().fit(x, y, *args, **kwargs)

    def predict_teacher(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Run the teacher once over its inputs.

        Args:
            inputs: Of the teacher, arrays.
            batch_size: See `keras.Model.predict`.

        Returns:
            Dict of NumPy arrays, what training reads of the teacher. As `"teacher_outputs"` it
            stands in for `"teacher"` in the data, and training then runs no teacher. What the
            teacher's inputs would be augmented by is left out.
        """
        outputs = self._teacher_tap.predict(inputs, batch_size)
        return {name: outputs[name] for name in self._teacher_reads}

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        return super().train_step(*state, self._with_teacher_outputs(data, *state, train=True))

    def test_step(self, *args: Any) -> Any:
        *state, data = args
        return super().test_step(*state, self._with_teacher_outputs(data, *state, train=False))

    def _with_teacher_outputs(self, data: Any, state: Any = None, *, train: bool) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if train:
            self._check_pair(x)
        if is_pair(x) and TEACHER in x:
            values = None if state is None else state[1]
            outputs = self._run_teacher(x[TEACHER], self.non_trainable_variables, values)
            x = {**{key: x[key] for key in x if key != TEACHER}, TEACHER_OUTPUTS: outputs}
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def _run_teacher(self, inputs: Any, variables: list, values: list | None) -> Any:
        """Return what `call` reads of the teacher. `variables` are those of the trained model."""
        return teacher_pass(self._teacher_tap, inputs, variables, values)

    def _check_pair(self, x: Any) -> None:
        check_pair(x, self._teacher_reads, self._loss_terms.needs_index)

    def _check_labels(self, y: Any) -> None:
        if self._align_loss is not None and hasattr(y, "shape"):
            classes = self._student_tap.spec[PREDICTIONS].shape[-1]
            check_labels(ops.convert_to_numpy(y), self._align_loss, classes)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        predictions, compared = _split(x, y_pred)
        weights = _copies(sample_weight)
        logs = {"task_loss": self._task_loss(x, y, predictions, weights, training)}
        total = logs["task_loss"]
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        if compared is not None:
            sample_weight = per_sample(sample_weight, size)
            added = self._loss_terms.terms(compared.pop(_LOSSES, {}), y, sample_weight)
            terms, monitors = self.terms(compared, y, sample_weight)
            for name, (weight, value) in {**added, **terms}.items():
                total = total + weight * value
                logs[name] = value
            logs.update(monitors)
        for name, value in logs.items():
            self._trackers[name].update_state(value, sample_weight=size)
        return total

    def _label_loss(self, y: Any, logits: Any, sample_weight: Any) -> Any:
        """Return the cross-entropy of the logits that a subclass adds."""
        return self._align_loss(y, logits, sample_weight=_copies(sample_weight))

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
            "teacher_features": self._teacher_tap.paths.get(FEATURES),
            "student_features": self._student_tap.paths.get(FEATURES),
            "losses": [
                keras.saving.serialize_keras_object(loss)
                for loss in self._loss_terms.losses.values()
            ],
            "loss_weights": list(self._loss_terms.weights.values()),
        }
        if type(self).__init__ is CrossModalDistiller.__init__:
            config["logs"] = self._logs  # A subclass with its own knows which it has.
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
                if isinstance(value, (Mapping, list))
                else value
                for name, value in config.items()
            }
        )


def _split(x: Any, y_pred: Any) -> tuple[Any, dict[str, Any] | None]:
    """Separate the student's predictions from what `compare` returned, if it ran."""
    if not (is_pair(x) and TEACHER_OUTPUTS in x):
        return y_pred, None
    return y_pred[PREDICTIONS], {name: y_pred[name] for name in y_pred if name != PREDICTIONS}


def _copies(sample_weight: Any) -> Any:
    """On PyTorch, Keras multiplies the mask of ignored labels into the weights it was given."""
    return None if sample_weight is None else keras.tree.map_structure(ops.copy, sample_weight)
