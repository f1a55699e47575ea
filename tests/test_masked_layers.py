"""Sequences with padding: FeatureRegressor, LogitProxy, BandClassifier, StepResampler."""

import keras
import numpy as np
import pytest
from conftest import gradient
from keras import ops

from keras_fdkd.layers import BandClassifier, FeatureRegressor, LogitProxy, StepResampler

LENGTHS = [3, 5, 1, 4]
CHANNELS = 6


def array(x):
    return ops.convert_to_numpy(ops.stop_gradient(x))


def padded(fill=np.nan, steps=7, seed=0):
    """Sequences one by one, the same as one batch with padding, and its mask."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, CHANNELS)).astype("float32") for n in LENGTHS]
    x = np.full((len(parts), steps, CHANNELS), fill, "float32")
    for row, part in zip(x, parts, strict=True):
        row[: len(part)] = part
    return parts, x, np.arange(steps) < np.array(LENGTHS)[:, None]


def weigh(shape):
    return ops.convert_to_tensor(np.random.default_rng(9).normal(size=shape), "float32")


@pytest.mark.parametrize("make", [BandClassifier, LogitProxy])
def test_padding_is_not_averaged(make):
    parts, x, mask = padded()
    layer = make(3)
    layer.build((None, None, CHANNELS))
    expected = np.concatenate([array(layer(part[None])) for part in parts])
    np.testing.assert_allclose(array(layer(x, mask=mask)), expected, rtol=1e-5, atol=1e-6)

    found = gradient(lambda v: ops.sum(weigh((4, 3)) * layer(v, mask=mask)), x)
    assert not found[~mask].any()
    for i, part in enumerate(parts):
        slope = gradient(lambda v, i=i: ops.sum(weigh((4, 3))[i] * layer(v)), part[None])
        np.testing.assert_allclose(found[i, : len(part)], slope[0], rtol=1e-4, atol=1e-6)


def test_statistics_of_a_proxy_do_not_see_padding():
    _, short, mask = padded(fill=0.0)
    _, long, longer = padded(fill=1e30, steps=11)
    values, statistics = [], []
    for x, valid in ((short, mask), (long, longer)):
        keras.utils.set_random_seed(0)
        layer = LogitProxy(3)
        values.append(array(layer(x, training=True, mask=valid)))
        statistics.append(np.concatenate([array(v) for v in layer.normalization.weights]))
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(*statistics, rtol=1e-6)


@pytest.mark.parametrize("make", [BandClassifier, LogitProxy])
def test_no_valid_position_averages_to_zero(make):
    x = np.full((2, 4, CHANNELS), np.nan, "float32")
    x[1] = 1.0
    mask = np.array([[False] * 4, [True] * 4])
    layer = make(3)
    layer.build((None, None, CHANNELS))
    zeros = np.zeros((1, CHANNELS), "float32")
    np.testing.assert_allclose(array(layer(x, mask=mask))[:1], array(layer(zeros)), atol=1e-6)
    slope = gradient(lambda v: ops.sum(weigh((2, 3)) * layer(v, mask=mask)), x)
    assert np.isfinite(slope).all()
    assert not slope[0].any()


@pytest.mark.parametrize("make", [BandClassifier, LogitProxy])
def test_positions_of_maps(make):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, CHANNELS)).astype("float32")
    layer = make(3)
    layer.build((None, 3, 4, CHANNELS))
    np.testing.assert_allclose(
        array(layer(x, mask=np.ones((2, 3, 4), bool))), array(layer(x)), rtol=1e-5, atol=1e-6
    )
    mask = np.zeros((2, 3, 4), bool)
    mask[:, 1, 2] = True
    np.testing.assert_allclose(
        array(layer(x, mask=mask)), array(layer(x[:, 1, 2])), rtol=1e-5, atol=1e-6
    )


def test_large_half_precision_sums():
    """A sum over many positions leaves float16 where its mean does not."""
    x = np.full((1, 400, 2), 500.0, "float16")
    layer = BandClassifier(3, dtype="mixed_float16")
    expected = array(layer(x[:, 0]))
    np.testing.assert_allclose(array(layer(x, mask=np.ones((1, 400), bool))), expected, rtol=1e-2)


def test_regressor_in_inference():
    parts, x, mask = padded()
    layer = FeatureRegressor((None, 4))
    layer.build((None, None, CHANNELS))
    found = array(layer(x, training=False, mask=mask))
    for row, part in zip(found, parts, strict=True):
        expected = array(layer(part[None], training=False))[0]
        np.testing.assert_allclose(row[: len(part)], expected, rtol=1e-5, atol=1e-6)


def test_regressor_in_training():
    """The statistics are those of the valid steps, as if they were one sequence."""
    parts, x, mask = padded()
    joined = np.concatenate(parts)[None]
    results = []
    for value, valid in ((x, mask), (joined, None)):
        keras.utils.set_random_seed(0)
        layer = FeatureRegressor((None, 4))
        layer.build((None, None, CHANNELS))
        output = layer(value, training=True, mask=valid)
        chosen = np.ones(value.shape[:2], bool) if valid is None else valid

        def total(v, layer=layer, valid=valid, chosen=chosen):
            y = layer(v, training=True, mask=valid)
            weights = np.zeros((*chosen.shape, 4), "float32")
            weights[chosen] = np.random.default_rng(1).normal(size=(chosen.sum(), 4))
            return ops.sum(ops.convert_to_tensor(weights) * y)

        statistics = [array(layer.batch_norm.moving_mean), array(layer.batch_norm.moving_variance)]
        slope = gradient(total, value)
        assert not slope[~chosen].any()
        results.append((array(output)[chosen], slope[chosen], np.concatenate(statistics)))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "target", "valid"), [(8, 4, 4), (8, 5, 6), (8, 8, 3)])
def test_regressor_counts_outputs_that_see_no_padding(size, target, valid):
    x = np.random.default_rng(0).normal(size=(2, size, CHANNELS)).astype("float32")
    mask = np.arange(size) < np.array([[size], [valid]])
    layer = FeatureRegressor((target, 4))
    layer.build((None, size, CHANNELS))
    seen = array(layer.compute_mask(x, ops.convert_to_tensor(mask)))
    outputs = {4: 2, 5: 3, 8: 3}[target]  # Of the second sample.
    np.testing.assert_array_equal(seen, np.arange(target) < np.array([[target], [outputs]]))
    # What stands in the padding changes nothing that is valid.
    values = []
    for fill in (0.0, np.nan):
        keras.utils.set_random_seed(0)
        layer = FeatureRegressor((target, 4))
        filled = np.where(mask[..., None], x, np.float32(fill))
        values.append(array(layer(filled, training=True, mask=mask))[seen])
    np.testing.assert_array_equal(*values)
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "layer", [BandClassifier(3), LogitProxy(3), FeatureRegressor((7, 4)), StepResampler(4)]
)
def test_masks_that_do_not_fit(layer):
    _, x, mask = padded(fill=0.0)
    for wrong in (mask[:, :5], mask[..., None], mask[:, 0]):
        with pytest.raises(ValueError, match="`mask` must be true at the positions that count"):
            layer(x, mask=wrong)


@pytest.mark.parametrize(
    "layer", [BandClassifier(3), LogitProxy(3), FeatureRegressor((7, 4)), StepResampler(4)]
)
def test_the_mask_that_keras_attached(layer, recwarn):
    """A mask comes along from the layers before, as to Keras's own pooling."""
    x = padded(fill=0.0)[1]
    masked = keras.layers.Masking(0.0)
    inputs = keras.Input((7, CHANNELS))
    model = keras.Model(inputs, layer(masked(inputs)))
    expected = layer(x, mask=masked.compute_mask(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(array(model(x)), array(expected), rtol=1e-5, atol=1e-6)
    assert not [w for w in recwarn if "mask" in str(w.message)]


# StepResampler


def resampled(x, steps):
    """Each channel of a sequence by `numpy.interp`."""
    places = np.arange(steps) * (len(x) - 1) / (steps - 1)
    return np.stack([np.interp(places, np.arange(len(x)), channel) for channel in x.T], 1)


@pytest.mark.parametrize("steps", [2, 3, 5, 8, 13])
def test_resampled_as_numpy_does(steps):
    rng = np.random.default_rng(steps)
    x = rng.normal(size=(6, 9, 3)).astype("float32")
    mask = rng.random((6, 9)) < 0.6  # Any pattern.
    mask[0], mask[1] = True, np.arange(9) == 4
    x[~mask] = np.nan
    found = array(StepResampler(steps)(x, mask=mask))
    expected = [resampled(row[valid], steps) for row, valid in zip(x, mask, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for row, y, valid in zip(x, found, mask, strict=True):
        np.testing.assert_array_equal(y[[0, -1]], row[valid][[0, -1]])
    whole = rng.normal(size=(2, 9, 3)).astype("float32")
    expected = [resampled(row, steps) for row in whole]
    np.testing.assert_allclose(array(StepResampler(steps)(whole)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [2, 7, 50, 333])
def test_as_many_steps_stay_as_they_are(length):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, length, 3)).astype("float32")
    layer = StepResampler(length)
    np.testing.assert_array_equal(array(layer(x)), x)
    np.testing.assert_array_equal(array(layer(x, mask=np.ones((2, length), bool))), x)
    longer = np.full((2, length + 5, 3), np.inf, "float32")
    mask = np.stack([rng.permutation(length + 5) < length for _ in range(2)])
    longer[mask] = x.reshape(-1, 3)
    np.testing.assert_array_equal(array(layer(longer, mask=mask)), x)


def test_one_step_and_none():
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32")
    mask = np.array([[False, True, False, False], [False] * 4, [True, True, False, True]])
    x[1] = np.nan
    found = array(StepResampler(3)(x, mask=mask))
    np.testing.assert_array_equal(found[0], np.repeat(x[0, 1:2], 3, axis=0))
    assert not found[1].any()
    # One step comes from the middle.
    middle = array(StepResampler(1)(x, mask=mask))[:, 0]
    np.testing.assert_array_equal(middle[[0, 2]], [x[0, 1], x[2, 1]])
    np.testing.assert_allclose(
        array(StepResampler(1)(x[2:]))[0, 0], (x[2, 1] + x[2, 2]) / 2, rtol=1e-6
    )


@pytest.mark.parametrize("masked", [True, False])
def test_resampler_gradients(masked):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 6, 2)).astype("float32")
    mask = np.array([[True] * 6, [False, True, True, False, True, True], [False] * 6])
    mask = mask if masked else np.ones_like(mask)
    x[~mask] = np.nan
    weights = rng.normal(size=(3, 4, 2)).astype("float32")
    options = {"mask": mask} if masked else {}
    layer = StepResampler(4)
    found = gradient(lambda v: ops.sum(ops.convert_to_tensor(weights) * layer(v, **options)), x)
    expected = np.zeros_like(x)
    for i, valid in enumerate(mask):  # It is linear: column n is what step n alone becomes.
        if valid.any():
            columns = resampled(np.eye(valid.sum()), 4)
            expected[i][valid] = columns.T @ weights[i]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_resampler_of_unknown_length():
    inputs, mask = keras.Input((None, 2)), keras.Input((None,), dtype="bool")
    layer = StepResampler(4)
    model = keras.Model([inputs, mask], [layer(inputs), layer(inputs, mask=mask)])
    assert [tuple(output.shape) for output in model.outputs] == [(None, 4, 2)] * 2
    for length in (3, 6):
        x = np.random.default_rng(0).normal(size=(2, length, 2)).astype("float32")
        valid = np.arange(length) < np.array([[length], [2]])
        whole, part = model.predict([x, valid], verbose=0)
        np.testing.assert_allclose(whole[1], resampled(x[1], 4), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(part[0], whole[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(part[1], resampled(x[1, :2], 4), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_resampler_in_half_precision(dtype):
    """Places beyond 256, which bfloat16 does not tell apart, and large neighbours."""
    x = ops.cast(np.linspace(-6e4, 6e4, 600)[None, :, None], dtype)
    y = StepResampler(401, dtype=dtype)(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    expected = resampled(array(ops.cast(x, "float32"))[0], 401)
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3}[dtype]
    np.testing.assert_allclose(array(ops.cast(y, "float32"))[0], expected, rtol=tolerance, atol=60)


def test_resampler_refuses():
    for wrong in (0, 2.0, None):
        with pytest.raises(ValueError, match="`steps` must be a positive integer"):
            StepResampler(wrong)
    with pytest.raises(ValueError, match=r"\(batch, time, dim\)"):
        StepResampler(3)(np.ones((2, 5), "float32"))
