"""logits_view: models that end in softmax or sigmoid, compared by their logits."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import layers, ops

from keras_fdkd import CrossModalDistiller, logits_view
from keras_fdkd.features import FeatureTap
from keras_fdkd.losses import KD

RNG = np.random.default_rng(0)
INPUT = RNG.normal(size=(16, 4)).astype("float32")


def ends_in(activation, classes=3, scale=1.0, dtype=None):
    """A linear model, and the same with an activation at its end."""
    x = keras.Input((4,))
    h = layers.Dense(8, "relu", name="hidden", dtype=dtype)(x)
    linear = keras.Model(x, layers.Dense(classes, name="head", dtype=dtype)(h))
    h = layers.Dense(8, "relu", name="hidden", dtype=dtype)(x)
    model = keras.Model(x, layers.Dense(classes, activation, name="head", dtype=dtype)(h))
    linear.set_weights([scale * weight for weight in linear.get_weights()])
    model.set_weights(linear.get_weights())
    return linear, model


def centred(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


def test_logits_of_softmax():
    linear, model = ends_in("softmax")
    found = logits_view(model).predict(INPUT, verbose=0)
    np.testing.assert_allclose(centred(found), centred(linear.predict(INPUT, verbose=0)), atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1.5])
def test_logits_of_sigmoid(scale):
    linear, model = ends_in("sigmoid", scale=scale)
    expected = linear.predict(INPUT, verbose=0)
    found = logits_view(model).predict(INPUT, verbose=0)
    # A probability near 1 is known to half a step of float32.
    bound = 1e-5 + 2e-7 * (1 + np.exp(np.abs(expected)))
    np.testing.assert_array_less(np.abs(found - expected), bound)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_finite_at_zero_and_one(activation, dtype):
    _, model = ends_in(activation, scale=200.0, dtype=dtype)
    probabilities = model.predict(INPUT, verbose=0).astype("float32")
    assert (probabilities == 0).any()
    assert (probabilities > 0.999).any()
    view = logits_view(model)
    logits = view.predict(INPUT, verbose=0)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert (logits[probabilities > 0.999] > logits[probabilities == 0].max()).all()
    view.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    view.fit(INPUT, np.zeros_like(logits), verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_training_the_view_trains_the_model():
    _, model = ends_in("softmax")
    view = logits_view(model)
    before = model.get_weights()
    view.compile("adam", cross_entropy())
    view.fit(INPUT, np.zeros(16, "int32"), verbose=0)
    changed = [np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)]
    assert min(changed) > 1e-4


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_view_keeps_feature_and_meaning(activation):
    view = logits_view(ends_in(activation)[1])
    tap = FeatureTap(view, {"features": None}, "teacher")
    assert tap.resolved == {"features": "head (input)"}
    assert tap.spec["features"].shape == (None, 8)
    assert tap.meaning("predictions") == "logits"


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_view_saves(activation, tmp_path):
    view = logits_view(ends_in(activation)[1])
    view.save(tmp_path / "view.keras")
    loaded = keras.saving.load_model(tmp_path / "view.keras")
    np.testing.assert_allclose(
        loaded.predict(INPUT, verbose=0), view.predict(INPUT, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Softmax()]),
        lambda: keras.Sequential([keras.Input((4,)), ends_in("softmax")[1]]),
        lambda: keras.Model(
            *(lambda x: ({"x": x}, ops.softmax(layers.Dense(3)(x))))(keras.Input((4,), name="x"))
        ),
    ],
)
def test_other_ways_to_end_in_softmax(make):
    model = make()
    inputs = {"x": INPUT} if hasattr(model, "input") and isinstance(model.input, dict) else INPUT
    found = ops.softmax(ops.convert_to_tensor(logits_view(model).predict(inputs, verbose=0)))
    expected = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-6)


def test_kd_from_the_view_is_kd_from_the_linear_teacher():
    linear, softmax = ends_in("softmax")
    x, labels = pairs(teacher=4)
    values = []
    for teacher in (linear, logits_view(softmax)):
        keras.utils.set_random_seed(1)
        distiller = CrossModalDistiller(teacher, classifier(4), losses=[KD(4.0)])
        distiller.compile(keras.optimizers.SGD(0.1), cross_entropy())
        logs = distiller.fit(x, labels, epochs=2, shuffle=False, verbose=0).history
        values.append((logs["kd_loss"], distiller.student.get_weights()))
    np.testing.assert_allclose(values[1][0], values[0][0], atol=1e-5)
    for found, expected in zip(values[1][1], values[0][1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def two_outputs():
    x = keras.Input((4,))
    return keras.Model(x, [layers.Dense(3, "softmax")(x), layers.Dense(2, "softmax")(x)])


def with_preprocessor():
    model = ends_in("softmax")[1]
    model.preprocessor = layers.Rescaling(2.0)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ends_in(None)[1], "gives logits as it is.*Dense 'head' with linear"),
        (lambda: ends_in("relu")[1], "without activation.*Dense 'head' with relu"),
        (two_outputs, "with one output"),
        (with_preprocessor, "has a preprocessor"),
        (lambda: "model", "must be a `keras.Model`"),
    ],
)
def test_what_has_no_view(make, message):
    with pytest.raises(ValueError, match=message):
        logits_view(make())
