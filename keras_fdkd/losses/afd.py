"""AFD: attention-based feature distillation."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.layer_attention import LayerAttention
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss
from keras_fdkd.numerics import adaptive_average, precise, unit

# Squares of weak activations are small: only true zeros may count as dead.
_EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="keras_fdkd")
class AFD(CrossModalLoss):
    """Attention-based feature distillation: every teacher layer finds its student layers.

    For pairs of convolutional models where it is not clear which student layer should imitate which
    teacher layer: an attention, trained with the student, weighs all pairs of the layers you name.
    Start with `loss_weights=[200.0]`, the weight of the published code.

    The value of a map is the mean over channels of its square, flattened and divided by its norm;
    that of a student's map is first averaged to the teacher's size (adaptive average pooling, which
    repeats values where the teacher's map is larger). With the attention of
    `keras_fdkd.layers.LayerAttention`, the loss of a sample is
    `sum_t sum_s attention[t, s] * mean((value_s - value_t) ** 2)`. A map of zeros has a value of
    zeros and no gradient.

    Args:
        teacher_layer_name: List of paths of the teacher's layers. Their outputs are maps
            `(batch, positions..., channels)` of known size. Required.
        student_layer_name: The same for the student. Required. All maps of both models have the
            same number of axes of positions, one to three.
        dim: Integer, the size of keys and queries. Defaults to `128`.
        name: String. Defaults to `"afd"`.

    Call args:
        teacher: List of maps.
        student: Tuple of a list of maps, and the attention of shape
            `(batch, teacher layers, student layers)`, as the adapter returns them.

    Returns:
        Loss per sample, shape `(batch,)`.

    Raises:
        ValueError: If the layer names are missing or not lists, `dim` is not a positive integer, or
            the outputs are not maps of known size with the same number of axes.

    Example:
    >>> import numpy as np
    >>> loss = AFD(teacher_layer_name=["conv"], student_layer_name=["early", "late"], dim=4)
    >>> shapes = [[(None, 6, 3)], [(None, 12, 5), (None, 3, 7)]]
    >>> adapter = loss.build_adapter(*([keras.KerasTensor(s) for s in side] for side in shapes))
    >>> outputs = adapter([np.ones((2, 6, 3), "float32")],
    ...                   [np.ones((2, 12, 5), "float32"), np.ones((2, 3, 7), "float32")])
    >>> values = loss.call(*outputs)
    >>> tuple(values.shape), bool(ops.max(values) < 1e-6)
    ((2,), True)

    References:
        - [Ji et al., AAAI 2021](https://arxiv.org/abs/2102.02973). Default as in
          clovaai/attention-feature-distillation.
    """

    takes_masks = False

    def __init__(
        self,
        *,
        teacher_layer_name: list[str] | None = None,
        student_layer_name: list[str] | None = None,
        dim: int = 128,
        name: str = "afd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            name=name,
        )
        for role, paths in (("teacher", teacher_layer_name), ("student", student_layer_name)):
            if not isinstance(paths, list):
                raise ValueError(
                    f"`AFD` compares several layers: `{role}_layer_name` is required and must be a "
                    "list of layer paths. "
                    f"Received: {role}_layer_name={paths!r}."
                )
        check_integer("dim", dim)
        self.dim = dim

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        shapes = {}
        for role, outputs in (("teacher", teacher_outputs), ("student", student_outputs)):
            if not isinstance(outputs, (list, tuple)):
                raise ValueError(
                    f"`AFD` compares lists of maps. Received: {role} {type(outputs).__name__}."
                )
            shapes[role] = [tuple(output.shape) for output in outputs]
        ranks = {len(shape) for side in shapes.values() for shape in side}
        sizes = [size for side in shapes.values() for shape in side for size in shape[1:]]
        if len(ranks) != 1 or not ranks <= {3, 4, 5} or None in sizes:
            raise ValueError(
                "`AFD` compares maps of shape (batch, positions..., channels), all with the same "
                "one, two or three axes of positions and with all but the batch size known. Choose "
                "layers before the pooling, or another loss for vectors. "
                f"Received: teacher {shapes['teacher']}, student {shapes['student']}."
            )

    def build_adapter(self, teacher: Any, student: Any) -> LayerAttention:
        self.validate_outputs(teacher, student)
        attention = LayerAttention(self.dim, name=f"{self.name}_attention")
        attention.build(*([tuple(x.shape) for x in side] for side in (teacher, student)))
        return attention

    def call(self, teacher: Any, student: Any, y: Any = None) -> Any:
        maps, attention = student
        # Once, and not again for each of the teacher's layers.
        energies = [_energy(x) for x in maps]
        total = 0.0
        for t, x in enumerate(teacher):
            wanted = _value(_energy(x))
            sizes = tuple(x.shape[1:-1])
            values = ops.stack([_value(_resize(e, sizes)) for e in energies], axis=1)
            errors = ops.mean(ops.square(values - wanted[:, None]), axis=-1)
            total = total + ops.sum(attention[:, t] * errors, axis=-1)
        return total

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


def _energy(x: Any) -> Any:
    return ops.mean(ops.square(precise(x)), axis=-1)


def _value(energy: Any) -> Any:
    flat = ops.reshape(energy, (-1, math.prod(energy.shape[1:])))
    # Squared, because it is compared with the squared norm.
    return unit(flat, -1, _EPSILON**2)


def _resize(x: Any, sizes: tuple[int, ...]) -> Any:
    for axis, size in enumerate(sizes, start=1):
        if x.shape[axis] != size:
            x = adaptive_average(x, axis, size)
    return x
