"""PKD: features compared by their correlation, channel by channel."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape
from keras_fdkd.losses.masking import filled_with_mean, of_channels
from keras_fdkd.losses.pairs import check_map_sizes, check_outputs, same_positions
from keras_fdkd.losses.student_adapter import check_projector, projected, projector_config
from keras_fdkd.numerics import centered, full_precision

_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_fdkd")
class PKD(CrossModalLoss):
    """Mean squared difference of features standardized channel by channel over the batch.

    For features of any task, when their scale carries no meaning. Start with `projector="auto"` and
    `loss_weights=[6.0]`; the published weight is 1, in detection 6 or 10.

    `mean((standard(student) - standard(teacher)) ** 2) / 2` with
    `standard(x) = (x - mean) / (std + 1e-6)` of each channel over all samples and positions, `std`
    unbiased. It is `1 - r` with the Pearson correlation `r`, averaged over channels: the scale of
    the teacher's features does not matter. A channel that is constant over the batch becomes 0 and
    has no gradient.

    Args:
        projector: What brings the student's feature to the teacher's shape, see
            `FrequencyDistillation`: `"auto"`, a `keras.Layer`, or `None` to compare features with
            the same number of channels as they are. Defaults to `None`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        student_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        name: String. Defaults to `"pkd"`.

    Call args:
        teacher: Feature: vectors `(batch, channels)`, or maps `(batch, height, width, channels)`.
            Other numbers of axes need equal shapes.
        student: Feature with the same number of channels, as the projector returns it. A map of
            another height or width is resized to the teacher's, bilinearly.

    Returns:
        Loss per sample, shape `(batch,)`. Mean and deviation belong to the batch. With
        `sample_weight`, all samples take part in them, even those of weight 0; masked samples and
        positions do not.

    Raises:
        ValueError: If the features differ in their number of axes or channels, or in a size that
            cannot be resized.

    Example:
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    >>> loss = PKD()
    >>> float(loss.compute_loss(100 * x + 7, x)) < 1e-6, float(loss.compute_loss(-x, x)) > 1
    (True, True)

    References:
        - [Cao et al., NeurIPS 2022](https://arxiv.org/abs/2207.02039). As in open-mmlab/mmrazor.
    """

    takes_masks = True

    def __init__(
        self,
        *,
        projector: "str | keras.Layer | None" = None,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "pkd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        self.projector = check_projector(projector)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_outputs(self, teacher_outputs, student_outputs, 2)
        if self.projector is not None:
            return
        if len(teacher_outputs.shape) == len(student_outputs.shape) == 4:
            check_same_shape(self, teacher_outputs, student_outputs, slice(-1, None))
            check_same_shape(self, teacher_outputs, student_outputs, slice(0, 1))
            check_map_sizes(self, teacher_outputs, student_outputs)
        else:
            check_same_shape(self, teacher_outputs, student_outputs, slice(None))

    def validate_model_compatibility(self, teacher: Any, student: Any) -> None:
        if self.projector is not None:  # Without one `keras.distillation.Distiller` runs it too.
            super().validate_model_compatibility(teacher, student)

    def build_adapter(self, teacher: Any, student: Any) -> keras.Layer | None:
        if self.projector is None:
            return None
        return projected(self.name, self.projector, teacher, student)

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(teacher, student)
        size = teacher.shape[1:-1]
        if tuple(student.shape[1:-1]) != tuple(size):
            # Like `interpolate` of PyTorch by default, which the published code calls.
            student = ops.image.resize(
                student, size, "bilinear", antialias=False, data_format="channels_last"
            )
        teacher, student = same_positions(self, teacher, student)
        difference = _standard(student, mask) - _standard(teacher, mask)
        return ops.mean(ops.square(difference), axis=-1) / 2.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projector": projector_config(self.projector)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PKD":
        return cls(**keras.saving.deserialize_keras_object(config))


def _standard(x: Any, mask: Any) -> Any:
    axes = tuple(range(len(x.shape) - 1))
    offset, norm = centered(filled_with_mean(x, axes, mask), axes)
    # The batch size may be unknown.
    ones = ops.ones_like(x[..., :1])
    count = ops.sum(ones if mask is None else ops.cast(of_channels(mask, x), x.dtype))
    return offset / (norm / ops.sqrt(ops.maximum(count - 1.0, 1.0)) + _EPSILON)
