"""FrequencySplit, Standardize, BandClassifier, FeatureProjector, LogMeanSquaredError."""

import keras
import numpy as np
import pytest
from conftest import gradient
from keras import ops

from keras_fdkd import layers
from keras_fdkd.layers import (
    BandClassifier,
    ContrastiveMemory,
    FeatureProjector,
    FeatureRegressor,
    FrequencySplit,
    LayerAttention,
    LogitProxy,
    Standardize,
    StepResampler,
)
from keras_fdkd.losses import LogMeanSquaredError


def reference_bands(x, axis, cutoff):
    """The bands by an explicit sum of cosines and sines, in float64."""
    x = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    size = x.shape[-1]
    low_bins = int(np.floor(cutoff * (size // 2) + 0.5))
    n = np.arange(size)
    low = np.zeros_like(x)
    for k in range(1, low_bins + 1):
        weight = (1 if 2 * k == size else 2) / size
        for wave in (np.cos(2 * np.pi * k * n / size), np.sin(2 * np.pi * k * n / size)):
            low += weight * (x @ wave)[..., None] * wave
    high = x - x.mean(-1, keepdims=True) - low
    return np.moveaxis(low, -1, axis), np.moveaxis(high, -1, axis)


@pytest.mark.parametrize("size", [4, 5, 7, 16, 31, 50])
@pytest.mark.parametrize("cutoff", [0.3, 0.5, 0.74])
def test_split_any_length(size, cutoff):
    x = np.random.default_rng(size).normal(1.0, 1.0, (3, size)).astype("float32")
    bins = size // 2
    if not 0 < int(np.floor(cutoff * bins + 0.5)) < bins:
        with pytest.raises(ValueError, match="band empty"):
            FrequencySplit(cutoff)(x)
        return
    bands = [ops.convert_to_numpy(band) for band in FrequencySplit(cutoff)(x)]
    for band, expected in zip(bands, reference_bands(x, -1, cutoff), strict=True):
        np.testing.assert_allclose(band, expected, atol=2e-6)
    np.testing.assert_allclose(sum(bands), x - x.mean(-1, keepdims=True), atol=2e-6)
    # Parseval: the bands are orthogonal, so their energies add up.
    energy = ((x - x.mean(-1, keepdims=True)) ** 2).sum(-1)
    np.testing.assert_allclose(sum((band**2).sum(-1) for band in bands), energy, rtol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_split_any_axis(axis):
    x = np.random.default_rng(0).normal(size=(2, 6, 9, 12)).astype("float32")
    for band, expected in zip(
        FrequencySplit(0.5, axis)(x), reference_bands(x, axis, 0.5), strict=True
    ):
        np.testing.assert_allclose(ops.convert_to_numpy(band), expected, atol=2e-6)


def test_a_split_of_another_size_counts_its_own_bins():
    split = FrequencySplit()
    split(np.ones((1, 512), "float32"))
    low, high = split(np.eye(1, 16, dtype="float32"))
    expected = FrequencySplit()(np.eye(1, 16, dtype="float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(low), ops.convert_to_numpy(expected[0]))
    assert float(ops.max(ops.abs(high))) > 0.1


def test_cutoff_counts_bins():
    impulse = np.eye(1, 512, dtype="float32")  # It has all frequencies alike.
    bands = [
        np.abs(np.fft.rfft(ops.convert_to_numpy(band)[0])) for band in FrequencySplit()(impulse)
    ]
    assert np.flatnonzero(bands[0] > 0.5).tolist() == list(range(1, 129))
    assert np.flatnonzero(bands[1] > 0.5).tolist() == list(range(129, 257))
    build = lambda size, cutoff: FrequencySplit(cutoff).build((None, size))  # noqa: E731
    with pytest.raises(ValueError, match="low band empty"):
        build(8, 0.1)
    with pytest.raises(ValueError, match="high band empty"):
        build(8, 0.95)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_split_dtypes(dtype):
    x = np.random.default_rng(0).normal(size=(2, 32)).astype("float32")
    x = ops.cast(ops.convert_to_tensor(x), dtype)
    low, high = FrequencySplit(dtype=dtype)(x)
    assert keras.backend.standardize_dtype(low.dtype) == dtype
    expected = reference_bands(ops.convert_to_numpy(ops.cast(x, "float32")), -1, 0.5)
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6}[dtype]
    for band, wanted in zip((low, high), expected, strict=True):
        band = ops.convert_to_numpy(ops.cast(band, "float32"))
        np.testing.assert_allclose(band, wanted, atol=tolerance)


def test_split_in_a_model_with_dynamic_batch():
    inputs = keras.Input((10,))
    model = keras.Model(inputs, FrequencySplit(0.4)(inputs))
    assert [tuple(band.shape) for band in model.output] == [(None, 10)] * 2
    for samples in (1, 5):
        assert model.predict(np.ones((samples, 10)), verbose=0)[0].shape == (samples, 10)


@pytest.mark.parametrize("cutoff", [0, 1, -0.5, 1.5, float("nan"), "half", None])
def test_split_refuses_cutoff(cutoff):
    with pytest.raises(ValueError, match="`cutoff`"):
        FrequencySplit(cutoff)


def test_split_refuses_shapes():
    with pytest.raises(ValueError, match="at least 4"):
        FrequencySplit()(np.ones((2, 3)))
    with pytest.raises(ValueError, match="batch axis"):
        FrequencySplit(axis=0)
    with pytest.raises(ValueError, match="axes 1..1"):
        FrequencySplit(axis=2)(np.ones((2, 8)))
    short = keras.Input((None,))
    model = keras.Model(short, FrequencySplit()(short))  # Its size is known when it runs.
    with pytest.raises(ValueError, match="at least 4"):
        model(np.ones((2, 3), "float32"))


@pytest.mark.parametrize("scale", ["variance", "norm"])
def test_standardize(scale):
    x = np.random.default_rng(0).normal(3.0, 5.0, (4, 12)).astype("float32")
    y = ops.convert_to_numpy(Standardize(scale)(x))
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
    size = y.std(-1) if scale == "variance" else np.linalg.norm(y, axis=-1)
    np.testing.assert_allclose(size, 1, rtol=1e-5)


@pytest.mark.parametrize("scale", ["variance", "norm"])
def test_standardize_gradients_are_finite(scale):
    x = np.zeros((4, 8), "float32")
    x[1], x[2, 3], x[3] = 5.0, 1e-20, np.arange(8)
    weights = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    layer = Standardize(scale)
    found = gradient(lambda v: ops.sum(ops.convert_to_tensor(weights) * layer(v)), x)
    assert np.isfinite(found).all()
    assert not found[:3].any()  # zero, constant, vanishing: no direction, no pull
    assert found[3].any()


def test_standardize_half_precision_keeps_large_rows():
    x = 20 * np.random.default_rng(0).normal(size=(2, 512))
    y = ops.convert_to_numpy(Standardize(dtype="float16")(x.astype("float16")))
    np.testing.assert_allclose(y.astype("float32").std(-1), 1, rtol=1e-2)


def test_standardize_refuses_scale():
    with pytest.raises(ValueError, match="`scale` must be one of"):
        Standardize("l2")


def test_band_classifier():
    head = BandClassifier(5)
    x = np.random.default_rng(0).normal(size=(3, 8)).astype("float32")
    logits = ops.convert_to_numpy(head(x))
    kernel, bias = head.get_weights()
    np.testing.assert_allclose(logits, np.maximum(x, 0) @ kernel + bias, atol=1e-5)
    # Further axes: the mean of the rectified band, so that zero-mean bands do not vanish.
    tall = np.stack([x, -x], axis=1)
    expected = np.abs(x) / 2 @ kernel + bias
    np.testing.assert_allclose(ops.convert_to_numpy(head(tall)), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "ten"])
def test_layers_refuse_sizes(bad):
    with pytest.raises(ValueError, match="`num_classes` must be a positive integer"):
        BandClassifier(bad)
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        FeatureProjector(bad)


@pytest.mark.parametrize(
    "layer",
    [
        FrequencySplit(0.3, axis=1, include_dc=True),
        Standardize("norm", axis=1, center=False, epsilon=1e-6),
        BandClassifier(4),
        FeatureProjector(9),
        StepResampler(7),
    ],
)
def test_layer_config_round_trip(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def built(name):
    """A layer of each class, built, and its inputs."""
    x = np.random.default_rng(0).normal(size=(4, 8, 6)).astype("float32")
    layer, inputs = {
        "BandClassifier": (BandClassifier(3), [x]),
        "ContrastiveMemory": (ContrastiveMemory(9, dim=4, negatives=5, seed=0), [x, x]),
        "FeatureProjector": (FeatureProjector(5), [x]),
        "FeatureRegressor": (FeatureRegressor((4, 5)), [x]),
        "FrequencySplit": (FrequencySplit(), [x]),
        "LayerAttention": (LayerAttention(4), [[x], [x, x[..., :3]]]),
        "LogitProxy": (LogitProxy(3), [x]),
        "Standardize": (Standardize(), [x]),
        "StepResampler": (StepResampler(5), [x]),
    }[name]
    layer(*inputs)
    return layer, inputs


def policies(layer):
    """The names of the policies of a layer and of all inside it that cast."""
    parts = layer._flatten_layers()  # Keras has no public way to all of them.
    # A Sequential hands its inputs on to these two, whose policies say nothing.
    idle = ("Functional", "InputLayer")
    return [part.dtype_policy.name for part in parts if type(part).__name__ not in idle]


@pytest.mark.parametrize("name", layers.__all__)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_a_saved_layer_keeps_its_policy(name, policy):
    """Whatever is the global policy where it is loaded, built and called."""
    before = keras.config.dtype_policy()
    other = {"mixed_bfloat16": "float32", "float32": "mixed_bfloat16"}[policy]
    try:
        keras.config.set_dtype_policy(policy)
        layer, inputs = built(name)
        expected, outputs = policies(layer), keras.tree.flatten(layer(*inputs))
        saved = keras.saving.serialize_keras_object(layer)
        keras.config.set_dtype_policy(other)
        again = keras.saving.deserialize_keras_object(saved)
        again(*inputs)
        again.set_weights(layer.get_weights())
        found = keras.tree.flatten(again(*inputs))
    finally:
        keras.config.set_dtype_policy(before)
    assert set(expected) <= {policy, "float32"}
    assert expected[0] == policy
    assert policies(again) == expected
    assert [v.dtype for v in again.variables] == [v.dtype for v in layer.variables]
    for x, y in zip(outputs, found, strict=True):
        assert keras.backend.standardize_dtype(x.dtype) == keras.backend.standardize_dtype(y.dtype)
        x, y = (ops.convert_to_numpy(ops.stop_gradient(ops.cast(v, "float32"))) for v in (x, y))
        np.testing.assert_array_equal(x, y)


def test_log_mean_squared_error_sample_weight():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 5)).astype("float32")
    values = ops.convert_to_numpy(LogMeanSquaredError(reduction="none")(x, y))
    compress = lambda z: np.sign(z) * np.log1p(np.abs(z))  # noqa: E731
    np.testing.assert_allclose(values, ((compress(x) - compress(y)) ** 2).mean(-1), rtol=1e-5)
    weighted = float(LogMeanSquaredError()(x, y, sample_weight=np.array([1.0, 0.0, 3.0])))
    assert weighted == pytest.approx((values[0] + 3 * values[2]) / 3, rel=1e-5)
    again = LogMeanSquaredError.from_config(LogMeanSquaredError().get_config())
    assert again.name == "log_mean_squared_error"
