"""The low band by a product of matrices and by transforms: the same numbers and gradients."""

import keras
import numpy as np
import pytest
from conftest import gradient
from keras import ops

from keras_fdkd.layers import FrequencySplit, spectrum

CASES = [
    ((3, 16), -1), ((3, 7, 9), -1), ((2, 10, 5), 1), ((2, 6, 7, 3), (1, 2)),
    ((2, 5, 3, 6), (1, 3)), ((2, 3, 4, 6), (2, 3)), ((2, 4, 5, 3, 2), (1, 2, 3)),
    ((2, 6, 7, 3), (2, 1)),
]  # fmt: skip


def by_transforms(monkeypatch):
    monkeypatch.setattr(spectrum, "products_are_precise", lambda: False)


@pytest.mark.parametrize(("shape", "axis"), CASES)
@pytest.mark.parametrize("cutoff", [0.3, 0.5, 0.75])
def test_both_ways_agree(shape, axis, cutoff, monkeypatch):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    split = FrequencySplit(cutoff, axis)
    product = [ops.convert_to_numpy(band) for band in split(x)]
    by_transforms(monkeypatch)
    transform = [ops.convert_to_numpy(band) for band in split(x)]
    for one, two in zip(product, transform, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=2e-6)
    # The same again in NumPy, in double precision.
    axes = tuple(a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,)))
    bins = np.fft.rfftn(x.astype("float64"), axes=axes)
    radius = np.zeros([bins.shape[a] for a in axes])
    for place, a in enumerate(axes):
        number = np.arange(bins.shape[a])
        number = np.minimum(number, shape[a] - number) if place < len(axes) - 1 else number
        share = number / (shape[a] // 2)
        radius = radius + (share**2).reshape(-1, *[1] * (len(axes) - 1 - place))
    low = np.sqrt(radius / len(axes)) <= cutoff + 1e-9
    if len(axes) == 1:
        low = np.arange(bins.shape[axes[0]]) <= np.floor(cutoff * (shape[axes[0]] // 2) + 0.5)
    low.flat[0] = False
    order = np.argsort(axes)
    wide = low.transpose(order).reshape(
        [bins.shape[a] if a in axes else 1 for a in range(len(shape))]
    )
    expected = np.fft.irfftn(bins * wide, s=[shape[a] for a in axes], axes=axes)
    np.testing.assert_allclose(product[0], expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("shape", "axis"), [((3, 16), -1), ((2, 6, 7, 3), (1, 2))])
def test_gradients_agree(shape, axis, monkeypatch):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    wanted = ops.convert_to_tensor(np.random.default_rng(1).normal(size=shape).astype("float32"))
    split = FrequencySplit(0.5, axis)

    def loss(values):
        low, high = split(values)
        return ops.sum(ops.square(low - wanted)) + 3.0 * ops.sum(high * wanted)

    product = gradient(loss, x)
    by_transforms(monkeypatch)
    np.testing.assert_allclose(product, gradient(loss, x), rtol=1e-4, atol=1e-4)


def test_many_values_are_transformed(monkeypatch):
    """A matrix for thousands of values would take more memory and time than the transforms."""
    monkeypatch.setattr(spectrum, "_projection", lambda *_: pytest.fail("a matrix was made"))
    for shape, axis in (((2, 512), -1), ((2, 32, 32, 2), (1, 2))):
        low, high = FrequencySplit(0.5, axis)(np.ones(shape, "float32"))
        assert not ops.convert_to_numpy(low).any()
        assert not ops.convert_to_numpy(high).any()


@pytest.mark.skipif(keras.config.backend() == "torch", reason="Keras lists no devices there")
def test_accelerators_round_products(monkeypatch):
    for device, precise in (("cpu:0", True), ("gpu:0", False)):
        monkeypatch.setattr(keras.distribution, "list_devices", lambda name=device: [name])
        assert spectrum.products_are_precise() == precise


@pytest.mark.skipif(keras.config.backend() != "torch", reason="of PyTorch")
def test_torch_rounds_products_if_it_is_told_to():
    import torch

    before = torch.get_float32_matmul_precision()
    try:
        for precision, precise in (("highest", True), ("high", False), ("medium", False)):
            torch.set_float32_matmul_precision(precision)
            assert spectrum.products_are_precise() == precise
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_left_of_the_mean_is_not_in_the_high_band(dtype, monkeypatch):
    # JAX warns where it has no such type, and warnings end a test.
    if keras.config.backend() == "jax" and dtype == "float64":
        pytest.skip("JAX has no float64 by default")
    x = (1000 + 0.01 * np.random.default_rng(0).normal(size=(8, 64))).astype(dtype)
    x = ops.convert_to_tensor(x, dtype=dtype)
    split = FrequencySplit(0.5, dtype=dtype)
    for _ in range(2):
        high = ops.convert_to_numpy(split(x)[1])
        assert np.abs(high.mean(-1)).max() < 1e-6 * (1 if dtype == "float32" else 1e-5)
        by_transforms(monkeypatch)
