"""AT: attention transfer."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_number
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape
from keras_fdkd.losses.masking import of_channels
from keras_fdkd.losses.pairs import check_map_sizes, check_outputs, same_positions
from keras_fdkd.numerics import adaptive_average, full_precision, unit

# Squares of weak activations are small: only true zeros may count as dead.
_EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="keras_fdkd")
class AT(CrossModalLoss):
    """Attention transfer: where a map is active, whatever its channels.

    For pairs whose feature maps or sequences show the same scene position by position, such as
    depth and color: the student learns which positions matter. Start with `loss_weights=[1000.0]`,
    the published weight: squares of parts of a unit vector are small.

    `mean((A(student) - A(teacher)) ** 2)` over positions, where `A(x)` is the mean over channels of
    `abs(x) ** p`, divided by its Euclidean norm over the positions of the sample. The larger map is
    first average-pooled to the size of the smaller, axis by axis. A map of zeros stays zero and has
    no gradient.

    One object compares one pair of layers: add one for each stage.

    Args:
        p: Number >= 1. The larger it is, the more the strongest activations dominate. Defaults to
            `2`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        student_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        name: String. Defaults to `"at"`.

    Call args:
        teacher: Map `(batch, height, width, channels)` or sequence `(batch, steps, channels)`.
        student: The same. Sizes and channels may differ from the teacher's, but not the number of
            axes.

    Returns:
        Loss per sample, shape `(batch,)`.

    Raises:
        ValueError: If `p` is out of range, or the outputs are not maps with the same number of
            axes.

    Example:
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> teacher = rng.normal(size=(2, 4, 4, 8)).astype("float32")
    >>> loss = AT()
    >>> float(loss.compute_loss(teacher, 3 * teacher)) < 1e-12
    True
    >>> student = rng.normal(size=(2, 8, 8, 5)).astype("float32")
    >>> 0.0 < float(loss.compute_loss(teacher, student)) < 4 / 16
    True

    References:
        - [Zagoruyko and Komodakis, ICLR 2017](https://arxiv.org/abs/1612.03928). Defaults from
          megvii-research/mdistiller.
    """

    takes_masks = True

    def __init__(
        self,
        p: float = 2,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "at",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        check_number("p", p)
        if p < 1:  # Below 1 the slope at 0 is infinite.
            raise ValueError(f"`p` must be at least 1. Received: p={p}.")
        self.p = p

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_outputs(self, teacher_outputs, student_outputs, 3)
        check_same_shape(self, teacher_outputs, student_outputs, slice(0, 1))
        check_map_sizes(self, teacher_outputs, student_outputs)

    def values(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        teacher, student = full_precision(teacher, student)
        of_positions = mask is not None and len(mask.shape) > 1  # Else one entry per sample.
        if of_positions and teacher.shape[1:-1] != student.shape[1:-1]:
            raise ValueError(
                "`AT` can leave positions out of maps of one size only: compare layers of one "
                "size, or pass one weight per sample. "
                f"Received: teacher {tuple(teacher.shape)}, student {tuple(student.shape)}."
            )
        if mask is not None:  # What is masked is nowhere active.
            teacher, student = (ops.where(of_channels(mask, x), x, 0.0) for x in (teacher, student))
        positions = tuple(range(1, len(student.shape) - 1))
        for axis in positions:
            sizes = teacher.shape[axis], student.shape[axis]
            if sizes[0] != sizes[1]:
                teacher, student = (
                    adaptive_average(x, axis, min(sizes)) if x.shape[axis] > min(sizes) else x
                    for x in (teacher, student)
                )
        maps = (self._attention(side, positions) for side in (teacher, student))
        teacher, student = same_positions(self, *maps)
        return ops.square(teacher - student)

    def _attention(self, x: Any, positions: tuple[int, ...]) -> Any:
        power = ops.square(x) if self.p == 2 else ops.power(ops.abs(x), self.p)
        attention = ops.mean(power, axis=-1)
        return unit(attention, positions, _EPSILON**2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "p": self.p}
