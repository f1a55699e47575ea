"""ContrastiveMemory: pairs of embeddings against banks of all samples, for CRD."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.layers.memory_checks import INDEX_REQUIRED, check_memory
from keras_fdkd.numerics import as_dtype, precise_dtype, unit

# An embedding of this norm or less has no direction.
_EPSILON = 1e-8
_SMALL_INTEGERS = ("int8", "uint8", "int16", "uint16")


@keras.saving.register_keras_serializable(package="keras_fdkd")
class ContrastiveMemory(keras.layers.Layer):
    """Score each sample against the banks of the other modality: the trainable part of `CRD`.

    `keras_fdkd.losses.CRD` makes it; use it directly only in a contrastive loss of your own.

    Each modality has a linear embedding into `dim` values of unit norm, `v`, and a bank `M` that
    holds one embedding for each training sample. For sample `n` and candidates `j`, of which the
    first is `n` itself, the layer returns `log o` of
    `o_student[n, j] = exp(M_teacher[j] . v_student[n] / temperature) / Z_student` and of the same
    with the modalities swapped. `Z` is set by the first training batch to `num_samples` times the
    mean of the exponentials, and kept.

    In training the candidates come from the banks, which then move towards the new embeddings:
    `M[n] = normalize(momentum * M[n] + (1 - momentum) * v[n])`. In evaluation a sample need not be
    in the banks: its positive is the other modality's embedding of the same pair, the negatives are
    the same random bank entries in every call, and nothing is updated. `index` is ignored.

    Args:
        num_samples: Integer >= 2, the size of the training set.
        dim: Integer, the size of the embeddings. Defaults to `128`.
        negatives: Integer, the negatives of each sample; may exceed `num_samples`, because they are
            drawn with replacement. Defaults to `16384`.
        temperature: Float above 0. Defaults to `0.07`.
        momentum: Float in [0, 1), the share of a bank entry that an update keeps.
            Defaults to `0.5`.
        seed: Integer >= 0 or `None`, seeds the negatives and the initial banks. Defaults to `None`.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        teacher: Features, shape `(batch, ...)` with all sizes but the batch known. They are
            flattened.
        student: Features of the same samples, likewise.
        training: Boolean.
        index: Integer numbers of the samples, in `0 .. num_samples - 1`, shape `(batch,)` or
            `(batch, 1)`; required in training. A compiled step cannot raise an error: a number out
            of range changes no entry of a bank, and the scores of its sample are NaN, without a
            gradient. If a sample occurs twice in a batch, one of the two updates its entry.
            `check_index` finds both beforehand.
        there: Boolean, shape `(batch,)`: which samples have both sides. In training the others
            change nothing. Defaults to `None`: all.

    Returns:
        Tuple `(log_teacher, log_student)`, each of shape `(batch, 1 + negatives)` in float32
        (float64 if the layer computes in it): positives in column 0.

    Raises:
        ValueError: If an argument is out of its range, a size of the features is unknown, or
            `index` is missing in training, has another shape, or does not hold integers.

    Example:
    >>> import numpy as np
    >>> memory = ContrastiveMemory(num_samples=10, dim=4, negatives=6, seed=0)
    >>> memory.build((None, 8), (None, 5))
    >>> teacher, student = np.ones((2, 8), "float32"), np.ones((2, 5), "float32")
    >>> scores = memory(teacher, student, training=True, index=np.array([3, 7]))
    >>> [tuple(score.shape) for score in scores]
    [(2, 7), (2, 7)]

    References:
        - [Tian et al., ICLR 2020](https://arxiv.org/abs/1910.10699). Defaults, initial banks and
          `Z` as in megvii-research/mdistiller.
    """

    def __init__(
        self,
        num_samples: int,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_memory(num_samples, dim, negatives, temperature, momentum, seed)
        self.num_samples = num_samples
        self.dim = dim
        self.negatives = negatives
        self.temperature = temperature
        self.momentum = momentum
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.embed_teacher = keras.layers.Dense(dim, dtype=self.dtype_policy, name="embed_teacher")
        self.embed_student = keras.layers.Dense(dim, dtype=self.dtype_policy, name="embed_student")
        # exp(1 / 0.07) leaves the range of half precision.
        self._bank_dtype = precise_dtype(self.compute_dtype)

    def build(self, teacher_shape: tuple, student_shape: tuple) -> None:
        for role, shape, embed in (
            ("teacher", teacher_shape, self.embed_teacher),
            ("student", student_shape, self.embed_student),
        ):
            if len(shape) < 2 or None in shape[1:]:
                raise ValueError(
                    f"The {role}'s feature must have the shape (batch, ...) with all but the batch "
                    "size known; pool it over axes of unknown size. "
                    f"Received: shape {tuple(shape)}."
                )
            embed.build((None, math.prod(shape[1:])))
        bound = math.sqrt(3 / self.dim)  # Rows of unit norm, on average.
        uniform = keras.initializers.RandomUniform(-bound, bound, seed=self.seed_generator)
        self.teacher_memory, self.student_memory = (
            self._state(f"{role}_memory", (self.num_samples, self.dim), uniform)
            for role in ("teacher", "student")
        )
        unset = keras.initializers.Constant(-math.inf)  # log Z of Z = 0
        self.log_z_teacher, self.log_z_student = (
            self._state(f"log_z_{role}", (), unset) for role in ("teacher", "student")
        )
        self.built = True

    def _state(self, name: str, shape: tuple, initializer: Any) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=self._bank_dtype,
            trainable=False,
            autocast=False,
        )

    def call(
        self,
        teacher: Any,
        student: Any,
        training: bool = False,
        index: Any = None,
        there: Any = None,
    ) -> tuple[Any, Any]:
        v_teacher = self._embed(self.embed_teacher, teacher)
        v_student = self._embed(self.embed_student, student)
        known = None
        if training:
            index, known = self._find(index)
            # `where` keeps the NaN out of the gradient.
            v_teacher, v_student = (
                ops.where(known[:, None], v, math.nan) for v in (v_teacher, v_student)
            )
            known = known if there is None else ops.logical_and(known, there)
            candidates = ops.concatenate([index[:, None], self.draw_negatives(index)], axis=1)
            for_teacher, for_student = self.contrast(v_teacher, v_student, candidates)
        else:
            shape = (ops.shape(v_student)[0], self.negatives)
            # A fixed seed: the same negatives in every call of evaluation.
            drawn = keras.random.randint(shape, 0, self.num_samples, seed=0)
            own = ops.sum(v_teacher * v_student, axis=-1, keepdims=True) / self.temperature
            for_teacher, for_student = (
                ops.concatenate([own, scores], axis=1)
                for scores in self.contrast(v_teacher, v_student, drawn)
            )
        log_z_teacher = self._log_z(self.log_z_teacher, for_teacher, known)
        log_z_student = self._log_z(self.log_z_student, for_student, known)
        if training:
            self.log_z_teacher.assign(log_z_teacher)
            self.log_z_student.assign(log_z_student)
            self._update(self.teacher_memory, index, known, v_teacher)
            self._update(self.student_memory, index, known, v_student)
        return for_teacher - log_z_teacher, for_student - log_z_student

    def _find(self, index: Any) -> tuple[Any, Any]:
        """Return the numbers as int32, 0 for those out of range, and which are in range."""
        if index is None:
            raise ValueError(
                "In training the numbers of the samples are needed to find them in the banks. "
                'Pass `x={"teacher": ..., "student": ..., "index": np.arange(num_samples)}`. '
                "Received: index=None."
            )
        index = ops.convert_to_tensor(index)
        dtype = keras.backend.standardize_dtype(index.dtype)
        if "int" not in dtype or tuple(index.shape[1:]) not in ((), (1,)) or not index.shape:
            raise ValueError(
                f"{INDEX_REQUIRED} Received: shape {tuple(index.shape)}, dtype {dtype}."
            )
        index = ops.reshape(index, (-1,))
        if dtype in _SMALL_INTEGERS:  # They may not hold `num_samples`.
            index = ops.cast(index, "int32")
        known = ops.logical_and(index >= 0, index < self.num_samples)
        return ops.cast(ops.where(known, index, 0), "int32"), known

    def draw_negatives(self, index: Any) -> Any:
        """Return numbers of other samples, shape `(batch, negatives)`, uniform for each sample."""
        shape = (ops.shape(index)[0], self.negatives)
        drawn = keras.random.randint(shape, 0, self.num_samples - 1, seed=self.seed_generator)
        # Drawn from one number fewer: those from the sample's own on move up by one.
        return drawn + ops.cast(drawn >= index[:, None], "int32")

    def contrast(self, teacher: Any, student: Any, candidates: Any) -> tuple[Any, Any]:
        """Return the products with candidates of the banks, divided by the temperature.

        Args:
            teacher: Embeddings, shape `(batch, dim)`.
            student: Embeddings, shape `(batch, dim)`.
            candidates: Integer numbers of samples, shape `(batch, n)`.

        Returns:
            Tuple `(M_student . v_teacher, M_teacher . v_student)` of shape `(batch, n)`.
        """
        return tuple(
            # All products take less memory than the gathered entries would, (batch, n, dim).
            # A copy, because torch keeps what it differentiates and the bank changes in place.
            ops.take_along_axis(ops.matmul(v, ops.transpose(ops.copy(bank))), candidates, axis=1)
            / self.temperature
            for v, bank in ((teacher, self.student_memory), (student, self.teacher_memory))
        )

    def _embed(self, embed: keras.layers.Dense, feature: Any) -> Any:
        v = embed(ops.reshape(feature, (-1, math.prod(feature.shape[1:]))))
        return unit(as_dtype(v, self._bank_dtype), -1, _EPSILON**2)

    def _log_z(self, variable: keras.Variable, scores: Any, known: Any) -> Any:
        """Return the stored value, else an estimate from the known samples (`None`: from all)."""
        kept = ops.convert_to_tensor(variable)
        scores, share, unset = ops.stop_gradient(scores), 1.0, ops.isinf(kept)
        if known is not None:
            scores = ops.where(known[:, None], scores, -math.inf)  # exp(-inf) = 0
            share = ops.mean(ops.cast(known, scores.dtype))
            unset = ops.logical_and(unset, ops.any(known))
        # Relative to the largest score, so that the exponentials stay in range.
        peak = ops.max(scores)
        mean = ops.mean(ops.exp(scores - peak)) / share
        return ops.where(unset, ops.log(mean) + peak + math.log(self.num_samples), kept)

    def _update(self, bank: keras.Variable, index: Any, known: Any, v: Any) -> None:
        old = ops.take(bank, index, axis=0)
        new = unit(self.momentum * old + (1 - self.momentum) * v, -1, _EPSILON**2)
        rows = ops.where(known[:, None], ops.stop_gradient(new), old)
        # An unknown sample writes what the first known one does, or else entry 0 as it was.
        first = ops.cast(ops.argmax(ops.cast(known, "int32")), "int32")
        source = ops.where(known, ops.arange(ops.shape(index)[0], dtype="int32"), first)
        index, rows = ops.take(index, source, axis=0), ops.take(rows, source, axis=0)
        bank.assign(ops.scatter_update(bank, index[:, None], rows))

    def get_config(self) -> dict[str, Any]:
        names = ("num_samples", "dim", "negatives", "temperature", "momentum", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
