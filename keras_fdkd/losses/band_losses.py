"""What compares two bands: losses by name, and whether they tell positions apart."""

import math
from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.log_mean_squared_error import LogMeanSquaredError
from keras_fdkd.losses.reduction import counts

BAND_LOSSES = {"mse": keras.losses.MeanSquaredError, "log_mse": LogMeanSquaredError}


def resolve_loss(loss: Any, name: str) -> keras.losses.Loss:
    """Return the loss of this name, or the loss as it is."""
    if isinstance(loss, str) and loss in BAND_LOSSES:
        return BAND_LOSSES[loss]()
    check_loss(loss, name, f"one of {sorted(BAND_LOSSES)} or ")
    return loss


def check_loss(loss: Any, name: str, others: str = "") -> None:
    """Raise unless `loss` is a `keras.losses.Loss` that reduces to a scalar."""
    if not isinstance(loss, keras.losses.Loss):
        raise ValueError(
            f"`{name}` must be {others}a `keras.losses.Loss`. Received: {name}={loss!r}."
        )
    if loss.reduction in (None, "none"):
        raise ValueError(
            f"`{name}` must reduce to a scalar, by 'sum_over_batch_size' for example. "
            f"Received: reduction={loss.reduction!r}."
        )


def check_positions(loss: keras.losses.Loss, name: str) -> None:
    """Raise unless `loss` gives one value per position."""
    # Only their `call` is known to give a value per position, for `weighted_mean` to reduce.
    if type(loss) not in BAND_LOSSES.values() or loss.reduction != "sum_over_batch_size":
        raise ValueError(
            f"`{name}` sees whole samples, so weights and masks of positions (frames, pixels) do "
            f"not reach it: use one of {sorted(BAND_LOSSES)}, or weights of samples. "
            f"Received: {name}={loss!r}."
        )


def valid_mean(values: Any, mask: Any) -> Any:
    """Return the mean of what is not masked."""
    if mask is None:
        return ops.mean(values)
    counted = counts(values, mask)
    return ops.sum(values * counted) / ops.maximum(ops.sum(counted), 1.0)


def flat_per_sample(value: Any) -> Any:
    """Return a band as `(batch, values)`."""
    if len(value.shape) == 2:
        return value
    # With known sizes the batch is the unknown: the static shape keeps the number of values.
    if None in value.shape[1:]:
        return ops.reshape(value, (ops.shape(value)[0], -1))
    return ops.reshape(value, (-1, math.prod(value.shape[1:])))
