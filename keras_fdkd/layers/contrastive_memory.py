"""ContrastiveMemory: pairs of embeddings against banks of all samples, for CRD."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer, check_number, is_number
from keras_fdkd.layers.standardize import Standardize


@keras.saving.register_keras_serializable(package="keras_fdkd")
class ContrastiveMemory(keras.layers.Layer):
    """Score each sample against the banks of the other modality: the trainable part of `CRD`.

    Each modality has a linear embedding into `dim` values of unit norm, `v`, and a bank `M` that
    holds one embedding for each training sample. For sample `n` and candidates `j`, of which the
    first is `n` itself, the layer returns `log o` of
    `o_student[n, j] = exp(M_teacher[j] . v_student[n] / temperature) / Z_student` and of the same
    with the modalities swapped. `Z` is set by the first training batch to `num_samples` times the
    mean of the exponentials, and kept.

    In training the candidates come from the banks, which then move towards the new embeddings:
    `M[n] = normalize(momentum * M[n] + (1 - momentum) * v[n])`. In evaluation a sample need not be
    in the banks: its positive is the other modality's embedding of the same pair, the negatives
    are the same random bank entries for every call, and nothing is updated. `index` is ignored.

    Args:
        num_samples: Integer of at least 2, the size of the training set.
        dim: Integer, the size of the embeddings. Defaults to `128`.
        negatives: Integer, the negatives of each sample; may exceed `num_samples`, as they are
            drawn with replacement. Defaults to `16384`.
        temperature: Float above 0. Defaults to `0.07`.
        momentum: Float in [0, 1), the share of a bank entry that an update keeps.
            Defaults to `0.5`.
        seed: Integer >= 0 or `None`, seeds the negatives. Defaults to `None`.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        teacher, student: Features of the same samples, each of shape `(batch, ...)` with all but
            the batch size known. They are flattened.
        training: Boolean.
        index: Integer numbers of the samples, in `0 .. num_samples - 1`, shape `(batch,)`; needed
            in training. If a sample comes twice in a batch, one of the two updates its entry. A
            number out of range raises an error or gives `nan`, as the backend has it.

    Returns:
        Tuple `(log_teacher, log_student)`, each of shape `(batch, 1 + negatives)` in float32
        (float64 if the layer computes in it): positives in column 0.

    Raises:
        ValueError: If an argument is out of its range, a size of the features is unknown, or
            `index` is missing in training.

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
        self._bank_dtype = "float64" if self.compute_dtype == "float64" else "float32"
        self._normalize = Standardize("norm", center=False, dtype=self._bank_dtype)

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
        self, teacher: Any, student: Any, training: bool = False, index: Any = None
    ) -> tuple[Any, Any]:
        v_teacher = self._embed(self.embed_teacher, teacher)
        v_student = self._embed(self.embed_student, student)
        if training:
            if index is None:
                raise ValueError(
                    "In training the numbers of the samples are needed to find them in the banks. "
                    'Pass `x={"teacher": ..., "student": ..., "index": np.arange(num_samples)}`. '
                    "Received: index=None."
                )
            index = ops.cast(ops.reshape(index, (-1,)), "int32")
            candidates = ops.concatenate([index[:, None], self.draw_negatives(index)], axis=1)
            for_teacher, for_student = self.contrast(v_teacher, v_student, candidates)
        else:
            shape = (ops.shape(v_student)[0], self.negatives)
            drawn = keras.random.randint(shape, 0, self.num_samples, seed=0)
            own = ops.sum(v_teacher * v_student, axis=-1, keepdims=True) / self.temperature
            for_teacher, for_student = (
                ops.concatenate([own, scores], axis=1)
                for scores in self.contrast(v_teacher, v_student, drawn)
            )
        log_z_teacher = self._log_z(self.log_z_teacher, for_teacher)
        log_z_student = self._log_z(self.log_z_student, for_student)
        if training:
            self.log_z_teacher.assign(log_z_teacher)
            self.log_z_student.assign(log_z_student)
            self._update(self.teacher_memory, index, v_teacher)
            self._update(self.student_memory, index, v_student)
        return for_teacher - log_z_teacher, for_student - log_z_student

    def draw_negatives(self, index: Any) -> Any:
        """Return numbers of other samples, shape `(batch, negatives)`, uniform for each sample."""
        shape = (ops.shape(index)[0], self.negatives)
        drawn = keras.random.randint(shape, 0, self.num_samples - 1, seed=self.seed_generator)
        # Numbers from the sample's own on are one too low.
        return drawn + ops.cast(drawn >= index[:, None], "int32")

    def contrast(self, teacher: Any, student: Any, candidates: Any) -> tuple[Any, Any]:
        """Return the products with candidates of the banks, over the temperature.

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
        return self._normalize(embed(ops.reshape(feature, (-1, math.prod(feature.shape[1:])))))

    def _log_z(self, variable: keras.Variable, scores: Any) -> Any:
        scores = ops.stop_gradient(scores)
        peak = ops.max(scores)
        estimate = ops.log(ops.mean(ops.exp(scores - peak))) + peak + math.log(self.num_samples)
        kept = ops.convert_to_tensor(variable)
        return ops.where(ops.isinf(kept), estimate, kept)

    def _update(self, bank: keras.Variable, index: Any, v: Any) -> None:
        mixed = self.momentum * ops.take(bank, index, axis=0) + (1 - self.momentum) * v
        rows = ops.stop_gradient(self._normalize(mixed))
        bank.assign(ops.scatter_update(bank, index[:, None], rows))

    def get_config(self) -> dict[str, Any]:
        names = ("num_samples", "dim", "negatives", "temperature", "momentum", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def check_memory(
    num_samples: Any, dim: Any, negatives: Any, temperature: Any, momentum: Any, seed: Any
) -> None:
    """Raise `ValueError` unless the arguments are in their ranges."""
    check_integer("num_samples", num_samples, 2)
    check_integer("dim", dim)
    check_integer("negatives", negatives)
    check_number("temperature", temperature, above=True)
    if not is_number(momentum) or not 0 <= momentum < 1:
        raise ValueError(
            "`momentum` must be a number of at least 0 and below 1. "
            f"Received: momentum={momentum!r}."
        )
    check_integer("seed", seed, 0, optional=True)
