"""FrequencyDistillation: the band terms of FD-CMKD as a separate loss."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_axis, check_choice, check_float_dtype
from keras_fdkd.layers import FrequencySplit, Standardize
from keras_fdkd.layers.axes import Axis, axes_of, count_values, plain_axis
from keras_fdkd.layers.standardize import SCALES
from keras_fdkd.losses.band_losses import check_positions, flat_per_sample, resolve_loss, valid_mean
from keras_fdkd.losses.band_padding import without_padding
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape
from keras_fdkd.losses.pairs import check_outputs
from keras_fdkd.losses.reduction import (
    divides,
    masked_weights,
    mean_over,
    weighted_mean,
)
from keras_fdkd.losses.student_adapter import (
    check_projector,
    projected,
    projector_config,
)
from keras_fdkd.losses.tunable import Tunable


@keras.saving.register_keras_serializable(package="keras_fdkd")
class FrequencyDistillation(CrossModalLoss):
    """Align the low bands of two features strongly and the high bands weakly.

    The band terms of `keras_fdkd.FrequencyDistiller` as a loss, without classifiers: for
    `keras_fdkd.CrossModalDistiller`, next to other losses or at several layers, and, with layer
    names, for `keras.distillation.Distiller`. It works for any task and needs no labels. The
    weights of the bands are arguments, so start with `loss_weights=[1.0]`.

    `low_weight * low_loss(low bands) + high_weight * high_loss(high bands)`, each band standardized
    first.

    Args:
        cutoff: Float in (0, 1), the fraction of the non-DC spectrum that is low, see
            `keras_fdkd.layers.FrequencySplit`; or `None` to compare the whole feature as if it were
            the low band, which takes `high_weight=0`. Defaults to `0.5`.
        axis: Integer, the axis that is split, or a tuple of up to three whose frequencies belong
            together: `(1, 2)` for height and width of maps. Not the batch axis. Defaults to `-1`.
        standardize: `"variance"`, `"norm"` (the paper's) or `None`, see
            `keras_fdkd.layers.Standardize`. Defaults to `"variance"`.
        low_weight: Float >= 0, may be changed during training. If it is 0 from the beginning, the
            low band is not compared. Defaults to `3.0`.
        high_weight: The same for the high band. Defaults to `1.0`.
        low_loss: `"mse"`, `"log_mse"` or a `keras.losses.Loss` that takes teacher and student bands
            of shape `(batch, values)`. Defaults to `"mse"`.
        high_loss: The same for the high band. Defaults to `"log_mse"`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        student_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        name: String. Defaults to `"frequency"`.
        dtype: Dtype of the transform. Defaults to `keras.config.floatx()`, in mixed precision too.
        projector: What brings the student's feature to the teacher's shape;
            `keras_fdkd.CrossModalDistiller` trains it with the student. `"auto"` for a
            `keras_fdkd.layers.FeatureProjector` where the shapes differ, a `keras.Layer`, which
            serves one loss, or `None` to refuse features of different shapes. Defaults to `"auto"`.

    Call args:
        teacher_outputs: Feature, shape `(batch, ..., dim)`. Sizes may be unknown until it runs.
        student_outputs: Feature of the same shape.
        sample_weight: Shape `(batch,)` or, for positions, `(batch, ...)`; or `None`. A split along
            an axis of positions mixes them: weights of positions then count by their mean.
        mask: Boolean, shape `(batch, steps)` for sequences: the steps that count; or `None`. If the
            split is along the steps, the valid steps of each sequence are resampled to `steps`
            first.

    Returns:
        Scalar.

    Raises:
        ValueError: If an argument is out of range, or the features differ in shape.

    Example:
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(4, 16)).astype("float32")
    >>> loss = FrequencyDistillation()
    >>> float(loss.compute_loss(x, x)), round(float(loss.compute_loss(x, -x)), 2) > 12
    (0.0, True)
    >>> maps = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype("float32")
    >>> loss = FrequencyDistillation(axis=(1, 2))
    >>> float(loss.compute_loss(maps, maps)), float(loss.compute_loss(maps, -maps)) > 12
    (0.0, True)

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887)
    """

    takes_masks = True
    low_weight = Tunable()
    high_weight = Tunable()

    def __init__(
        self,
        cutoff: float | None = 0.5,
        axis: Axis = -1,
        standardize: str | None = "variance",
        low_weight: float = 3.0,
        high_weight: float = 1.0,
        low_loss: "str | keras.losses.Loss" = "mse",
        high_loss: "str | keras.losses.Loss" = "log_mse",
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "frequency",
        dtype: Any = None,
        projector: "str | keras.Layer | None" = "auto",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        check_choice("standardize", standardize, SCALES, optional=True)
        check_axis(axis)
        check_float_dtype(dtype)
        self.low_weight = low_weight
        self.high_weight = high_weight
        if cutoff is None and high_weight:
            raise ValueError(
                "`cutoff=None` leaves no high band: pass `high_weight=0` with it. "
                f"Received: high_weight={high_weight}."
            )
        self.bands = ("low",) if cutoff is None else ("low", "high")
        self.cutoff = cutoff
        self.axis = plain_axis(axis)
        self.standardize = standardize
        self._first_weights = {"low_weight": low_weight, "high_weight": high_weight}
        self.compared = tuple(b for b in self.bands if self._first_weights[f"{b}_weight"])
        self.band_losses = {
            "low": resolve_loss(low_loss, "low_loss"),
            "high": resolve_loss(high_loss, "high_loss"),
        }
        self.dtype = dtype
        self.projector = check_projector(projector)
        # Bands are small beside the models: full precision costs little and keeps norms exact.
        precise = {"dtype": dtype or keras.config.floatx()}
        self._split = None if cutoff is None else FrequencySplit(cutoff, axis, **precise)
        centered = cutoff is not None  # Bands have no mean any more.
        # Without `standardize` the logged cosines still need it.
        self._standardize = Standardize(standardize or "norm", axis, not centered, **precise)

    def __setattr__(self, name: str, value: Any) -> None:
        band = name.removesuffix("_weight")
        if self._is_used and band in ("low", "high") and value and band not in self.compared:
            raise ValueError(
                f"The {band} band had weight 0 when the loss was made, so it is not compared: "
                f"build a new loss and a new distiller. Received: {name}={value!r}."
            )
        super().__setattr__(name, value)

    def split(self, feature: Any) -> dict[str, Any]:
        """Return the bands of a feature, by name."""
        if self._split is None:
            return {"low": feature}
        if not self._split.built:
            self._split.build(feature.shape)
        if isinstance(feature, keras.KerasTensor):  # Sizes may be unknown yet.
            bands = self._split.compute_output_spec(feature)
            return dict(zip(self.bands, bands, strict=True))
        # `call`: what Keras does around a layer takes longer than this one, on PyTorch.
        return dict(zip(self.bands, self._split.call(feature), strict=True))

    def compare(
        self,
        bands: dict[str, tuple[Any, Any]],
        sample_weight: Any,
        mask: Any = None,
        valid: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the losses of the bands whose weight is not 0, and the mean cosine of each band.

        Args:
            bands: By name, a pair: what `split` returned for teacher and student.
            sample_weight: Shape `(batch,)` or, for positions, `(batch, ...)`; or `None`.
            mask: Boolean, shape `(batch,)` or `(batch, ...)`: what is present; or `None` for all.
            valid: 0 to 1, of the same shapes: what counts; or `None` for all.
        """
        losses, similarity = {}, {}
        for band, pair in bands.items():
            axes = self._axes(pair[0])
            units = [self._standardize.call(value) for value in pair]
            # Unit vectors have cosine `dot`, unit-variance ones `dot / size`.
            size = count_values(units[0], axes) if self.standardize == "variance" else 1
            cosine = ops.sum(units[0] * units[1], axis=axes if len(axes) > 1 else axes[0]) / size
            similarity[band] = valid_mean(cosine, mask)
            if band in self.compared:
                compared = units if self.standardize else pair
                losses[band] = self._band_loss(band, compared, sample_weight, mask, valid)
        return losses, similarity

    def _axes(self, feature: Any) -> tuple[int, ...]:
        return axes_of(self.axis, feature.shape)

    def _band_loss(self, band: str, pair: Any, sample_weight: Any, mask: Any, valid: Any) -> Any:
        loss, rank = self.band_losses[band], len(pair[0].shape)
        tells_positions = rank > 2 and self._axes(pair[0]) == (rank - 1,)
        given = [one for one in (sample_weight, mask, valid) if one is not None]
        if not tells_positions or all(len(one.shape) < 2 for one in given):
            flat = [flat_per_sample(value) for value in pair]
            # A band along an axis of positions has no positions left.
            weights = masked_weights(
                flat[0][:, 0], sample_weight, mask, valid, is_mean=divides(loss)
            )
            return loss(*flat, sample_weight=weights)
        check_positions(loss, f"{band}_loss")
        return weighted_mean(loss.call(*pair), sample_weight, mask, valid)

    def check_masked(self, shape: tuple[int | None, ...]) -> None:
        """Raise unless features of this shape that carry a mask can be compared."""
        if len(shape) != 3:
            raise ValueError(
                "Features with a Keras mask must be sequences (batch, steps, dim), split along the "
                "steps or along dim: pool the others. "
                f"Received: shape {tuple(shape)}, axis={self.axis}."
            )
        for band in self.bands:
            check_positions(self.band_losses[band], f"{band}_loss")

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_outputs(self, teacher_outputs, student_outputs, 2)
        if self.projector is None:
            check_same_shape(self, teacher_outputs, student_outputs, slice(None))
        # An axis or a cutoff that does not fit is refused here.
        self.split(keras.KerasTensor((None, *teacher_outputs.shape[1:])))
        if not self.compared:
            raise ValueError(
                "`low_weight` or `high_weight` must be positive, or no band is compared. "
                "Received: both 0."
            )

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        """Accept `keras.distillation.Distiller`, for features of one shape."""

    def build_adapter(self, teacher: Any, student: Any) -> keras.Layer | None:
        return projected(self.name, self.projector, teacher, student)

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        mask: Any = None,
        valid: Any = None,
        **kwargs: Any,
    ) -> Any:
        pair, before = (teacher_outputs, student_outputs), mask
        teacher, student, mask = without_padding(self, *pair, mask)
        if mask is not None and len(mask.shape) < 2:  # Positions are no more: their means count.
            sample_weight, valid = mean_over(sample_weight, before), mean_over(valid, before)
        teacher, student = self.split(teacher), self.split(student)
        bands = {band: (teacher[band], student[band]) for band in self.bands}
        losses, _ = self.compare(bands, sample_weight, mask, valid)
        return sum(self.use(f"{band}_weight") * value for band, value in losses.items())

    def get_config(self) -> dict[str, Any]:
        config = {
            "cutoff": self.cutoff,
            "axis": self.axis,
            "standardize": self.standardize,
            # Made with 0, a band would not be compared: a loss that has faded out keeps its band.
            **{name: getattr(self, name) or first for name, first in self._first_weights.items()},
            "low_loss": keras.saving.serialize_keras_object(self.band_losses["low"]),
            "high_loss": keras.saving.serialize_keras_object(self.band_losses["high"]),
            "dtype": self.dtype,
            "projector": projector_config(self.projector),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FrequencyDistillation":
        return cls(**keras.saving.deserialize_keras_object(config))
