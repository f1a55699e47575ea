"""CRD: contrastive representation distillation."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.layers.contrastive_memory import ContrastiveMemory
from keras_fdkd.layers.memory_checks import check_index, check_memory
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss

_EPSILON = 1e-7


@keras.saving.register_keras_serializable(package="keras_fdkd")
class CRD(CrossModalLoss):
    """Contrastive representation distillation: tell a pair from the samples of a memory bank.

    For features that are vectors, and data sets of at least thousands of samples. Start with
    `loss_weights=[0.4]` and `negatives=1024` (or the number of samples, if smaller); the published
    code weighs this loss by 0.8 next to the cross-entropy.

    The features of both modalities are embedded linearly and compared with banks of the other
    modality's embeddings of all training samples, see `keras_fdkd.layers.ContrastiveMemory`. With
    its scores `o`, of the positive `o_0` and of negatives `o_j`, and `c = negatives / num_samples`,
    each of the two modalities adds
    `-log(o_0 / (o_0 + c + 1e-7)) - sum_j log(c / (o_j + c + 1e-7))`.

    Negatives are drawn from all other samples. The published code draws them from other classes if
    there are labels; here labels may be missing, and a negative may have the sample's own class.

    The distiller needs to know which samples it sees: pass their numbers as
    `x={"teacher": ..., "student": ..., "index": np.arange(num_samples)}`. `check_index` rejects
    numbers that are out of range, repeated, or not integers. Validation data need no index.

    Args:
        num_samples: Integer >= 2, the size of the training set.
        dim: Integer, the size of the embeddings. Defaults to `128`.
        negatives: Integer, the negatives of each sample, drawn with replacement. Defaults to
            `16384`.
        temperature: Float above 0. Defaults to `0.07`.
        momentum: Float in [0, 1), the share of a bank entry that an update keeps. Defaults to
            `0.5`.
        seed: Integer >= 0 or `None`, seeds the negatives and the initial banks. Defaults to `None`.
        teacher_layer_name: Path of the compared layer, whose output has a known size, or `None` for
            the distiller's feature. Defaults to `None`.
        student_layer_name: The same for the student. Defaults to `None`.
        name: String. Defaults to `"crd"`.

    Call args:
        teacher: `log o` of the teacher's modality, shape `(batch, 1 + negatives)`, as the adapter
            returns it.
        student: The same for the student's modality.

    Returns:
        Loss per sample, shape `(batch,)`.

    Raises:
        ValueError: If an argument is out of its range, or the output of a side is not one tensor of
            known size.

    Example:
    >>> import numpy as np
    >>> loss = CRD(num_samples=10, dim=4, negatives=6, seed=0)
    >>> adapter = loss.build_adapter(keras.KerasTensor((None, 8)), keras.KerasTensor((None, 5)))
    >>> teacher, student = np.ones((2, 8), "float32"), np.ones((2, 5), "float32")
    >>> outputs = adapter(teacher, student, training=True, index=np.array([3, 7]))
    >>> tuple(loss.call(*outputs).shape)
    (2,)

    References:
        - [Tian et al., ICLR 2020](https://arxiv.org/abs/1910.10699). Defaults as in
          megvii-research/mdistiller.
    """

    needs_index = True

    # A feature is flattened into one embedding, from which no position can be left out.
    takes_masks = False

    def __init__(
        self,
        num_samples: int,
        *,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        seed: int | None = None,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        name: str = "crd",
    ) -> None:
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            name=name,
        )
        check_memory(num_samples, dim, negatives, temperature, momentum, seed)
        self.num_samples = num_samples
        self.negatives = negatives
        self._settings: dict[str, Any] = {
            "num_samples": num_samples,
            "dim": dim,
            "negatives": negatives,
            "temperature": temperature,
            "momentum": momentum,
            "seed": seed,
        }

    def check_index(self, index: Any) -> None:
        """Raise `ValueError` unless `index` gives samples of the banks, each at most once.

        Args:
            index: Integer array, shape `(samples,)` or `(samples, 1)`.
        """
        check_index(index, self.num_samples)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        for role, output in (("teacher", teacher_outputs), ("student", student_outputs)):
            shape = getattr(output, "shape", None)
            if shape is None or len(shape) < 2 or None in tuple(shape)[1:]:
                raise ValueError(
                    f"`CRD` compares one tensor a side, of shape (batch, ...) with all but the "
                    f"batch size known. Choose another `{role}_layer_name`. Received: "
                    f"{role} {type(output).__name__ if shape is None else tuple(shape)}."
                )

    def build_adapter(self, teacher: Any, student: Any) -> ContrastiveMemory:
        self.validate_outputs(teacher, student)
        memory = ContrastiveMemory(**self._settings, name=f"{self.name}_memory")
        memory.build(tuple(teacher.shape), tuple(student.shape))
        return memory

    def call(self, teacher: Any, student: Any, y: Any = None) -> Any:
        return self._side(teacher) + self._side(student)

    def _side(self, log_o: Any) -> Any:
        # The logarithms of the formula as softplus, which does not overflow.
        c = self.negatives / self.num_samples
        log_c = math.log(c + _EPSILON)
        positive = ops.softplus(log_c - log_o[:, 0])
        negative = ops.sum(ops.softplus(log_o[:, 1:] - log_c), axis=-1)
        # What the formula has beside softplus, for each negative: log((c + 1e-7) / c).
        return positive + negative + self.negatives * math.log1p(_EPSILON / c)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._settings}
