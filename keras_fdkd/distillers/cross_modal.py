"""CrossModalDistiller: a teacher and a student that see different inputs."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.data.pairs import (
    INDEX,
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    TEACHER_WEIGHT,
    check_samples,
    has_teacher_outputs,
    is_pair,
    with_samples_of,
)
from keras_fdkd.distillers.checks import (
    check_distinct,
    check_names,
    check_own_terms,
    policy_of,
)
from keras_fdkd.distillers.chosen_output import ChosenOutput, names_of
from keras_fdkd.distillers.common_steps import CommonSteps
from keras_fdkd.distillers.counted import counted
from keras_fdkd.distillers.labels import ignored_class
from keras_fdkd.distillers.loss_terms import LossTerms
from keras_fdkd.distillers.missing_labels import labelled, of_labelled, takes_missing
from keras_fdkd.distillers.output_checks import OutputChecks
from keras_fdkd.distillers.paired_model import PairedModel
from keras_fdkd.distillers.presence import scaled, with_presence_masks
from keras_fdkd.distillers.replicas import replicas
from keras_fdkd.distillers.term_means import TermMeans
from keras_fdkd.distillers.term_weights import TermWeights, lasting
from keras_fdkd.features import FEATURES, PREDICTIONS
from keras_fdkd.losses.reduction import divides

_LOSSES = "losses"
_MASKS = "masks_before_steps"
#: Where `terms` finds what counts: a `Counted`, and which samples have labels.
COUNTED = "counted"


@keras.saving.register_keras_serializable(package="keras_fdkd")
class CrossModalDistiller(PairedModel):
    """Train a student with a frozen teacher of another modality, using any combination of losses.

    For every task, and every method that has no distiller class of its own: pass losses from
    `keras_fdkd.losses` (such as `KD` for classes, `BinaryKD` for independent labels, `PKD` for
    features of any task), Keras's own `LogitsDistillation` and `FeatureDistillation`, or yours. Any
    `keras.distillation.DistillationLoss` will do.

    `loss = task_loss + sum(weight * distillation_loss)`, with one teacher pass and one student pass
    per step. Gradient, loss scaling, distribution, optimizer and metrics are those of Keras's own
    training step.

    A layer name in a loss may be a path through nested models (`"backbone/pool"`). Without one,
    Keras's losses compare the predictions; those of `keras_fdkd.losses` compare the predictions
    (which must be logits) or the features, as each of them documents.

    With several teachers, given as a dict, each loss names its own: `teacher_layer_name="video"`
    for what the loss compares by default, `"video:backbone/pool"` for a layer.

    A subclass may add terms: `compare` returns what to compare (trainable layers run there), and
    `terms` scores it.

    Args:
        teacher: Built `keras.Model`. It runs in inference mode, and nothing changes it: neither its
            weights, nor its `trainable` flags, nor the state of its layers. Or a
            `keras_fdkd.RecordedTeacher`, whose outputs the data bring; or a dict of several
            teachers by name, whose inputs the data bring under the same names.
        student: Built `keras.Model` with its own inputs.
        losses: List of `keras.distillation.DistillationLoss`. Defaults to `None`, for subclasses
            that add terms of their own.
        loss_weights: List of numbers >= 0, one for each of `losses`. They may change during
            training: `distiller.term_weights["kd_loss"] = 0.5`. The weight of the task loss is
            `compile(loss_weights=...)`. Defaults to `None`: all 1.
        teacher_features: Where to read the teacher's feature, see `keras_fdkd.features.FeatureTap`.
            Defaults to `None`: the input of the `Dense` layer that makes the predictions.
        student_features: The same for the student. Defaults to `None`.
        logs: Names of the terms and monitors that `terms` returns; they appear in the logs besides
            `task_loss` and one term for each of `losses`, such as `logits_distillation_loss`.
            Defaults to `()`.
        term_weights: Dict of numbers >= 0 by the name of a term that `terms` returns. It reads them
            as `self.term_weights.tensor(name)`, and they may change during training. Defaults to
            `None`: none.
        time_steps: If compared outputs are sequences `(batch, time, dim)`, the number of steps to
            which the valid part of each, on both sides, is resampled first
            (`keras_fdkd.layers.StepResampler`), so that sequences of different lengths and rates
            can be compared step by step; `"teacher"` for the number of steps of the teacher's
            outputs. Weights of steps then count by their mean. Defaults to `None`: sequences are
            compared as they are.
        task_output: If the student has several outputs, the name of the one whose predictions,
            labels and weights the terms use. Defaults to `None`: the one that has the shape of the
            teacher's, if there is exactly one.
        **kwargs: See `keras.Model`.

    Samples without labels are learned from too. For classes, give them the label -1 and compile a
    loss with `ignore_class=-1`. For values and for independent labels, make all labels of a sample
    NaN and pass metrics as `weighted_metrics`, which leave such samples out. To train without any
    labels, compile without a loss.

    Weights and masks: `sample_weight`, of samples or of positions (frames, pixels, tokens), weighs
    every term; Keras masks of the compared outputs leave padding out. If there are labels of
    positions, positions that the compiled loss ignores (`ignore_class`) count in no term, except in
    a sample without any label, all of which counts.

    Raises:
        ValueError: If a model is not a built `keras.Model`, a feature cannot be found, outputs do
            not fit a loss, there is nothing to distil, or the models share layers. At `compile`, if
            the loss is for another kind of task than a distillation loss. In training with sample
            weights, if a loss is Keras's own: those cannot take them.

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

    Terms of your own:

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

    _losses_argument = "losses"  # its name in a subclass, for messages

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        *,
        losses: "list[keras.distillation.DistillationLoss] | None" = None,
        loss_weights: list[float] | None = None,
        teacher_features: "str | keras.KerasTensor | None" = None,
        student_features: "str | keras.KerasTensor | None" = None,
        logs: tuple[str, ...] = (),
        term_weights: Mapping[str, float] | None = None,
        time_steps: int | str | None = None,
        task_output: str | None = None,
        **kwargs: Any,
    ) -> None:
        term_weights = {} if term_weights is None else term_weights
        check_own_terms(logs, term_weights)
        names = tuple(teacher) if isinstance(teacher, Mapping) else ()
        terms = LossTerms(losses, loss_weights, self._losses_argument, names)
        own_terms = type(self).terms is not CrossModalDistiller.terms
        if not (terms.losses or own_terms):
            raise ValueError(
                f"Without `losses` there is nothing to distil. Received: losses={losses!r}."
            )
        reads = {role: terms.reads(role) for role in (TEACHER, STUDENT)}
        for role, where in ((TEACHER, teacher_features), (STUDENT, student_features)):
            # Terms of a subclass get the feature, whether a loss reads it or not.
            if own_terms or FEATURES in reads[role]:
                reads[role].update(self._feature_reads(role, where))
            elif where is not None:
                raise ValueError(
                    f"None of the losses reads `{role}_features`. Give the path to a loss, or "
                    f"leave it out. Received: {role}_features={where!r}."
                )
        super().__init__(teacher, student, reads, terms.indexed, **kwargs)
        self._loss_terms = terms
        self._chosen = ChosenOutput(
            task_output, self._student_tap, self._teacher_tap.spec, self.teacher
        )
        self._student_tap.task_output = self._chosen.name
        taps = self._teacher_tap, self._student_tap
        self._output_checks = OutputChecks(*taps, terms, self._chosen)
        self._steps = CommonSteps(
            time_steps,
            (self._teacher.names, self._chosen.outputs(self._teacher_tap.spec, True)),
            (set(reads[STUDENT]), self._chosen.outputs(self._student_tap.spec)),
            student.variable_dtype,
        )
        with policy_of(self):
            adapters = terms.build(self._steps.teacher_spec, self._steps.student_spec)
        for name, adapter in adapters.items():
            # Attributes, not a dict: PyTorch clears the gradients of the modules it finds in these,
            # and two adapters may name their weights alike.
            setattr(self, f"{name}_adapter", adapter)
        weights = {f"{name}_loss": weight for name, weight in terms.weights.items()}
        self.term_weights = TermWeights({**weights, **term_weights}, terms.attach())
        names = ("task_loss", *(f"{name}_loss" for name in terms.losses), *logs)
        check_distinct(names)
        self._logs = tuple(logs)
        self._term_means = TermMeans(names)
        self.built = True

    def _feature_reads(self, role: str, where: Any) -> dict[str, Any]:
        """Return the names under which features of a side are read, with their places."""
        return {FEATURES: where}

    @property
    def adapters(self) -> dict[str, keras.Layer]:
        """The trainable layers of the losses that have one, by the name of the loss."""
        names = self._loss_terms.losses
        found = {name: getattr(self, f"{name}_adapter", None) for name in names}
        return {name: adapter for name, adapter in found.items() if adapter is not None}

    def compare(
        self, teacher: dict[str, Any], student: dict[str, Any], training: bool
    ) -> dict[str, Any]:
        """Return what the terms need, from the outputs of both taps. Runs inside `call`.

        Pass `training` on to layers that take it: on JAX they cannot find it out themselves.
        """
        return {}

    def terms(
        self, compared: dict[str, Any], y: Any, sample_weight: Any
    ) -> tuple[dict[str, tuple[float, Any]], dict[str, Any]]:
        """Return `{name: (weight, scalar)}` to add to the loss, and `{name: scalar}` to log."""
        return {}, {}

    def call(self, inputs: Any, training: bool = False) -> Any:
        student_inputs = inputs[STUDENT] if is_pair(inputs) else inputs
        student = self._student_tap(student_inputs, training=training)
        if not has_teacher_outputs(inputs):
            return student[PREDICTIONS]
        check_samples(inputs)  # Else one row could be compared with all of the other.
        weight = inputs.get(TEACHER_WEIGHT)
        teacher = self._teacher.in_call(inputs[TEACHER_OUTPUTS], training, weight)
        teacher = with_samples_of(inputs[STUDENT], teacher)
        predictions = student[PREDICTIONS]
        teacher = self._chosen.outputs(teacher, of_teacher=True)
        student = self._chosen.outputs(student)
        masks = self._steps.masks(student)
        teacher, student = self._steps(teacher, student)
        teacher = with_presence_masks(teacher, self._teacher.names)
        compared = self.compare(teacher, student, training)
        if masks:
            compared[_MASKS] = masks
        if self._loss_terms.losses:
            compared[_LOSSES] = self._loss_terms.compare(
                self.adapters, teacher, student, training, inputs.get(INDEX) if training else None
            )
        return {PREDICTIONS: predictions, **compared}

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Configure training, see `keras.Model.compile`.

        Raises:
            ValueError: If the loss is for another kind of task than a distillation loss, such as
                one for values next to one for classes; or a metric has the name of a term.
        """
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, *args, **kwargs)
        self._output_checks.check_compiled(self.loss)
        predictions = self._student_tap.spec[PREDICTIONS]
        self._allows_missing_labels = takes_missing(self.loss, metrics, predictions)
        given = [one for one in (metrics, weighted_metrics) if one is not None]
        check_names(self._term_means.names, names_of(self.student, predictions), given)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:  # Inside a `MutualDistiller` there is none.
            # As in the method of Keras: the file holds values for these variables.
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        predictions, compared = _split(x, y_pred)
        y, there = labelled(y) if self._allows_missing_labels else (y, None)
        loss = self._chosen.loss(self.loss)
        task_weight = of_labelled(sample_weight, there, y, divides(loss))
        total = self._task_loss(x, y, predictions, _copies(task_weight), training)
        logs = {"task_loss": total * replicas()}
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        if compared is not None:
            y, given = self._chosen.labels(y), self._chosen.labels(sample_weight)
            found = counted(y, given, ignored_class(loss), size)
            masks = compared.pop(_MASKS, [])
            weight, valid = (self._steps.weights(x, masks) for x in (found.weight, found.valid))
            of_losses = compared.pop(_LOSSES, {})
            # Labels of steps do not fit steps that were resampled.
            labels = None if self._steps.moves(PREDICTIONS) else found.labels
            added = self._loss_terms.terms(of_losses, self.term_weights, labels, weight, valid)
            compared[COUNTED] = found._replace(weight=weight, valid=valid), there
            weight = self._weight_of_terms(weight, valid, x.get(TEACHER_WEIGHT))
            terms, monitors = self.terms(compared, y, weight)
            for name, (factor, value) in {**added, **terms}.items():
                total = total + _cast(factor, value) * value
                logs[name] = value * replicas()
            logs.update(monitors)
            if missing := sorted(set(self._term_means.names) - set(logs)):
                raise ValueError(
                    "`terms` must return each term and monitor that `logs` of the distiller names. "
                    f"Received: none for {missing}."
                )
        self._term_means.update_state(logs, size)
        return total

    def _weight_of_terms(self, sample_weight: Any, valid: Any, teacher_weight: Any) -> Any:
        """Return the weights of samples for `terms`, with those of the teacher included."""
        if (
            isinstance(teacher_weight, Mapping)
            and type(self).terms is not CrossModalDistiller.terms
        ):
            raise ValueError(
                f"`terms` of `{type(self).__name__}` gets one weight a sample, so weights of "
                'several teachers have no place there: pass "teacher_weight" as one array. '
                f"Received: weights of {sorted(teacher_weight)}."
            )
        of_one = None if isinstance(teacher_weight, Mapping) else teacher_weight
        return scaled(sample_weight, of_one, valid)

    def _label_loss(self, y: Any, logits: Any, sample_weight: Any) -> Any:
        """Return the loss of the logits that a subclass adds, compared with labels."""
        return self._align_loss(y, logits, sample_weight=_copies(sample_weight))

    def _compared_logits(self) -> frozenset[str]:
        names = self._output_checks.compared_logits(TEACHER) - self._teacher_tap.converted
        return frozenset(self._teacher.data_name(name) for name in names)

    def _check_ends(self, x: Any) -> None:
        self._output_checks.check_values(x)

    def _task_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        """Return what plain training of the student would minimize."""
        if self.loss is None and not self.losses:
            return ops.zeros(())
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        predictions, compared = _split(x, y_pred)
        if self._allows_missing_labels:
            y, there = labelled(y)
            sample_weight = of_labelled(sample_weight, there, y, is_mean=False)
        logs = super().compute_metrics(x, y, predictions, sample_weight)
        if compared is None:  # The student alone: only its task can be reported.
            of_pairs = set(self._term_means.names) - {"task_loss"}
            logs = {name: logs[name] for name in logs if name not in of_pairs}
        return logs

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "teacher": _without_compile(self.teacher),
            "student": _without_compile(self.student),
            "teacher_features": self._teacher_tap.paths.get(FEATURES),
            "student_features": self._student_tap.paths.get(FEATURES),
            "time_steps": self._steps.given,
            "task_output": self._chosen.given,
            "losses": [
                keras.saving.serialize_keras_object(loss)
                for loss in self._loss_terms.losses.values()
            ],
            "loss_weights": [
                lasting(self.term_weights[f"{name}_loss"], weight)
                for name, weight in self._loss_terms.weights.items()
            ],
        }
        if type(self).__init__ is CrossModalDistiller.__init__:
            # A subclass with its own arguments stores these itself.
            config["logs"] = self._logs
            own = set(self.term_weights) - {f"{name}_loss" for name in self._loss_terms.losses}
            config["term_weights"] = {name: self.term_weights[name] for name in own} or None
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
    if not has_teacher_outputs(x):
        return y_pred, None
    return y_pred[PREDICTIONS], {name: y_pred[name] for name in y_pred if name != PREDICTIONS}


def _cast(factor: Any, value: Any) -> Any:
    """Return a weight to multiply `value` with: TensorFlow multiplies equal dtypes only."""
    return factor if isinstance(factor, (int, float)) else ops.cast(factor, value.dtype)


def _copies(sample_weight: Any) -> Any:
    """Return copies: on PyTorch, Keras multiplies the mask of ignored labels into the weights."""
    return None if sample_weight is None else keras.tree.map_structure(ops.copy, sample_weight)


def _without_compile(model: Any) -> dict[str, Any]:
    """Serialize a model, or a dict of them, as part of the distiller, without its compile state.

    KerasHub compiles its tasks when it makes them, and Keras warns when it loads a compiled part.
    """
    if isinstance(model, Mapping):
        return {name: _without_compile(one) for name, one in model.items()}
    config = keras.saving.serialize_keras_object(model)
    return {name: value for name, value in config.items() if name != "compile_config"}
