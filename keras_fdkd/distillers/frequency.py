"""FrequencyDistiller: frequency-decoupled cross-modal knowledge distillation."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.data import STUDENT, TEACHER, TEACHER_OUTPUTS, check_pair
from keras_fdkd.distillers.align_loss import (
    check_align_loss,
    count_classes,
    interleave,
    resolve_align_loss,
    summed,
)
from keras_fdkd.distillers.checks import (
    check_feature,
    check_weights,
    policy_of,
    resolve_projector,
)
from keras_fdkd.distillers.cross_modal import POSITION_WEIGHT, CrossModalDistiller
from keras_fdkd.distillers.masks import both, masks_of
from keras_fdkd.distillers.task import loss_of_output
from keras_fdkd.distillers.term_weights import TermWeight
from keras_fdkd.features import FEATURES, PREDICTIONS, check_model
from keras_fdkd.layers import BandClassifier
from keras_fdkd.losses.frequency_distillation import FrequencyDistillation, check_loss

#: Arguments of `FrequencyDistiller` that give the loss of the authors' published code.
PUBLISHED: dict[str, Any] = {
    "cutoff": 0.5,
    "standardize": "norm",
    "low_weight": 1.0,
    "high_weight": 1.0,
    "align_weight": 1.0,
    "band_task_weight": 1.0,
}


_FEATURES = ([FEATURES], [FEATURES])
_LEAST = 4  # size of a feature that can be split
_BATCH = 32  # rows at a time, as Keras predicts


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FrequencyDistiller(CrossModalDistiller):
    """Train a student of one modality with a frozen teacher of another (FD-CMKD).

    Both features are split by a Fourier transform into a low band, which is aligned strongly
    (mean squared error), and a high band, which is aligned weakly (`LogMeanSquaredError`). Scales
    are removed before comparing, and one classifier per band judges both modalities:

        loss = task_loss + low_weight * low_loss + high_weight * high_loss
               + align_weight * align_loss + band_task_weight * band_task_loss

    **Weights.** The paper divides each band's squared distance of unit-norm vectors by the feature
    size `D`, so a band term is at most `4 / D`: with `D = 512` its gradient is about 1/2500 of the
    cross-entropy's, and the classifiers do nearly all the work. Here bands have unit variance by
    default, which multiplies the low term by `D`: it is `2 - 2 cos(teacher, student)`, between 0
    and 4 for any `D`, beside a cross-entropy. The default weights 3, 1 and 0.3 did best of nine
    settings on validation subjects of the watch data (`recipes.watch`), both directions.

    **The authors' configuration** is `FrequencyDistiller(teacher, student, **PUBLISHED)`: unit
    norm, all weights 1, and a task head of its own on each student band. Their features are the
    pooled outputs of the last block before its activation, which `teacher_features` and
    `student_features` can name.

    **Ablation.** Each row of the paper's table is one configuration:

    | row | arguments |
    |---|---|
    | feature MSE | `cutoff=None, high_weight=0, align_weight=0, standardize=None` |
    | frequency | `high_loss="mse", align_weight=0, standardize=None` |
    | align | `cutoff=None, high_weight=0, standardize=None` |
    | frequency + align | `high_loss="mse", standardize=None` |
    | frequency + scale | `high_loss="mse", align_weight=0` |
    | frequency + align + scale | `high_loss="mse"` |
    | all with logMSE | the defaults |

    Args:
        teacher: Built `keras.Model` of the teacher's modality, see `CrossModalDistiller`.
        student: Built `keras.Model` of the student's modality.
        teacher_features, student_features: Where to read the features: `None` for the input of the
            model's last `Dense` layer (or `output["features"]` of a model that returns
            `{"features": ..., "logits": ...}`), a layer path such as `"backbone/pool"`, or a
            `keras.KerasTensor`. Shape `(batch, ..., dim)`.
        cutoff, axis, standardize, low_weight, high_weight, low_loss, high_loss: See
            `keras_fdkd.losses.FrequencyDistillation`. `axis` is `-1` for channels, or an axis of
            the teacher's feature with an order of its own, such as time.
        align_weight: Float >= 0, weight of the sum of the four cross-entropies of the shared
            classifiers. 0 removes the classifiers. Defaults to `0.3`.
        band_task_weight: Float >= 0, weight of the authors' task heads, one on each student band.
            Defaults to `0.0`: no such heads.
        align_loss: `keras.losses.Loss` that takes labels and the logits of a head, or `None` to
            use the compiled cross-entropy on logits. Defaults to `None`.
        projector: `"auto"` for a `FeatureProjector` from student to teacher size where the sizes
            differ, a `keras.Layer` that maps the student's feature to the shape of the teacher's,
            or `None` to refuse. Defaults to `"auto"`.
        extra_losses, extra_loss_weights: Further losses beside the bands, see `losses` and
            `loss_weights` of `CrossModalDistiller`. Default to `None`.
        **kwargs: See `keras.Model`.

    Logs:
        `loss`, `task_loss` (what plain training would minimize), `low_loss`, `high_loss`,
        `align_loss` and `band_task_loss` before weighting, `low_similarity` and `high_similarity`
        (mean cosine of teacher and student band), each extra loss, and the compiled metrics.

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
        teacher: keras.Model,
        student: keras.Model,
        *,
        teacher_features: "str | keras.KerasTensor | None" = None,
        student_features: "str | keras.KerasTensor | None" = None,
        cutoff: float | None = 0.5,
        axis: int = -1,
        standardize: str | None = "variance",
        low_weight: float = 3.0,
        high_weight: float = 1.0,
        align_weight: float = 0.3,
        band_task_weight: float = 0.0,
        low_loss: "str | keras.losses.Loss" = "mse",
        high_loss: "str | keras.losses.Loss" = "log_mse",
        align_loss: "keras.losses.Loss | None" = None,
        projector: "str | keras.Layer | None" = "auto",
        extra_losses: "list[keras.distillation.DistillationLoss] | None" = None,
        extra_loss_weights: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        check_model(teacher, TEACHER)
        check_model(student, STUDENT)
        check_weights(
            low_weight=low_weight,
            high_weight=high_weight,
            align_weight=align_weight,
            band_task_weight=band_task_weight,
        )
        frequency = FrequencyDistillation(
            cutoff,
            axis,
            standardize,
            low_weight,
            high_weight,
            low_loss,
            high_loss,
            dtype=student.variable_dtype,
        )
        terms = {
            name: weight
            for name, weight in {
                "low_loss": low_weight,
                "high_loss": high_weight,
                "align_loss": align_weight,
                "band_task_loss": band_task_weight,
            }.items()
            if weight
        }
        super().__init__(
            teacher,
            student,
            losses=extra_losses,
            loss_weights=extra_loss_weights,
            teacher_features=teacher_features,
            student_features=student_features,
            logs=(*terms, *(f"{band}_similarity" for band in frequency.bands)),
            term_weights=terms,
            **kwargs,
        )
        self.frequency = frequency
        if align_loss is not None:
            check_loss(align_loss, "align_loss")
            check_align_loss(align_loss)
        self.align_loss = align_loss

        feature = self._teacher_tap.spec["features"]
        check_feature(feature, axis, "teacher")
        masks = masks_of(_FEATURES, self._teacher_tap.spec, self._student_tap.spec)
        if any(mask is not None for mask in masks):
            frequency.check_masked(tuple(feature.shape))
        with policy_of(self):
            self.projector = resolve_projector(
                projector, feature, self._student_tap.spec["features"]
            )
            frequency.split(feature)  # A cutoff that leaves a band empty is refused here.
            self.align_heads = self._heads("align", feature) if align_weight else {}
            self.band_task_heads = self._heads("band_task", feature) if band_task_weight else {}
        for band in frequency.compared:  # One home for a weight, whoever asks for it.
            frequency.variables[f"{band}_weight"] = self.term_weights.variable_of[f"{band}_loss"]
        frequency.attach()

    def _heads(self, kind: str, feature: keras.KerasTensor) -> dict[str, BandClassifier]:
        num_classes = count_classes(self._student_tap.spec[PREDICTIONS], f"{kind}_weight")
        heads = {
            band: BandClassifier(num_classes, name=f"{kind}_{band}")
            for band in self.frequency.bands
        }
        for head in heads.values():
            head.build(feature.shape)
        return heads

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure training, see `keras.Model.compile`.

        Raises:
            ValueError: If a head needs labels and `loss` is no cross-entropy.
        """
        super().compile(*args, **kwargs)
        self._align_loss = None
        if self._has_heads():
            loss = loss_of_output(self.loss, None)
            self._align_loss = self.align_loss or resolve_align_loss(loss)
        self._check_default_features()

    def _has_heads(self) -> bool:
        return bool(self.align_heads or self.band_task_heads)

    def _check_default_features(self) -> None:
        if self.loss is None and (read := self._reads_of_dense()):
            raise ValueError(
                "Without a compiled loss nothing says whether the last `Dense` layer classifies or "
                "embeds, so whether its input or its output is the feature. Name the features with "
                "`teacher_features=` and `student_features=`. "
                f"Received: loss=None, and features=None, which read {read}."
            )

    def _reads_of_dense(self) -> list[str]:
        """Return where default features are read of models whose output could be one as well."""
        taps = (self._teacher_tap, self._student_tap)
        outputs: list[Any] = [getattr(tap.spec[PREDICTIONS], "shape", ()) for tap in taps]
        if any(len(shape) != 2 or shape[-1] < _LEAST for shape in outputs):
            return []
        defaults = [tap for tap in taps if tap.paths[FEATURES] is None]
        read = [tap.resolved[FEATURES] for tap in defaults]
        return [where for where in read if where.endswith("(input)")]

    def predict_features(self, x: Any, batch_size: int | None = None) -> tuple[Any, Any]:
        """Return teacher and student feature of pairs, as compared: projected, before the split.

        Args:
            x: `{"teacher": inputs, "student": inputs}` of arrays, or with `"teacher_outputs"`.
            batch_size: See `keras.Model.predict`.

        Returns:
            Two NumPy arrays of one shape `(samples, ..., dim)`.
        """
        check_pair(x)
        if TEACHER in x:
            teacher = self._teacher_tap.predict(x[TEACHER], batch_size)["features"]
        else:
            teacher = ops.convert_to_numpy(x[TEACHER_OUTPUTS]["features"])
        student = self._student_tap.predict(x[STUDENT], batch_size)["features"]
        if self.projector is not None:
            size = batch_size or _BATCH
            parts = [student[start : start + size] for start in range(0, len(student), size)]
            student = np.concatenate(
                [ops.convert_to_numpy(self.projector(part, training=False)) for part in parts]
            )
        return teacher, student

    def compare(
        self, teacher: dict[str, Any], student: dict[str, Any], training: bool
    ) -> dict[str, Any]:
        feature = student["features"]
        if self.projector is not None:
            feature = self.projector(feature, training=training)
        mask = both(masks_of(_FEATURES, teacher, student))
        wanted, feature, mask = self.frequency.without_padding(teacher["features"], feature, mask)
        seen, made = self.frequency.split(wanted), self.frequency.split(feature)
        one = {} if mask is None else {"mask": mask}
        two = {} if mask is None else {"mask": interleave([mask, mask])}
        return {
            "bands": {band: (seen[band], made[band]) for band in self.frequency.bands},
            "mask": mask,
            "align": {
                # Both sides in one call.
                band: head(interleave([seen[band], made[band]]), **two)
                for band, head in self.align_heads.items()
            },
            "band_task": {
                band: head(made[band], **one) for band, head in self.band_task_heads.items()
            },
        }

    def terms(
        self, compared: dict[str, Any], y: Any, sample_weight: Any
    ) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
        weight = compared.get(POSITION_WEIGHT, sample_weight)
        losses, similarity = self.frequency.compare(compared["bands"], weight, compared["mask"])
        terms = {
            f"{band}_loss": (self.term_weights.tensor(f"{band}_loss"), value)
            for band, value in losses.items()
        }
        monitors = {f"{band}_similarity": value for band, value in similarity.items()}
        for kind, heads, sides in (
            ("align", self.align_heads, 2),
            ("band_task", self.band_task_heads, 1),
        ):
            if heads:
                value = self._head_losses(y, compared[kind], sample_weight, sides)
                terms[f"{kind}_loss"] = (self.term_weights.tensor(f"{kind}_loss"), value)
        return terms, monitors

    def _head_losses(self, y: Any, logits: dict[str, Any], sample_weight: Any, sides: int) -> Any:
        rows, count = interleave(list(logits.values())), sides * len(logits)
        return summed(self._align_loss, self._label_loss, y, rows, sample_weight, count)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        extra = {f"extra_{name}": config.pop(name) for name in ("losses", "loss_weights")}
        bands = self.frequency.get_config()
        for name in ("teacher_layer_name", "student_layer_name", "name", "dtype"):
            bands.pop(name)
        return {
            **config,
            **bands,
            **extra,
            "low_weight": self.low_weight,
            "high_weight": self.high_weight,
            "align_weight": self.align_weight,
            "band_task_weight": self.band_task_weight,
            "align_loss": keras.saving.serialize_keras_object(self.align_loss),
            "projector": keras.saving.serialize_keras_object(self.projector),
        }
