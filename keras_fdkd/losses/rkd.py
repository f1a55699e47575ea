"""RKD: relational knowledge distillation."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_number
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, check_same_shape
from keras_fdkd.losses.pairs import check_outputs
from keras_fdkd.numerics import full_precision, safe_inverse_norm


@keras.saving.register_keras_serializable(package="keras_fdkd")
class RKD(CrossModalLoss):
    """Relational knowledge distillation: distances and angles between the samples of a batch.

    For features that are vectors whose distances carry meaning (embeddings); their sizes may
    differ. Start with `loss_weights=[0.5]`.

    `distance_weight * mean_jk H(d_s - d_t) + angle_weight * mean_jkl H(psi_s - psi_t)`. Distances
    `d_jk = sqrt(max(||x_j - x_k||^2, eps))` are divided by their mean over the pairs of different
    samples; `psi_jkl` is the cosine of the angle at sample `j` between samples `k` and `l`; `H` is
    the Huber function `u^2 / 2` for `|u| < 1`, else `|u| - 1/2`. A sample alone in its batch has no
    relations: its loss is 0.

    Memory grows with `batch^2 * dim + batch^3`.

    Args:
        distance_weight: Float >= 0. Defaults to `25.0`.
        angle_weight: Float >= 0. At 0 no angle is computed. Defaults to `50.0`.
        eps: Float above 0, the smallest squared distance. Pairs at or below it have no direction
            and get no gradient. Defaults to `1e-12`.
        teacher_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        student_layer_name: See `CrossModalLoss`. Without a path the feature is compared.
        name: String. Defaults to `"rkd"`.

    Call args:
        teacher: Feature, shape `(batch, dim)`.
        student: Feature, shape `(batch, dim)`; `dim` may differ from the teacher's.

    Returns:
        Loss per sample, shape `(batch,)`, the mean over the pairs and triples in which it is sample
        `j`. A sample whose `sample_weight` is 0 adds no value of its own, but still takes part in
        the relations of the others.

    Raises:
        ValueError: If an argument is out of range, or the outputs are not vectors.

    Example:
    >>> import numpy as np
    >>> teacher = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    >>> student = np.concatenate([5 * teacher, np.zeros((6, 3), "float32")], axis=1)
    >>> loss = RKD()
    >>> float(loss.compute_loss(teacher, student)) < 1e-8
    True
    >>> float(loss.compute_loss(teacher, student**3)) > 0.1
    True

    References:
        - [Park et al., CVPR 2019](https://arxiv.org/abs/1904.05068). Defaults from
          megvii-research/mdistiller.
    """

    takes_masks = True  # Vectors have no positions, and a sample may be left out.

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        eps: float = 1e-12,
        *,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "rkd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name, student_layer_name=student_layer_name, name=name
        )
        check_number("distance_weight", distance_weight)
        check_number("angle_weight", angle_weight)
        check_number("eps", eps, above=True)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight
        self.eps = eps

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        check_outputs(self, teacher_outputs, student_outputs, 2, 2)
        check_same_shape(self, teacher_outputs, student_outputs, slice(0, 1))

    def call(self, teacher: Any, student: Any, y: Any = None, mask: Any = None) -> Any:
        pair = full_precision(teacher, student)
        differences = [ops.expand_dims(x, 0) - ops.expand_dims(x, 1) for x in pair]
        energies = [ops.sum(ops.square(x), axis=-1) for x in differences]
        there = None if mask is None else ops.cast(mask, pair[1].dtype)
        both = None if there is None else there[:, None] * there[None, :]
        teacher, student = (self._distances(energy, both) for energy in energies)
        value = self.distance_weight * _mean_of(_huber(student - teacher), there, 1)
        if self.angle_weight:
            teacher, student = map(self._cosines, differences, energies)
            value = value + self.angle_weight * _mean_of(_huber(student - teacher), there, 2)
        return value

    def _distances(self, energy: Any, both: Any) -> Any:
        """Distances divided by their mean, shape `(batch, batch)`."""
        index = ops.cumsum(ops.ones_like(energy[:, 0]))  # The batch size may be unknown.
        others = ops.not_equal(ops.expand_dims(index, 0), ops.expand_dims(index, 1))
        others = others if both is None else ops.logical_and(others, both > 0)
        distance = ops.where(others, ops.sqrt(ops.maximum(energy, self.eps)), 0.0)
        count = ops.sum(ops.cast(others, energy.dtype))
        mean = ops.sum(distance) / ops.maximum(count, 1.0)
        # A sample alone has no distance: 0 / 1 rather than 0 / 0.
        return distance / ops.where(count > 0, mean, 1.0)

    def _cosines(self, difference: Any, energy: Any) -> Any:
        """Cosines of the angles at the first sample, shape `(batch, batch, batch)`."""
        direction = difference * ops.expand_dims(safe_inverse_norm(energy, self.eps), -1)
        return ops.matmul(direction, ops.swapaxes(direction, 1, 2))

    def get_config(self) -> dict[str, Any]:
        config = {
            "distance_weight": self.distance_weight,
            "angle_weight": self.angle_weight,
            "eps": self.eps,
        }
        return {**super().get_config(), **config}


def _mean_of(values: Any, there: Any, axes: int) -> Any:
    """Return the mean over the last axes, which hold samples, of those that count."""
    for _ in range(axes):
        if there is None:
            values = ops.mean(values, axis=-1)
        else:
            values = ops.sum(values * there, axis=-1) / ops.maximum(ops.sum(there), 1.0)
    return values


def _huber(x: Any) -> Any:
    size = ops.abs(x)
    return ops.where(size < 1.0, ops.square(x) / 2.0, size - 0.5)
