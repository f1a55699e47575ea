"""LayerAttention: how much each layer of the teacher attends to each of the student's, for AFD."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.positions import mean_over_positions
from keras_fdkd.numerics import precise_dtype


@keras.saving.register_keras_serializable(package="keras_fdkd")
class LayerAttention(keras.layers.Layer):
    """Weigh the student's layers for each of the teacher's: the trainable part of `AFD`.

    `keras_fdkd.losses.AFD` makes it; use it directly only in a loss of your own over several
    layers.

    With `f_s` the student's maps, `g_t` the teacher's, `mean` over positions and BN batch
    normalization: `key_s = relu(BN(Dense(mean f_s)))`, `query_t = BN(Dense(mean g_t))`. All keys of
    a batch go through one `B = BN(Dense(key))`, which has `dim` values for each layer of the
    teacher, and `attention[t, s] = softmax_s((B[s, t] . query_t + p_t . p_s) / sqrt(dim))` with
    trained position vectors `p`.

    Args:
        dim: Integer, the size of keys and queries. Defaults to `128`.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        teacher: List of maps, each of shape `(batch, positions..., channels)`, channels known.
        student: List of such maps.
        training: Boolean, whether batch normalization uses the statistics of the batch.
        there: Boolean, shape `(batch,)`, which samples count in these statistics. Defaults to
            `None`: all.

    Returns:
        Tuple `(teacher, (student, attention))`, with the maps unchanged and the attention of shape
        `(batch, teacher layers, student layers)` in float32 (float64 if the layer computes in it).

    Raises:
        ValueError: If `dim` is not a positive integer, or an input is not a list of maps.

    Example:
    >>> import numpy as np
    >>> attend = LayerAttention(dim=4)
    >>> teacher = [np.ones((2, 6, 6, 3), "float32")]
    >>> student = [np.ones((2, 8, 5), "float32"), np.ones((2, 4, 7), "float32")]
    >>> _, (_, attention) = attend(teacher, student)
    >>> tuple(attention.shape), bool(ops.max(ops.abs(ops.sum(attention, axis=-1) - 1)) < 1e-6)
    ((2, 1, 2), True)

    References:
        - [Ji et al., AAAI 2021](https://arxiv.org/abs/2102.02973). Default as in
          clovaai/attention-feature-distillation.
    """

    def __init__(self, dim: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # The maps pass through as they are.
        check_integer("dim", dim)
        self.dim = dim

    def build(self, teacher_shape: list[tuple], student_shape: list[tuple]) -> None:
        for role, shapes in (("teacher", teacher_shape), ("student", student_shape)):
            maps = bool(shapes) and all(isinstance(s, (list, tuple)) for s in shapes)
            if not maps or any(len(shape) < 3 or shape[-1] is None for shape in shapes):
                raise ValueError(
                    f"The {role}'s outputs must be a list of maps, each of shape "
                    f"(batch, positions..., channels) with channels known. Received: {shapes}."
                )
        self.queries = [
            self._linear(f"query_{t}", self.dim, (None, shape[-1]))
            for t, shape in enumerate(teacher_shape)
        ]
        self.keys = [
            self._linear(f"key_{s}", self.dim, (None, shape[-1]), relu=True)
            for s, shape in enumerate(student_shape)
        ]
        size, students = len(teacher_shape) * self.dim, len(student_shape)
        self.bilinear = self._linear("bilinear", size, (None, students, self.dim))
        self.teacher_positions, self.student_positions = (
            self.add_weight(
                name=f"{role}_positions", shape=(n, self.dim), initializer="glorot_normal"
            )
            for role, n in (("teacher", len(teacher_shape)), ("student", students))
        )
        self.built = True

    def _linear(self, name: str, units: int, shape: tuple, relu: bool = False) -> keras.Model:
        policy = self.dtype_policy
        layers = [
            keras.layers.Dense(units, dtype=policy),
            # As in PyTorch, where the defaults come from.
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy),
            *([keras.layers.ReLU(dtype=policy)] if relu else []),
        ]
        stack = keras.Sequential(layers, name=name)
        stack.dtype_policy = policy  # Its constructor takes none, and it casts what comes in.
        stack.build(shape)
        return stack

    def call(
        self, teacher: list, student: list, training: bool = False, there: Any = None
    ) -> tuple[list, tuple]:
        queries, keys = (
            ops.stack(
                [
                    _run(layer, mean_over_positions(x), training, there)
                    for layer, x in zip(layers, maps, strict=True)
                ],
                axis=1,
            )
            for layers, maps in ((self.queries, teacher), (self.keys, student))
        )
        if there is not None:  # One key for each of the student's layers.
            there = ops.logical_and(there[:, None], ops.ones_like(keys[..., 0], dtype="bool"))
        keys = _run(self.bilinear, keys, training, there)
        keys = ops.reshape(keys, (-1, len(student), len(teacher), self.dim))
        dtype = precise_dtype(self.compute_dtype)
        scores = ops.cast(ops.einsum("nstd,ntd->nts", keys, queries), dtype)
        places = ops.matmul(self.teacher_positions, ops.transpose(self.student_positions))
        scores = (scores + ops.cast(places, dtype)) / self.dim**0.5
        # Not `ops.softmax`, which warns if the student has a single layer.
        attention = ops.exp(scores - ops.logsumexp(scores, axis=-1, keepdims=True))
        return teacher, (student, attention)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


def _run(stack: keras.Sequential, x: Any, training: bool, there: Any) -> Any:
    """Run dense layer, batch normalization and ReLU; the mask is for the normalization only."""
    if there is None:
        return stack(x, training=training)
    for layer in stack.layers:
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        x = layer(x, training=training, mask=there) if normalizes else layer(x)
    return x
