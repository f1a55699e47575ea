"""LogMeanSquaredError: the weak consistency of the high band."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_choice, check_float_dtype, check_name

_REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")


@keras.saving.register_keras_serializable(package="keras_fdkd")
class LogMeanSquaredError(keras.losses.Loss):
    """Mean squared error of log-compressed values: weak consistency.

    For features that should agree only roughly, such as the high bands of two modalities:
    `FrequencyDistillation` uses it there, with weight 1.0 to start with.

    `mean((g(y_true) - g(y_pred)) ** 2, axis=-1)` with `g(x) = sign(x) * log1p(abs(x))`. The
    gradient of large values is small, so modality-specific detail is not forced to agree. As in the
    authors' code, the gradient at exactly 0 is 0.

    Args:
        reduction: See `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"log_mean_squared_error"`.
        dtype: See `keras.losses.Loss`. Defaults to `None`.

    Call args:
        y_true: Teacher band, floats of shape `(batch, ..., dim)`.
        y_pred: Student band, of the same shape.

    Returns:
        Loss per sample, shape `(batch, ...)`, reduced as `reduction` says.

    Example:
    >>> import numpy as np
    >>> loss = LogMeanSquaredError()
    >>> round(float(loss(np.array([[0.0, np.e - 1]]), np.array([[0.0, 0.0]]))), 6)
    0.5

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), eq. 9.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "log_mean_squared_error",
        dtype: Any = None,
    ) -> None:
        check_choice("reduction", reduction, _REDUCTIONS, optional=True)
        check_name("name", name)
        check_float_dtype(dtype)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._given_dtype = dtype

    def get_config(self) -> dict[str, Any]:
        # Keras's own losses leave the dtype out.
        return {**super().get_config(), "dtype": self._given_dtype}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.square(_compress(y_true) - _compress(y_pred)), axis=-1)


def _compress(x: Any) -> Any:
    # The sign has slope 0; PyTorch would still compute a gradient through it.
    return ops.stop_gradient(ops.sign(x)) * ops.log1p(ops.abs(x))
