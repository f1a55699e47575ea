"""FrequencyDistiller: frequency-decoupled cross-modal knowledge distillation."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.data.pairs import STUDENT, TEACHER, TEACHER_OUTPUTS, check_pair
from keras_fdkd.distillers.align_loss import (
    check_align_loss,
    check_ignored,
    check_judged,
    interleave,
    resolve_align_loss,
    summed,
)
from keras_fdkd.distillers.band_pairs import as_pairs, ends_of, feature_keys, make_pairs
from keras_fdkd.distillers.checks import check_weights, policy_of
from keras_fdkd.distillers.chosen_output import is_vector
from keras_fdkd.distillers.counted import Counted
from keras_fdkd.distillers.cross_modal import COUNTED, CrossModalDistiller
from keras_fdkd.distillers.default_features import check_default_features
from keras_fdkd.distillers.labels import ignored_class
from keras_fdkd.distillers.teachers import check_teacher
from keras_fdkd.distillers.term_weights import TermWeight, lasting
from keras_fdkd.features import PREDICTIONS, check_model
from keras_fdkd.losses.band_losses import check_loss
from keras_fdkd.losses.frequency_distillation import FrequencyDistillation

#: Arguments of `FrequencyDistiller` that give the loss of the authors' published code. With these
#: weights the band terms are too small to have a measurable effect; with about 100 times as much
#: they match the terms of features of unit variance (see the benchmark).
PUBLISHED: dict[str, Any] = {
    "cutoff": 0.5,
    "standardize": "norm",
    "low_weight": 1.0,
    "high_weight": 1.0,
    "align_weight": 1.0,
    "band_task_weight": 1.0,
}

_ALIGN_WEIGHT = 0.3


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FrequencyDistiller(CrossModalDistiller):
    """Train a student of one modality with a frozen teacher of another (FD-CMKD).

    For any pair whose features can be compared, with or without labels; it is most promising with
    few labels and many pairs. Start with the default weights.

    Both features are split by a Fourier transform into a low band, which is aligned strongly (mean
    squared error), and a high band, which is aligned weakly (`LogMeanSquaredError`). Scales are
    removed before comparing. One classifier per band, shared by both modalities, learns the labels
    from both::

        loss = task_loss + low_weight * low_loss + high_weight * high_loss
               + align_weight * align_loss + band_task_weight * band_task_loss

    **Weights.** The paper divides each band's squared distance of unit-norm vectors by the feature
    size `D`, so a band term is at most `4 / D`: with `D = 512` its gradient is about 1/2500 of the
    cross-entropy's, and the classifiers do nearly all the work. Here bands have unit variance by
    default, which multiplies the low term by `D`: it is `2 - 2 cos(teacher, student)`, between 0
    and 4 for any `D`, comparable to a cross-entropy. The default weights 3, 1 and 0.3 did best of
    nine settings on validation subjects of the watch data (`recipes.watch`), in both directions.

    **The authors' configuration** is `FrequencyDistiller(teacher, student, **PUBLISHED)`: unit
    norm, all weights 1, and a separate task head on each student band. With weights of 1 the band
    terms have no measurable effect (see the benchmark): set `low_weight` and `high_weight` to about
    100. Their features are the pooled outputs of the last block before its activation, which
    `teacher_features` and `student_features` can name.

    Each row of the paper's ablation is one configuration; the guide "The method" lists them.

    Args:
        teacher: Built `keras.Model` of the teacher's modality, a `keras_fdkd.RecordedTeacher`, or a
            dict of several by name, see `CrossModalDistiller`.
        student: Built `keras.Model` of the student's modality.
        teacher_features: Where to read the teacher's feature: `None` for the input of the `Dense`
            layer that makes the predictions (or `output["features"]` of a model that returns
            `{"features": ..., "logits": ...}`), a layer path such as `"backbone/pool"`, or a
            `keras.KerasTensor`. Shape `(batch, ..., dim)`. A list compares several pairs of
            features, each with its own projector and classifiers. With several teachers, `"video"`
            is the default feature of one, `"video:backbone/pool"` a layer; `None` compares the
            default feature of each. Defaults to `None`.
        student_features: The same for the student. A single place is paired with each place of the
            other side's list. Defaults to `None`.
        pair_weights: List of numbers > 0, with which the terms of each pair are multiplied before
            they are summed. Defaults to `None`: all 1.
        cutoff: See `keras_fdkd.losses.FrequencyDistillation`. Defaults to `0.5`.
        axis: See `keras_fdkd.losses.FrequencyDistillation`: `-1` for channels, or an axis of the
            teacher's feature that is ordered, such as time; `(1, 2)` for height and width of maps.
            Defaults to `-1`.
        standardize: See `keras_fdkd.losses.FrequencyDistillation`. Defaults to `"variance"`.
        low_weight: Float >= 0, weight of the low band. May be changed during training. Defaults to
            `3.0`.
        high_weight: The same for the high band. Defaults to `1.0`.
        align_weight: Float >= 0, weight of the sum of the four losses of the shared classifiers,
            one per band and modality. They use the compiled loss: for classes, independent labels,
            or values. 0 removes the classifiers. If the student has an output at each position
            (pixel, frame), they classify each position of the feature, and their logits are resized
            to the labels' positions. Defaults to `None`: 0.3 if the student has one output per
            sample, else 0, as in the paper.
        band_task_weight: Float >= 0, weight of the authors' task heads, one on each student band.
            Defaults to `0.0`: no such heads.
        low_loss: See `keras_fdkd.losses.FrequencyDistillation`. Defaults to `"mse"`.
        high_loss: See `keras_fdkd.losses.FrequencyDistillation`. Defaults to `"log_mse"`.
        align_loss: `keras.losses.Loss` that takes labels and the logits of a head. Defaults to
            `None`: the compiled loss, on logits if it is a cross-entropy.
        projector: `"auto"` for a `FeatureProjector` from student to teacher size where the sizes
            differ, a `keras.Layer` that maps the student's feature to the shape of the teacher's,
            or `None` to refuse features of different shapes. A list of these for several pairs.
            Defaults to `"auto"`.
        extra_losses: Further losses next to the bands, see `losses` of `CrossModalDistiller`.
            Defaults to `None`.
        extra_loss_weights: Their weights, see `loss_weights` of `CrossModalDistiller`. Defaults to
            `None`: all 1.
        time_steps: See `CrossModalDistiller`. Defaults to `None`.
        task_output: See `CrossModalDistiller`. Defaults to `None`.
        **kwargs: See `keras.Model`.

    Logs:
        `loss`, `task_loss` (what plain training would minimize), `low_loss`, `high_loss`,
        `align_loss` and `band_task_loss` before weighting, `low_similarity` and `high_similarity`
        (mean cosine of teacher and student band; with several pairs one for each pair,
        `low_similarity_1` and so on), each extra loss, and the compiled metrics.

    Raises:
        ValueError: At construction or `compile`, for arguments that do not fit together.

    Example:
    >>> import numpy as np
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = FrequencyDistiller(teacher=model(6), student=model(4))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss, metrics=["accuracy"])
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> history = distiller.fit(x, np.zeros(8, "int32"), verbose=0)
    >>> sorted(history.history)  # doctest: +NORMALIZE_WHITESPACE
    ['accuracy', 'align_loss', 'high_loss', 'high_similarity', 'loss', 'low_loss',
     'low_similarity', 'task_loss']
    >>> distiller.predict(x["student"], verbose=0).shape
    (8, 3)

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887)
    """

    _losses_argument = "extra_losses"
    _align_loss: Any = None  # the cross-entropy of the heads' logits, once compiled

    low_weight = TermWeight("low_loss")
    high_weight = TermWeight("high_loss")
    align_weight = TermWeight("align_loss")
    band_task_weight = TermWeight("band_task_loss")

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        *,
        teacher_features: Any = None,
        student_features: Any = None,
        pair_weights: list[float] | None = None,
        cutoff: float | None = 0.5,
        axis: int | tuple[int, ...] = -1,
        standardize: str | None = "variance",
        low_weight: float = 3.0,
        high_weight: float = 1.0,
        align_weight: float | None = None,
        band_task_weight: float = 0.0,
        low_loss: "str | keras.losses.Loss" = "mse",
        high_loss: "str | keras.losses.Loss" = "log_mse",
        align_loss: "keras.losses.Loss | None" = None,
        projector: Any = "auto",
        extra_losses: "list[keras.distillation.DistillationLoss] | None" = None,
        extra_loss_weights: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_teacher(teacher)
        check_model(student, STUDENT)
        if align_weight is None:
            # Decided before the taps are made, because it decides which terms there are.
            judged = is_vector(teacher, student, kwargs.get("task_output"))
            align_weight = _ALIGN_WEIGHT if judged else 0.0
        weights = {
            "low_loss": low_weight,
            "high_loss": high_weight,
            "align_loss": align_weight,
            "band_task_loss": band_task_weight,
        }
        first_weights = {name.replace("_loss", "_weight"): w for name, w in weights.items()}
        check_weights(**first_weights)
        terms = {name: weight for name, weight in weights.items() if weight}
        bands = (low_weight, high_weight, low_loss, high_loss)

        def frequency() -> FrequencyDistillation:
            options = {"dtype": student.variable_dtype}
            return FrequencyDistillation(cutoff, axis, standardize, *bands, **options)

        first = frequency()  # Checks the arguments.
        teachers = tuple(teacher) if isinstance(teacher, Mapping) else ()
        self._places = as_pairs(teacher_features, student_features, teachers)
        count = len(self._places[0])
        monitors = [f"{band}_similarity{end}" for end in ends_of(count) for band in first.bands]
        super().__init__(
            teacher,
            student,
            losses=extra_losses,
            loss_weights=extra_loss_weights,
            teacher_features=teacher_features,
            student_features=student_features,
            logs=(*terms, *monitors),
            term_weights=terms,
            **kwargs,
        )
        if align_loss is not None:
            check_loss(align_loss, "align_loss")
            check_align_loss(align_loss)
        self.align_loss = align_loss
        self._first_weights = first_weights
        judged = self._chosen.outputs(self._student_tap.spec)[PREDICTIONS]
        kinds = {"align": align_weight, "band_task": band_task_weight}
        heads = {kind: judged for kind, weight in kinds.items() if weight}
        for kind in heads:
            check_judged(judged, f"{kind}_weight")
        specs = self._steps.teacher_spec, self._steps.student_spec
        frequencies = [first, *(frequency() for _ in range(count - 1))]
        with policy_of(self):
            pairs = make_pairs(frequencies, specs, projector, pair_weights, heads)
        for pair in pairs:
            for band in pair.frequency.compared:  # A weight has one variable, whoever reads it.
                variable = self.term_weights.variable_of[f"{band}_loss"]
                pair.frequency.variables[f"{band}_weight"] = variable
            pair.frequency.attach()
        self.pairs = pairs
        # Keras tracks these attributes, and names them in files.
        self.projector, self.align_heads, self.band_task_heads = pairs[0].layers
        self.of_further_pairs = [pair.layers for pair in pairs[1:]]

    def _feature_reads(self, role: str, where: Any) -> dict[str, Any]:
        places = self._places[0 if role == TEACHER else 1]
        return dict(zip(feature_keys(len(places)), places, strict=True))

    @property
    def frequency(self) -> FrequencyDistillation:
        """The loss that splits and compares; with several pairs, that of the first pair."""
        return self.pairs[0].frequency

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure training, see `keras.Model.compile`.

        Raises:
            ValueError: If there are heads and `loss` is not one of Keras's that can train them, or
                leaves out another label than `align_loss`.
        """
        super().compile(*args, **kwargs)
        # If the new loss is refused, that of an earlier `compile` must not stay.
        self._align_loss = None
        if self._has_heads():
            loss = self._chosen.loss(self.loss)
            self._align_loss = self.align_loss or resolve_align_loss(loss)
            check_ignored(self._align_loss, ignored_class(loss))
            for pair in self.pairs:
                pair.check_heads(self._align_loss, self._steps.are_masked)
        if self.loss is None:
            check_default_features(self._teacher_tap, self._student_tap)

    def _has_heads(self) -> bool:
        return bool(self.align_heads or self.band_task_heads)

    def predict_features(
        self, x: Any, batch_size: int | None = None, pair: int = 0
    ) -> tuple[Any, Any]:
        """Return the features of teacher and student as compared: projected, before the split.

        Args:
            x: `{"teacher": inputs, "student": inputs}` of arrays, or with `"teacher_outputs"`.
            batch_size: See `keras.Model.predict`.
            pair: Which of several pairs of features, from 0. Defaults to `0`.

        Returns:
            Two NumPy arrays of the same shape `(samples, ..., dim)`.
        """
        check_pair(x, self._teacher.needs)
        band_pair = self.pairs[pair]
        outputs = dict(x.get(TEACHER_OUTPUTS, {}))
        if TEACHER in x:
            outputs.update(self.predict_teacher(x[TEACHER], batch_size))
        teacher = self._teacher.in_call(outputs, False)
        student = self._student_tap.predict(x[STUDENT], batch_size)
        teacher = self._chosen.outputs(teacher, of_teacher=True)
        student = self._chosen.outputs(student)
        teacher, student = self._steps(teacher, student)
        wanted, made = teacher[band_pair.keys[0]], student[band_pair.keys[1]]
        made = band_pair.predict(ops.convert_to_numpy(made), batch_size)
        return ops.convert_to_numpy(wanted), made

    def compare(
        self, teacher: dict[str, Any], student: dict[str, Any], training: bool
    ) -> dict[str, Any]:
        return {"pairs": [pair.compare(teacher, student, training) for pair in self.pairs]}

    def terms(
        self, compared: dict[str, Any], y: Any, sample_weight: Any
    ) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
        plain = Counted(y, sample_weight, None, None), None
        found, there = compared.get(COUNTED, plain)
        sums: dict[str, Any] = {}
        monitors: dict[str, Any] = {}
        for pair, end, of_pair in zip(
            self.pairs, ends_of(len(self.pairs)), compared["pairs"], strict=True
        ):
            losses, similarity = pair.losses_of(of_pair, found.weight, found.valid)
            values = {f"{band}_loss": value for band, value in losses.items()}
            judged = None
            if self._has_heads():
                judged = pair.weight_of_labels(
                    of_pair, found.weight, there, found.labelled, self._align_loss
                )
            for kind, heads, sides in (
                ("align", pair.align_heads, 2),
                ("band_task", pair.band_task_heads, 1),
            ):
                if heads:
                    values[f"{kind}_loss"] = self._head_losses(y, of_pair[kind], judged, sides)
            for name, value in values.items():
                value = value if pair.weight == 1 else pair.weight * value
                sums[name] = value if name not in sums else sums[name] + value
            monitors |= {f"{band}_similarity{end}": value for band, value in similarity.items()}
        terms = {name: (self.term_weights.tensor(name), value) for name, value in sums.items()}
        return terms, monitors

    def _weight_of_terms(self, sample_weight: Any, valid: Any, teacher_weight: Any) -> Any:
        return sample_weight  # Each pair applies the weights of its own teacher.

    def _head_losses(self, y: Any, logits: dict[str, Any], sample_weight: Any, sides: int) -> Any:
        rows, count = interleave(list(logits.values())), sides * len(logits)
        return summed(self._align_loss, self._label_loss, y, rows, sample_weight, count)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        extra = {f"extra_{name}": config.pop(name) for name in ("losses", "loss_weights")}
        projectors = [keras.saving.serialize_keras_object(p.projector) for p in self.pairs]
        if len(self.pairs) > 1:
            keys = feature_keys(len(self.pairs))
            for name, tap in (("teacher", self._teacher_tap), ("student", self._student_tap)):
                config[f"{name}_features"] = [tap.paths.get(key) for key in keys]
        bands = self.frequency.get_config()
        for name in ("teacher_layer_name", "student_layer_name", "name", "dtype"):
            bands.pop(name)
        return {
            **config,
            **bands,
            **extra,
            **{name: lasting(getattr(self, name), w) for name, w in self._first_weights.items()},
            "align_loss": keras.saving.serialize_keras_object(self.align_loss),
            "pair_weights": [pair.weight for pair in self.pairs],
            "projector": projectors[0] if len(projectors) == 1 else projectors,
        }
