"""The shared casts, norms and bounds: values and gradients, of dead and broken rows too."""

import keras
import numpy as np
import pytest
from conftest import gradient
from keras import ops

from keras_fdkd.numerics import (
    bounded_logits,
    centered,
    full_precision,
    precise,
    safe_inverse_norm,
    safe_norm,
    unit,
)


def array(x):
    return ops.convert_to_numpy(ops.stop_gradient(x))


def rows():
    x = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    x[1], x[2], x[3] = 0.0, 1e-11, 1e-25
    return x


def test_unit_vectors():
    x = rows()
    given = ops.convert_to_tensor(x)
    y = array(unit(given, -1, least=1e-24))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), [1, 0, 1, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(array(unit(given, -1, 1e-24, 3.0)), 3 * y, rtol=1e-6)
    weights = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    slope = gradient(lambda v: ops.sum(ops.convert_to_tensor(weights) * unit(v, -1, 1e-24)), x)
    norm = np.linalg.norm(x.astype("float64"), axis=1, keepdims=True)
    direction = x / np.where(norm > 0, norm, 1)
    across = weights - (weights * direction).sum(1, keepdims=True) * direction
    expected = np.where(norm > 1e-12, across / np.where(norm > 0, norm, 1), 0)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-6)


def test_norms():
    energy = np.array([4.0, 0.0, 1e-30, np.inf], "float32")
    given = ops.convert_to_tensor(energy)
    np.testing.assert_allclose(array(safe_norm(given)), np.sqrt(energy), rtol=1e-6)
    np.testing.assert_allclose(
        array(safe_inverse_norm(given, 1e-20)), [0.5, 0.0, 0.0, 0.0], rtol=1e-6
    )
    for function in (safe_norm, lambda e: safe_inverse_norm(e, 1e-20)):
        slope = gradient(lambda v, f=function: ops.sum(f(v)), energy[:3])
        assert np.isfinite(slope).all()
        assert slope[0] != 0
        assert slope[1] == 0
        assert np.isnan(array(function(ops.convert_to_tensor([np.nan]))))


@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_centered(axis):
    x = rows() + 5.0
    offset, norm = (array(v) for v in centered(ops.convert_to_tensor(x), axis))
    expected = x.astype("float64") - x.mean(axis, keepdims=True, dtype="float64")
    np.testing.assert_allclose(offset, expected, atol=2e-5)
    size = np.sqrt((expected**2).sum(axis, keepdims=True))
    np.testing.assert_allclose(norm, size, rtol=1e-5, atol=1e-6)
    if axis == 1:  # Rows 1 to 3 are constant but for rounding.
        assert not offset[1:4].any()
        assert not norm[1:4].any()
    slope = gradient(lambda v: ops.sum(centered(v, axis)[1]), x)
    assert np.isfinite(slope).all()


def test_precision():
    for given in ("float16", "bfloat16", "float32", "int32"):
        x = ops.cast(np.ones(3, "float32"), given)
        assert keras.backend.standardize_dtype(precise(x).dtype) == "float32"
    teacher, student = ops.cast(np.ones(2, "float32"), "float16"), np.ones(2, "float32")
    assert [keras.backend.standardize_dtype(x.dtype) for x in full_precision(teacher, student)] == [
        "float32"
    ] * 2
    x = np.array([1.0, 2.0], "float32")
    slope = gradient(lambda v: ops.sum(ops.prod(full_precision(v, v), axis=0)), x)
    np.testing.assert_allclose(slope, x)  # Of the student alone.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_bounded_logits(dtype):
    x = np.array([np.inf, -np.inf, 3.0, -7.5, np.nan], "float32")
    y = bounded_logits(ops.cast(x, dtype))
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    y = array(ops.cast(y, "float32"))
    np.testing.assert_array_equal(y[2:4], x[2:4])
    assert np.isnan(y[[0, 4]]).all()
    # A difference of two is finite in the same dtype.
    assert np.isfinite(array(ops.cast(ops.cast(y[2] - y[1], dtype), "float32")))
    if dtype == "float32":
        slope = gradient(lambda v: ops.sum(ops.square(bounded_logits(v))), x[1:4])
        np.testing.assert_array_equal(slope, [0, 6, -15])
