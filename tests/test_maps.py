"""Maps (batch, height, width, channels): bands over several axes, and sizes that differ."""

import json

import keras
import numpy as np
import pytest
from conftest import cross_entropy, gradient
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.distillers.checks import check_feature
from keras_fdkd.layers import (
    FeatureProjector,
    FeatureRegressor,
    FrequencySplit,
    Standardize,
    StepResampler,
)
from keras_fdkd.layers.resizing import resized
from keras_fdkd.losses import FitNet, FrequencyDistillation
from keras_fdkd.losses.student_adapter import resolve_projector


def array(x):
    return ops.convert_to_numpy(ops.stop_gradient(ops.cast(x, "float32")))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 1.0, shape).astype("float32")


def reference_bands(x, axes, cutoff):
    """The bands by NumPy's complex transform of all bins, in float64."""
    x = np.asarray(x, "float64")
    squares = np.zeros([1] * x.ndim)
    for axis in axes:
        size = x.shape[axis]
        frequency = np.abs(np.fft.fftfreq(size, 1 / size)) / (size // 2)
        squares = squares + np.expand_dims(frequency, [n for n in range(x.ndim) if n != axis]) ** 2
    radius = np.sqrt(squares / len(axes))
    low = np.fft.ifftn(np.fft.fftn(x, axes=axes) * (radius < cutoff + 1e-9), axes=axes).real
    centred = x - x.mean(axes, keepdims=True)
    low = low - low.mean(axes, keepdims=True)
    return low, centred - low


MAPS = [
    ((2, 8, 8, 3), (1, 2), 0.5),
    ((2, 7, 10, 3), (1, 2), 0.25),
    ((2, 10, 7, 3), (2, 1), 0.25),
    ((2, 5, 9, 3), (-3, -2), 0.9),
    ((3, 4, 4, 2), (1, 2), 0.5),
    ((2, 2, 2, 3), (1, 2), 0.8),
    ((2, 6, 9), (1, 2), 0.3),
    ((2, 5, 8, 6), (1, 3), 0.4),
    ((2, 4, 7, 6, 3), (1, 2, 3), 0.5),
    ((2, 3, 5, 4, 4), (2, 3, 4), 0.4),
]


@pytest.mark.parametrize(("shape", "axes", "cutoff"), MAPS)
def test_bands_of_maps(shape, axes, cutoff):
    x = draw(*shape)
    low, high = (array(band) for band in FrequencySplit(cutoff, axes)(x))
    positive = tuple(axis % len(shape) for axis in axes)
    for band, expected in zip((low, high), reference_bands(x, positive, cutoff), strict=True):
        np.testing.assert_allclose(band, expected, atol=3e-6)
        assert np.abs(band).max() > 0.1
    centred = x - x.mean(axes, keepdims=True)
    np.testing.assert_allclose(low + high, centred, atol=3e-6)
    # Parseval: the bands are orthogonal, so their energies add up.
    energies = [(band.astype("float64") ** 2).sum(axes) for band in (low, high)]
    np.testing.assert_allclose(sum(energies), (centred**2).sum(axes), rtol=1e-5)
    with_mean = array(FrequencySplit(cutoff, axes, include_dc=True)(x)[0])
    mean = np.broadcast_to(x.mean(axes, keepdims=True), shape)
    np.testing.assert_allclose(with_mean - low, mean, atol=3e-6)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_one_axis_in_a_tuple_is_that_axis(axis):
    x = draw(2, 6, 9, 12)
    for one, other in zip(FrequencySplit(0.4, axis)(x), FrequencySplit(0.4, (axis,))(x)):  # noqa: B905
        np.testing.assert_array_equal(array(one), array(other))
    np.testing.assert_array_equal(
        array(Standardize(axis=axis)(x)), array(Standardize(axis=[axis])(x))
    )
    values = [
        float(FrequencyDistillation(0.4, a).compute_loss(x, x[::-1].copy()))
        for a in (axis, (axis,))
    ]
    assert values[0] == values[1] > 0


def test_a_wave_is_as_fast_as_its_share_of_the_axis():
    """On a map that is not square: 2 of 4 bins of the height are 4 of 8 of the width."""
    y, x = np.arange(8)[:, None], np.arange(16)[None]
    tall = np.cos(2 * np.pi * 2 * y / 8) + 0 * x
    wide = np.cos(2 * np.pi * 4 * x / 16) + 0 * y
    radius = 0.5 / np.sqrt(2)
    maps = np.stack([tall, wide])[..., None].astype("float32")
    for cutoff, band in ((radius + 0.01, 0), (radius - 0.01, 1)):
        kept = array(FrequencySplit(cutoff, (1, 2))(maps)[band])
        np.testing.assert_allclose(kept, maps, atol=1e-5)


@pytest.mark.parametrize(("shape", "axes"), [((2, 5, 6, 2), (1, 2)), ((1, 3, 4, 5), (1, 2, 3))])
def test_gradients_of_bands(shape, axes):
    """Against finite differences of the reference in float64."""
    x = draw(*shape)
    weights = np.random.default_rng(1).normal(size=(2, *shape))

    def reference(value):
        bands = reference_bands(value, axes, 0.5)
        return sum((w * band**3).sum() for w, band in zip(weights, bands, strict=True))

    def ours(value):
        bands = FrequencySplit(0.5, axes)(value)
        factors = [ops.convert_to_tensor(w, "float32") for w in weights]
        return sum(ops.sum(w * band**3) for w, band in zip(factors, bands, strict=True))

    found, expected = gradient(ours, x), np.zeros(shape)
    for place in np.ndindex(*shape):
        step = np.zeros(shape)
        step[place] = 1e-5
        expected[place] = (reference(x + step) - reference(x - step)) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_transformed_in_float32(dtype):
    x = ops.cast(ops.convert_to_tensor(30 * draw(2, 16, 12, 3)), dtype)
    bands = FrequencySplit(0.5, (1, 2), dtype=dtype)(x)
    assert {keras.backend.standardize_dtype(band.dtype) for band in bands} == {dtype}
    step = {"float16": 2**-10, "bfloat16": 2**-7}[dtype]
    for band, expected in zip(bands, reference_bands(array(x), (1, 2), 0.5), strict=True):
        np.testing.assert_allclose(array(band), expected, rtol=step, atol=1e-3)


def test_constant_maps_have_no_bands():
    x = np.broadcast_to(draw(2, 1, 1, 3), (2, 6, 6, 3)).copy()
    for band in FrequencySplit(0.5, (1, 2))(x):
        assert not array(Standardize(axis=(1, 2), center=False)(band)).any()


@pytest.mark.parametrize(
    ("cutoff", "axis", "shape", "message"),
    [
        (0.5, (1, 2), (2, 3, 3, 4), "low band empty.*of the 5 bins.*sizes \\(3, 3\\)"),
        (1 - 1e-12, (1, 2), (2, 6, 6, 4), "high band empty"),
        (0.5, (1, 2), (2, 1, 6, 4), "at least 2 along each split axis"),
        (0.5, (1,), (2, 3, 6, 4), "at least 4 along the split axis"),
        (0.5, (1, 4), (2, 6, 6, 4), "different ones of the axes 1..3"),
        (0.5, (1, -3), (2, 6, 6, 4), "different ones of the axes 1..3"),
        (0.5, (1, -4), (2, 6, 6, 4), "different ones of the axes 1..3"),
    ],
)
def test_maps_that_cannot_be_split(cutoff, axis, shape, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        FrequencySplit(cutoff, axis)(np.ones(shape, "float32"))
    spec = keras.KerasTensor((None, *shape[1:]))
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        FrequencyDistillation(cutoff, axis).validate_outputs(spec, spec)


@pytest.mark.parametrize(
    "axis", [(), (0, 1), (1, 1), (1, 2.0), (1, 2, 3, 4), "12", ((1, 2),), None]
)
@pytest.mark.parametrize("make", [FrequencySplit, Standardize, FrequencyDistillation])
def test_axes_that_are_none(make, axis):
    with pytest.raises(ValueError, match="`axis` must be.*Received: axis="):
        make(axis=axis)


# Sizes that are known when it runs


@pytest.mark.parametrize(("axis", "sizes"), [((1, 2), [(8, 8), (7, 10)]), (1, [(8, 5), (9, 6)])])
def test_a_model_of_any_size(axis, sizes):
    inputs = keras.Input((None, None, 3))
    bands = FrequencySplit(0.4, axis)(inputs)
    assert [tuple(band.shape) for band in bands] == [(None, None, None, 3)] * 2
    model = keras.Model(inputs, [*bands, Standardize(axis=axis)(inputs)])
    for size in sizes:
        x = draw(2, *size, 3)
        low, high, unit = model.predict(x, verbose=0)
        for band, wanted in zip((low, high), FrequencySplit(0.4, axis)(x), strict=True):
            np.testing.assert_allclose(band, array(wanted), atol=3e-6)
        np.testing.assert_allclose(unit.std(axis), 1, rtol=1e-4)
    with pytest.raises(ValueError, match="at least"):
        model(draw(2, 1, 1, 3))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others know all sizes")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("axis", [(1, 2), 1])
def test_sizes_that_tensorflow_does_not_know(axis, compiled):
    import tensorflow as tf

    layer, standardize = FrequencySplit(0.4, axis), Standardize(axis=axis)
    projector = FeatureProjector(4, (6, 9))
    projector.build((None, None, None, 3))
    loss = FrequencyDistillation(0.4, axis)

    def call(x):
        value = loss.compute_loss(x, tf.reverse(x, [0]))
        return *layer(x), standardize(x), projector(x), value

    traced = tf.function(call, [tf.TensorSpec([None, None, None, 3])], jit_compile=compiled)
    for size in ((8, 8), (7, 10)):
        x = ops.convert_to_tensor(draw(2, *size, 3))
        for found, expected in zip(traced(x), call(x), strict=True):
            np.testing.assert_allclose(array(found), array(expected), rtol=1e-5, atol=1e-5)
    assert np.isnan(traced(tf.ones((2, 3, 2, 3)))[0]).all()  # The low or the high band is empty.


# Standardize and FrequencyDistillation


@pytest.mark.parametrize("scale", ["variance", "norm"])
@pytest.mark.parametrize("axes", [(1, 2), (1, 2, 3)])
def test_standardized_maps(scale, axes):
    x = draw(2, 5, 6, 3)
    centred = x - x.mean(axes, keepdims=True, dtype="float64")
    size = np.sqrt((centred**2).sum(axes, keepdims=True))
    if scale == "variance":
        size = size / np.sqrt(np.prod([x.shape[axis] for axis in axes]))
    found = array(Standardize(scale, axes)(x))
    np.testing.assert_allclose(found, centred / size, rtol=1e-4, atol=1e-5)


def reference_loss(teacher, student, axes, cutoff=0.5, weights=(3.0, 1.0)):
    """Of each sample: bands of unit variance, `mse` of the low, `log_mse` of the high."""
    pairs = zip(*(reference_bands(x, axes, cutoff) for x in (teacher, student)), strict=True)
    total = 0.0
    for pair, weight, compress in zip(
        pairs, weights, (lambda z: z, lambda z: np.sign(z) * np.log1p(np.abs(z))), strict=True
    ):
        t, s = (compress(band / band.std(axes, keepdims=True)) for band in pair)
        total = total + weight * ((t - s) ** 2).reshape(len(t), -1).mean(1)
    return total


@pytest.mark.parametrize("axes", [(1, 2), (1, 2, 3)])
def test_loss_of_maps(axes):
    teacher, student = draw(4, 7, 8, 3), draw(4, 7, 8, 3, seed=1)
    loss = FrequencyDistillation(axis=axes)
    expected = reference_loss(teacher, student, axes)
    assert float(loss.compute_loss(teacher, student)) == pytest.approx(expected.mean(), rel=1e-5)
    # Weights of pixels, which are mixed along the split axes, count by their mean.
    weights = np.random.default_rng(2).random((4, 7, 8)).astype("float32")
    found = float(loss.compute_loss(teacher, student, sample_weight=weights))
    assert found == pytest.approx((expected * weights.mean((1, 2))).mean(), rel=1e-5)
    # A teacher's map scores by its pattern alone.
    scaled = 3 * teacher + 2
    assert float(loss.compute_loss(scaled, teacher)) == pytest.approx(0, abs=1e-8)


def test_axes_in_configurations():
    loss = FrequencyDistillation(0.3, (1, 2))
    config = json.loads(json.dumps(loss.get_config()))
    assert config["axis"] == [1, 2]
    again = FrequencyDistillation.from_config(config)
    assert again.axis == (1, 2)
    assert again.get_config() == loss.get_config()
    for layer in (FrequencySplit(0.3, (1, 2)), Standardize(axis=(1, 2))):
        config = json.loads(json.dumps(layer.get_config()))
        assert type(layer).from_config(config).get_config() == layer.get_config()


def test_sizes_that_differ_when_it_runs():
    """Unknown sizes agree with any, until they are known."""
    loss = FrequencyDistillation(axis=(1, 2))
    loss.validate_outputs(*[keras.KerasTensor((None, None, None, 3))] * 2)
    with pytest.raises(ValueError, match="of the same shape"):
        loss.compute_loss(draw(2, 4, 4, 3), draw(2, 1, 1, 3))
    positions = FrequencyDistillation()
    positions.validate_outputs(*[keras.KerasTensor((None, None, 8))] * 2)
    x, y = draw(2, 5, 8), draw(2, 5, 8, seed=1)
    assert float(positions.compute_loss(x, y)) > 0
    with pytest.raises(ValueError, match="of the same shape"):
        positions.compute_loss(x, y[:, :4])


@pytest.mark.parametrize("axis", [-1, 1, (1, 2)])
def test_steps_of_two_sides_with_masks_of_their_own(axis):
    """The valid steps of each are resampled to the teacher's number: any padding is the same."""
    loss = FrequencyDistillation(axis=axis)
    teacher, student = draw(2, 9, 8), draw(2, 12, 8, seed=1)
    masks = np.arange(9) < np.array([[9], [5]]), np.arange(12) < np.array([[4], [12]])
    sides = [
        array(StepResampler(9)(x, mask=m)) for x, m in zip((teacher, student), masks, strict=True)
    ]
    expected = float(loss.compute_loss(*sides))
    teacher[~masks[0]], student[~masks[1]] = np.nan, 9.0
    found = float(loss.compute_loss(teacher, student, mask=masks))
    assert found == pytest.approx(expected, rel=1e-5)
    # One side that is resampled already.
    found = float(loss.compute_loss(teacher, sides[1], mask=(masks[0], None)))
    assert found == pytest.approx(expected, rel=1e-5)


# Features of other sizes

RESIZES = [
    ((7, 9), (4, 13)),
    ((8, 8), (4, 4)),
    ((5, 6), (20, 12)),
    ((30, 3), (7, 1)),
    ((1, 3), (4, 4)),
]


@pytest.mark.parametrize(("given", "sizes"), RESIZES)
def test_resized_as_keras_does(given, sizes):
    x = draw(2, *given, 3)
    expected = array(
        ops.image.resize(x, sizes, "bilinear", antialias=True, data_format="channels_last")
    )
    y = ops.convert_to_tensor(x)
    for axis, size in enumerate(sizes, 1):
        y = resized(y, axis, size)
    np.testing.assert_allclose(array(y), expected, rtol=1e-5, atol=2e-6)


def matrix(given, size):
    """The triangle of each result over the values, by loops."""
    rows = np.zeros((size, given))
    for row in range(size):
        centre, reach = (row + 0.5) * given / size - 0.5, max(given / size, 1)
        for n in range(given):
            rows[row, n] = max(0.0, 1 - abs(centre - n) / reach)
    return rows / rows.sum(1, keepdims=True)


@pytest.mark.parametrize(("given", "sizes"), RESIZES)
def test_projector_of_maps(given, sizes):
    """The same numbers, and gradients of inputs and weights, on every backend."""
    x = draw(2, *given, 5)
    layer = FeatureProjector(3, sizes)
    y = layer(x)
    assert tuple(y.shape) == (2, *sizes, 3)
    kernel = array(layer.dense.kernel)
    layer.dense.set_weights([kernel, np.array([1.0, -2.0, 0.5])])
    tall, wide = (matrix(a, b) for a, b in zip(given, sizes, strict=True))
    linear = x @ kernel.astype("float64") + [1.0, -2.0, 0.5]
    expected = np.einsum("ih,jw,bhwc->bijc", tall, wide, linear)
    np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-5, atol=1e-5)
    pull = np.random.default_rng(1).normal(size=expected.shape).astype("float32")
    found = gradient(lambda v: ops.sum(ops.convert_to_tensor(pull) * layer(v)), x)
    expected = np.einsum("ih,jw,bijc,dc->bhwd", tall, wide, pull, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_projector_leaves_axes_as_they_are():
    x = draw(2, 6, 5, 4)
    layer = FeatureProjector(3, (None, 8))
    assert tuple(layer(x).shape) == (2, 6, 8, 3)
    assert layer.compute_output_shape((None, None, 5, 4)) == (None, None, 8, 3)
    plain = FeatureProjector(3, (6, None))
    plain(x)
    np.testing.assert_array_equal(array(plain(x)), array(plain.dense(x)))


def test_projector_of_unknown_sizes():
    inputs = keras.Input((None, None, 4))
    layer = FeatureProjector(3, (6, 5))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 6, 5, 3)
    for size in ((3, 8), (6, 5), (12, 4)):
        x = draw(2, *size, 4)
        np.testing.assert_allclose(
            model.predict(x, verbose=0), array(layer(x)), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("steps", [4, 9, 15])
@pytest.mark.parametrize("masked", [True, False])
def test_projector_of_sequences(steps, masked):
    """Valid steps alone, by the rule of `StepResampler`; zeros where there is none."""
    x = draw(3, 9, 5)
    mask = np.arange(9) < np.array([[9], [4], [0]]) if masked else None
    layer = FeatureProjector(2, (steps,))
    layer.build((None, 9, 5))
    layer.dense.set_weights([array(layer.dense.kernel), np.array([0.5, -1.0])])
    expected = array(StepResampler(steps)(layer.dense(x), **({"mask": mask} if masked else {})))
    if masked:
        x[~mask] = np.nan
    options = {"mask": mask} if masked else {}
    np.testing.assert_allclose(array(layer(x, **options)), expected, rtol=1e-4, atol=1e-5)
    pull = np.random.default_rng(1).normal(size=(3, steps, 2)).astype("float32")
    slope = gradient(lambda v: ops.sum(ops.convert_to_tensor(pull) * layer(v, **options)), x)
    assert np.isfinite(slope).all()
    if masked:
        assert not slope[~mask].any()
        assert slope[mask].any()
        with pytest.raises(ValueError, match="`mask` must be true at the positions"):
            layer(x, mask=mask[:, :5])


def test_weights_of_a_projector_learn_from_valid_steps_alone():
    """NaN in the padding reaches neither kernel nor bias."""
    x = draw(2, 4, 3)
    mask = np.array([[True] * 4, [True, False, False, False]])
    inputs, valid = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    for steps in (3, 7):
        results = []
        for fill in (0.0, np.nan):
            keras.utils.set_random_seed(0)
            layer = FeatureProjector(2, (steps,))
            model = keras.Model([inputs, valid], layer(inputs, mask=valid))
            model.compile(keras.optimizers.SGD(0.1), "mse")
            filled = np.where(mask[..., None], x, np.float32(fill))
            model.fit([filled, mask], np.ones((2, steps, 2), "float32"), verbose=0)
            results.append(np.concatenate([w.ravel() for w in layer.get_weights()]))
        np.testing.assert_allclose(*results, rtol=1e-6)


def test_masks_after_a_projector():
    masked = keras.layers.Masking(0.0)
    x = draw(2, 6, 3)
    x[1, 4:] = 0.0
    same, other = FeatureProjector(2), FeatureProjector(2, (5,))
    mask = masked.compute_mask(ops.convert_to_tensor(x))
    np.testing.assert_array_equal(array(same.compute_mask(x, mask)), array(mask))
    assert other.compute_mask(x, mask) is None
    inputs = keras.Input((6, 3))
    model = keras.Model(inputs, other(masked(inputs)))
    expected = array(other(x, mask=np.arange(6) < np.array([[6], [4]])))
    np.testing.assert_allclose(array(model(x)), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="carries a Keras mask cannot be resized"):
        FeatureProjector(2, (4, 4))(draw(2, 3, 3, 2), mask=np.ones((2, 3, 3), bool))


@pytest.mark.parametrize("sizes", [(), (0,), (2.0,), 4, "44", (1, 2, 3, 4), (True,), (None, -1)])
def test_sizes_that_are_none(sizes):
    with pytest.raises(ValueError, match="`sizes` must be.*Received: sizes="):
        FeatureProjector(3, sizes)


def test_a_projector_of_another_rank():
    with pytest.raises(ValueError, match="A feature of 4 axes is needed.*Received: "):
        FeatureProjector(3, (4, 4))(draw(2, 6, 5))


def test_a_projector_is_stored(tmp_path):
    old = FeatureProjector.from_config({"units": 3})
    assert (old.units, old.sizes) == (3, None)
    assert FeatureProjector.from_config({"units": 3, "sizes": [None, 4]}).sizes == (None, 4)
    inputs = keras.Input((6, 5, 4))
    model = keras.Model(inputs, FeatureProjector(3, (2, None))(inputs))
    model.save(tmp_path / "model.keras")
    again, x = keras.saving.load_model(tmp_path / "model.keras"), draw(2, 6, 5, 4)
    assert again.layers[-1].sizes == (2, None)
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


def specs(*shapes):
    return [keras.KerasTensor((None, *shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("teacher", "student", "sizes"),
    [
        ((8,), (8,), None),
        ((8,), (5,), (8, None)),
        ((6, 8), (6, 5), (8, None)),
        ((6, 8), (9, 8), (8, (6,))),
        ((6, 8), (None, 8), (8, (6,))),
        ((None, 8), (9, 8), None),
        ((None, 8), (None, 5), (8, None)),
        ((7, 7, 8), (4, 9, 5), (8, (7, 7))),
        ((7, 7, 8), (4, 7, 8), (8, (7, None))),
        ((None, 7, 8), (4, 9, 5), (8, (None, 7))),
        ((None, None, 8), (None, None, 8), None),
    ],
)
def test_automatic_projectors(teacher, student, sizes):
    layer = resolve_projector("auto", *specs(teacher, student))
    if sizes is None:
        assert layer is None
        return
    assert (layer.units, layer.sizes) == sizes
    assert layer.built


@pytest.mark.parametrize("projector", ["auto", None])
def test_ranks_that_differ(projector):
    with pytest.raises(ValueError, match="must have the same shape.*Received: teacher"):
        resolve_projector(projector, *specs((4, 4, 8), (8,)))


@pytest.mark.parametrize(
    ("shape", "axis", "message"),
    [
        ((4, None), -1, "its last size known"),
        ((), -1, "a feature for each sample"),
        ((1, 6, 8), (1, 2), "at least 2 long along each split axis"),
        ((3, 8), (1,), "at least 4 long along the split axis"),
        ((6, 6, 8), (1, 4), "`axis` must be different ones"),
        ((6, 6, 8), (0, 1), "`axis` must be an integer that is not"),
    ],
)
def test_features_that_cannot_be_split(shape, axis, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        check_feature(specs(shape)[0], axis, "student")


@pytest.mark.parametrize(
    ("shape", "axis"), [((None, None, 8), (1, 2)), ((None, 8), -1), ((2, 2, 8), [1, 2])]
)
def test_features_that_can(shape, axis):
    assert check_feature(specs(shape)[0], axis, "teacher") is None


# FitNet


@pytest.mark.parametrize(
    ("given", "target", "kernel"),
    [
        ((4, 5), (9, 3), (1, 5, 3)),
        ((4, 4, 5), (8, 8, 3), (1, 1, 5, 3)),
        ((4, 10, 5), (8, 5, 3), (1, 3, 5, 3)),
        ((9, 3, 5), (7, 6, 3), (3, 1, 5, 3)),
        ((None, 3, 5), (None, 6, 3), (1, 1, 5, 3)),
    ],
)
def test_regressor_of_a_smaller_map(given, target, kernel):
    """It is that of the map resized first, along the axes where it is smaller."""
    layer = FeatureRegressor(target)
    assert tuple(layer(keras.Input(given)).shape) == (None, *target)
    assert tuple(layer.linear.kernel.shape) == kernel
    x = draw(2, *(n or 6 for n in given))
    larger = ops.convert_to_tensor(x)
    if len(given) == 2:
        larger = StepResampler(target[0])(larger)
    else:
        for axis, (size, wanted) in enumerate(zip(given[:-1], target, strict=False), 1):
            larger = resized(larger, axis, wanted) if size and size < wanted else larger
    plain = FeatureRegressor(target)
    plain.build((None, *(n if n is None else larger.shape[i + 1] for i, n in enumerate(given))))
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(array(layer(x)), array(plain(larger)), rtol=1e-5, atol=1e-6)


def test_padding_of_a_lengthened_sequence():
    """Valid steps are spread over all; statistics see neither padding nor an empty sample."""
    x, mask = draw(3, 4, 5), np.arange(4) < np.array([[4], [2], [0]])
    results = []
    for fill, rows in ((0.0, 3), (np.nan, 3), (np.nan, 2)):
        keras.utils.set_random_seed(0)
        layer = FeatureRegressor((9, 3))
        layer.build((None, 4, 5))
        filled = np.where(mask[..., None], x, np.float32(fill))[:rows]
        output = array(layer(filled, training=True, mask=mask[:rows]))[:2]
        results.append((output, array(layer.batch_norm.moving_variance)))
    for one in results[1:]:
        for found, expected in zip(one, results[0], strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert layer.compute_mask(x, ops.convert_to_tensor(mask)) is None


def test_padding_of_an_enlarged_map():
    """Outputs that see what is masked do not count; the others are as without a mask."""
    x, mask = draw(2, 4, 4, 5), np.ones((2, 4, 4), bool)
    mask[1, 2:] = False
    layer = FeatureRegressor((8, 4, 3))
    layer.build((None, 4, 4, 5))
    seen = array(layer.compute_mask(x, ops.convert_to_tensor(mask)))
    # Row 3 of 8 lies at 1.25 of 4, between the rows 1 and 2, which is masked.
    np.testing.assert_array_equal(seen[1, :, 0], np.arange(8) < 3)
    assert seen[0].all()
    whole = array(layer(x))
    x[~mask] = np.nan
    found = array(layer(x, mask=mask))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[seen > 0], whole[seen > 0], rtol=1e-5, atol=1e-6)


# In distillers

SAMPLES = 6
LAYERS = {"teacher_layer_name": "map", "student_layer_name": "map"}


def convolutional(channels, filters=8, strides=1, size=(8, 8)):
    inputs = keras.Input((*size, channels))
    x = keras.layers.Conv2D(filters, 3, strides, padding="same", name="map")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def images(size=(8, 8)):
    x = {"teacher": draw(SAMPLES, *size, 2), "student": draw(SAMPLES, *size, 1, seed=1)}
    return x, np.arange(SAMPLES) % 3


def fit(distiller, data, rate):
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy())
    before = [w.copy() for w in distiller.student.get_weights()]
    history = distiller.fit(*data, batch_size=SAMPLES, verbose=0).history
    after = distiller.student.get_weights()
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    return {name: values[0] for name, values in history.items()}, moved


def map_of(model, x):
    return keras.Model(model.input, model.get_layer("map").output).predict(x, verbose=0)


def test_bands_of_maps_train_a_student():
    x, y = images()
    teacher, student = convolutional(2), convolutional(1)
    loss = FrequencyDistillation(axis=(1, 2), **LAYERS)
    maps = map_of(teacher, x["teacher"]), map_of(student, x["student"])
    distiller = CrossModalDistiller(teacher, student, losses=[loss])
    logs, moved = fit(distiller, (x, y), 0.1)
    expected = reference_loss(*maps, (1, 2)).mean()
    assert logs["frequency_loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["loss"] == pytest.approx(logs["task_loss"] + expected, rel=1e-4)
    assert all(moved)


def test_maps_of_two_sizes_train_a_student():
    """The student's map is brought to the teacher's, and the terms are those of the bands."""
    x, y = images()
    teacher, student = convolutional(2), convolutional(1, filters=5, strides=2)
    distiller = FrequencyDistiller(
        teacher, student, teacher_features="map", student_features="map", axis=(1, 2)
    )
    assert (distiller.projector.units, distiller.projector.sizes) == (8, (8, 8))
    maps = distiller.predict_features(x)
    kernel = array(distiller.projector.dense.kernel)
    logs, moved = fit(distiller, (x, y), 0.1)
    expected = reference_loss(*maps, (1, 2), weights=(1.0, 0.0)).mean()
    assert logs["low_loss"] == pytest.approx(expected, rel=1e-4)
    assert all(moved)
    assert not np.array_equal(kernel, array(distiller.projector.dense.kernel))
    again = FrequencyDistiller.from_config(distiller.get_config())
    assert again.frequency.axis == (1, 2)
    assert again.projector.sizes == (8, 8)


def test_models_of_any_size_train():
    """Fully convolutional ones, whose sizes the data tell."""
    unknown = (None, None)
    distiller = FrequencyDistiller(
        convolutional(2, size=unknown),
        convolutional(1, filters=5, size=unknown),
        teacher_features="map",
        student_features="map",
        axis=(1, 2),
    )
    for size in ((8, 8), (6, 9)):
        x, y = images(size)
        maps = distiller.predict_features(x)
        logs, moved = fit(distiller, (x, y), 0.1)
        expected = reference_loss(*maps, (1, 2), weights=(1.0, 0.0)).mean()
        assert logs["low_loss"] == pytest.approx(expected, rel=1e-4)
        assert all(moved)
    other = {**x, "teacher": draw(SAMPLES, 8, 8, 2)}
    with pytest.raises(ValueError, match="of the same shape"):
        fit(distiller, (other, y), 0.1)


def test_a_hint_of_a_larger_map_trains_a_student():
    x, y = images()
    teacher, student = convolutional(2), convolutional(1, filters=5, strides=2)
    distiller = CrossModalDistiller(teacher, student, losses=[FitNet(**LAYERS)])
    regressor = distiller.adapters["fitnet"].regressor
    wanted = map_of(teacher, x["teacher"])
    given = map_of(student, x["student"])
    made = array(regressor(given, training=True))
    logs, moved = fit(distiller, (x, y), 0.1)
    assert logs["fitnet_loss"] == pytest.approx(((made - wanted) ** 2).mean(), rel=1e-4)
    assert all(moved)
