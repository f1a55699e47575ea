"""What an output means, told by the graph and by its values."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fdkd.features import FeatureTap
from keras_fdkd.outputs import look_like_probabilities


class Own(layers.Layer):
    def call(self, inputs):
        return ops.softmax(inputs)


class OwnDense(layers.Dense):
    def call(self, inputs):
        return ops.softmax(super().call(inputs))


def dense(activation=None):
    return layers.Dense(3, activation, name="head")


P, L = "probabilities", "logits"
ENDS = [
    (dense("softmax"), P, "softmax", "Dense 'head' with softmax"),
    (dense("sigmoid"), P, "sigmoid", "Dense 'head' with sigmoid"),
    (dense(layers.Softmax()), P, "softmax", "Dense 'head' with softmax"),
    (dense(), L, None, "Dense 'head' with linear"),
    (dense("relu"), None, None, "Dense 'head' with relu"),
    (dense("log_softmax"), L, None, "Dense 'head' with log_softmax"),
    (dense(lambda x: ops.softmax(x)), None, None, "Dense 'head' with <lambda>"),
    (OwnDense(3, name="head"), None, None, "OwnDense 'head'"),
    (lambda h: layers.Softmax(name="end")(dense()(h)), P, "softmax", "Softmax 'end'"),
    (lambda h: layers.Activation("sigmoid")(dense()(h)), P, "sigmoid", "Activation"),
    (lambda h: layers.Activation("linear")(dense("softmax")(h)), P, "softmax", "Dense 'head'"),
    (lambda h: ops.softmax(dense()(h)), P, "softmax", "`ops.softmax`"),
    (lambda h: keras.activations.sigmoid(dense()(h)), P, "sigmoid", "`ops.sigmoid`"),
    (lambda h: ops.log_softmax(dense()(h)), L, None, "`ops.log_softmax`"),
    (lambda h: ops.log(ops.clip(ops.softmax(dense()(h)), 1e-7, 1)), L, None, "`ops.log`"),
    (lambda h: ops.log(ops.sigmoid(dense()(h))), None, None, "`ops.log`"),
    (lambda h: dense()(h) / 2.0, L, None, "`ops.true_divide`"),
    (lambda h: dense("softmax")(h) * 2.0, None, None, "`ops.multiply`"),
    (lambda h: dense("softmax")(h)[:, :2], P, "softmax", "Dense 'head'"),
    (lambda h: ops.cast(dense("softmax")(h), "float16"), P, "softmax", "Dense 'head'"),
    (
        lambda h: layers.Dropout(0.1)(layers.Reshape((3, 1))(dense("sigmoid")(h))),
        P, "sigmoid", "Dense 'head'",
    ),
    (lambda h: layers.Lambda(lambda v: v, output_shape=(3,))(dense()(h)), None, None, "Lambda"),
    (lambda h: Own(name="own")(dense()(h)), None, None, "Own 'own'"),
    (lambda h: ops.softmax(dense()(h), axis=0), None, None, "`ops.softmax`"),
    (layers.EinsumDense("ab,bc->ac", 3), L, None, "EinsumDense"),
    (
        lambda h: layers.Average()([layers.Dense(3, "softmax")(h), Own()(dense()(h))]),
        None, None, "Average",
    ),
    (
        lambda h: layers.Average()([layers.Dense(3, "softmax")(h), layers.Dense(3, "softmax")(h)]),
        P, "softmax", "Average",
    ),
    (
        lambda h: layers.Concatenate()([layers.Dense(2, "softmax")(h), dense("softmax")(h)]),
        P, None, "Concatenate",
    ),
    (lambda h: layers.Add()([layers.Dense(3)(h), dense()(h)]), L, None, "Add"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "meaning", "kind", "by"), ENDS)
def test_meaning_of_the_predictions(end, meaning, kind, by):
    x = keras.Input((5,))
    model = keras.Model(x, end(layers.Dense(4, "relu", name="hidden")(x)))
    tap = FeatureTap(model, {}, "teacher")
    assert tap.meaning("predictions") == meaning
    assert tap.kind("predictions") == kind
    assert by in tap.ends_in("predictions")


def test_meaning_in_nested_models_and_of_named_layers():
    inner = keras.Sequential([keras.Input((5,)), dense(), layers.Softmax(name="end")], name="inner")
    x = keras.Input((5,))
    model = keras.Model(x, layers.Identity()(inner(x)))
    tap = FeatureTap(model, {"before": "inner/head", "after": "inner/end"}, "teacher")
    assert tap.meaning("predictions") == tap.meaning("after") == "probabilities"
    assert tap.meaning("before") == "logits"
    assert "Dense" in tap.ends_in("before")


@pytest.mark.parametrize(
    ("activation", "meaning"), [(None, "logits"), ("softmax", "probabilities")]
)
def test_meaning_of_maps(activation, meaning):
    x = keras.Input((4, 4, 2))
    maps = layers.UpSampling2D(2)(layers.Conv2D(3, 1, activation=activation)(x))
    assert FeatureTap(keras.Model(x, maps), {}, "teacher").meaning("predictions") == meaning
    pooled = keras.Model(x, layers.GlobalAveragePooling2D()(maps))
    assert FeatureTap(pooled, {}, "teacher").meaning("predictions") == meaning


def test_meaning_of_several_outputs():
    x = keras.Input((5,))
    model = keras.Model(x, [layers.Dense(3)(x), layers.Dense(2)(x)])
    tap = FeatureTap(model, {}, "teacher")
    assert (tap.meaning("predictions"), tap.ends_in("predictions")) == (None, "several outputs")


def test_meaning_of_handed_out_logits():
    x = keras.Input((5,))
    h = layers.Dense(4)(x)
    model = keras.Model(x, {"features": h, "logits": layers.Dense(3, "softmax")(h)})
    tap = FeatureTap(model, {"features": None}, "teacher")
    assert tap.meaning("predictions") == "probabilities"
    assert tap.resolved == {"features": "features (output)"}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([[0.1, 0.9], [0.5, 0.5]], True),
        ([[0, 1], [1, 0]], True),
        ([[0.1, 0.8995]], True),
        ([[0.1, 0.88]], False),
        ([[-0.1, 1.1]], False),
        ([[1.0], [1.0]], False),
        ([1.0, 0.0], False),
        ([[np.nan, 1.0]], False),
        ([[0.2, 0.3], [0.9, 0.9]], False),
        (np.full((2, 3, 4), 0.25), True),
        (np.zeros((0, 3)), False),
        ([["a", "b"]], False),
    ],
)
def test_values_that_look_like_probabilities(array, expected):
    assert look_like_probabilities(np.asarray(array)) is expected


def test_the_first_thousand_rows_are_looked_at():
    array = np.full((1001, 2), 0.5)
    array[1000] = 7
    assert look_like_probabilities(array)
    array[999] = 7
    assert not look_like_probabilities(array)
