"""Casts, norms, means and logits that stay finite: what layers and losses share."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

# Values that vary by less than this part of their size vary by rounding only.
_ROUNDING = {"float64": 1e-14}
_ROUNDING_OF_FLOAT32 = 1e-6
# Differences of such logits, times a probability, times a squared temperature, stay finite.
_LARGEST_LOGIT = {"float16": 1e4}
_LARGEST_LOGIT_OF_OTHERS = 1e28


def precise_dtype(dtype: Any) -> str:
    """Return `"float64"` for float64, and `"float32"` for everything else."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def as_dtype(x: Any, dtype: str) -> Any:
    """Cast unless `x` has the dtype: on PyTorch, Keras takes long to find out that it has."""
    same = keras.backend.standardize_dtype(x.dtype) == dtype and ops.is_tensor(x)
    return x if same else ops.cast(x, dtype)


def precise(x: Any) -> Any:
    """Return float64 unchanged and everything else in float32."""
    return as_dtype(x, precise_dtype(x.dtype))


def full_precision(teacher: Any, student: Any) -> tuple[Any, Any]:
    """Return both in float32, or in float64 if the student is; the teacher as a constant."""
    teacher, student = ops.convert_to_tensor(teacher), ops.convert_to_tensor(student)
    dtype = precise_dtype(student.dtype)
    return ops.stop_gradient(as_dtype(teacher, dtype)), as_dtype(student, dtype)


def products_are_precise() -> bool:
    """Whether products of float32 matrices keep all their bits.

    On accelerators JAX and TensorFlow round the factors to TF32 or bfloat16 by default. PyTorch
    does so only if it is told to, on any device.
    """
    if keras.config.backend() == "torch":
        import torch

        return torch.get_float32_matmul_precision() == "highest"
    return all(name.startswith("cpu") for name in keras.distribution.list_devices())


def without_mean(x: Any, axis: Any) -> tuple[Any, Any]:
    """Return `x` minus its mean along `axis`, and that mean (axes kept).

    Where `x` is constant up to rounding, the first is 0 and has no gradient: rounding noise has no
    direction.
    """
    mean = ops.mean(x, axis=axis, keepdims=True)
    offset = x - mean
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        # On PyTorch, Keras computes this mean in float32.
        offset = offset - ops.mean(offset, axis=axis, keepdims=True)
    # The largest entry rather than the energy, which leaves the range of float32 at 1e20. If all
    # entries are alike, the mean is as large as any of them.
    spread = ops.max(ops.abs(offset), axis=axis, keepdims=True)
    rounding = _ROUNDING.get(keras.backend.standardize_dtype(x.dtype), _ROUNDING_OF_FLOAT32)
    varies = ops.cast(spread > rounding * ops.abs(mean), offset.dtype)
    return offset * varies, mean  # NaN times 0 is NaN: broken input stays visible.


def safe_inverse_norm(energy: Any, least: float = 0.0, scale: float = 1.0) -> Any:
    """Return `scale / sqrt(energy)`; 0, without a gradient, where `energy` is at most `least`.

    Arithmetic instead of `where`, which takes longer on PyTorch with a number, and so that NaN
    stays NaN.

    Args:
        energy: Sum of squares, float tensor of any shape.
        least: Number >= 0. A vector whose squared norm is at most this has no direction.
        scale: Number above 0.

    Example:
    >>> [float(x) for x in safe_inverse_norm(ops.convert_to_tensor([4.0, 0.0]))]
    [0.5, 0.0]
    """
    dead = ops.cast(energy <= least, energy.dtype)
    # Adding 1 where the energy is 0 keeps the infinite slope of rsqrt out of the gradient.
    # A `where` around the result would not: https://github.com/jax-ml/jax/issues/5798.
    return (scale - scale * dead) * ops.rsqrt(energy + dead)


def safe_norm(energy: Any) -> Any:
    """Return `sqrt(energy)`, with no gradient where `energy` is 0: the slope there is infinite."""
    dead = ops.cast(energy <= 0, energy.dtype)
    return (1.0 - dead) * ops.sqrt(energy + dead)


def unit(x: Any, axis: Any = -1, least: float = 0.0, scale: float = 1.0) -> Any:
    """Return `x` with Euclidean norm `scale` along `axis`, see `safe_inverse_norm`."""
    energy = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * safe_inverse_norm(energy, least, scale)


def centered(x: Any, axis: Any) -> tuple[Any, Any]:
    """Return `x` minus its mean along `axis`, and the Euclidean norm of that (axes kept).

    Where `x` is constant up to rounding, both are 0 and have no gradient: rounding noise has no
    direction.
    """
    offset, _ = without_mean(x, axis)
    return offset, safe_norm(ops.sum(ops.square(offset), axis=axis, keepdims=True))


def bounded_logits(x: Any, temperature: Any = None) -> Any:
    """Return logits, divided by the temperature, whose softmax and divergences are finite.

    A logit beyond 1e28 (1e4 in float16), such as -inf for a masked class, is moved to that bound
    and has no gradient. NaN and +inf, which come from a fault, become NaN.

    Args:
        x: Logits.
        temperature: What they are divided by. Defaults to `None`: not divided.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    largest = _LARGEST_LOGIT.get(dtype, _LARGEST_LOGIT_OF_OTHERS)
    bounded = ops.clip(x if temperature is None else x / temperature, -largest, largest)
    return ops.where(ops.equal(x, math.inf), math.nan, bounded)


def mean_per_sample(x: Any) -> Any:
    """Return the mean over all axes but the batch, shape `(batch,)`."""
    axes = tuple(range(1, len(x.shape)))
    return ops.mean(x, axis=axes) if axes else x  # PyTorch takes an empty `axes` for all axes.


def adaptive_average(x: Any, axis: int, size: int) -> Any:
    """Average `axis` to `size` bins, which may overlap; more bins than values repeat values.

    `ops.adaptive_average_pool` of Keras 3.15 gives NaN on JAX for some sizes (10 to 7) and fails on
    TensorFlow.
    """
    given = x.shape[axis]
    bins = np.zeros((given, size), "float32")
    for i in range(size):
        start, stop = i * given // size, -(-(i + 1) * given // size)
        bins[start:stop, i] = 1.0 / (stop - start)
    pooled = ops.matmul(ops.moveaxis(x, axis, -1), ops.convert_to_tensor(bins, dtype=x.dtype))
    return ops.moveaxis(pooled, -1, axis)
