"""The feature that is read when none is named: the classifier's input."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fdkd.features import FeatureTap


def tap(model, role="student"):
    return FeatureTap(model, {"features": None}, role)


def trunk(size=7):
    x = keras.Input((4,))
    return x, layers.Dense(size, "relu", name="hidden")(x)


@pytest.mark.parametrize(
    "end",
    [
        layers.Dense(3, "softmax", name="head"),
        lambda h: layers.Softmax()(layers.Dense(3, name="head")(h)),
        lambda h: layers.Activation("sigmoid")(layers.Dense(3, name="head")(h)),
        lambda h: ops.log(ops.softmax(layers.Dense(3, name="head")(h))),
        lambda h: ops.cast(layers.Identity()(layers.Dense(3, name="head")(h)), "float16"),
        lambda h: layers.Dense(3, name="head")(h)[:, :2],
        lambda h: ops.take(layers.Dense(3, name="head")(h), [0, 2], axis=-1),
        lambda h: layers.Reshape((3,))(layers.Dropout(0.1)(layers.Dense(3, name="head")(h))),
        lambda h: layers.Dense(3, name="head")(h) / 2.0,
        lambda h: layers.Dense(3, name="head")(inputs=h),
        lambda h: {"only": layers.Dense(3, name="head")(h)},
    ],
)
def test_back_from_the_output_to_the_classifier(end):
    x, h = trunk()
    model = keras.Model(x, end(h))
    found = tap(model)
    assert found.resolved == {"features": "head (input)"}
    assert found.paths == {"features": None}
    value = np.ones((2, 4), "float32")
    kernel, bias = model.get_layer("hidden").get_weights()
    np.testing.assert_allclose(
        ops.convert_to_numpy(found(value)["features"]),
        np.maximum(value @ kernel + bias, 0),
        atol=1e-5,
    )


def test_inside_nested_models():
    head = keras.Sequential([keras.Input((7,)), layers.Dense(3, name="logits")], name="head")
    x, h = trunk()
    inner = keras.Model(x, layers.Softmax()(head(h)), name="inner")
    y = keras.Input((4,))
    model = keras.Model(y, layers.Identity()(inner(y)))
    found = tap(model)
    assert found.resolved == {"features": "inner/head/logits (input)"}
    assert found.spec["features"].shape == (None, 7)
    value = np.ones((2, 4), "float32")
    kernel, bias = inner.get_layer("hidden").get_weights()
    np.testing.assert_allclose(
        ops.convert_to_numpy(found(value)["features"]),
        np.maximum(value @ kernel + bias, 0),
        atol=1e-5,
    )


def test_each_frame_is_classified():
    x = keras.Input((5, 4))
    h = layers.GRU(6, return_sequences=True)(x)
    model = keras.Model(x, layers.TimeDistributed(layers.Dense(3))(h))
    assert tap(model).spec["features"].shape == (None, 5, 6)


def gated():
    """A map whose only `Dense` layers gate its channels."""
    x = keras.Input((8, 8, 4))
    h = layers.Conv2D(8, 3, padding="same", name="body")(x)
    gate = layers.Dense(6, "relu", name="squeeze")(layers.GlobalAveragePooling2D()(h))
    gate = layers.Dense(8, "sigmoid", name="excite")(gate)
    h = layers.Multiply(name="gated")([h, layers.Reshape((1, 1, 8))(gate)])
    return keras.Model(x, layers.Conv2D(3, 1, name="classifier")(h))


def test_a_gate_is_no_classifier():
    message = r"comes from 'classifier' \(Conv2D\).*`student_features=`.*'gated' \(None, 8, 8, 8\)"
    with pytest.raises(ValueError, match=message):
        tap(gated())


def test_a_layer_of_ones_own_with_weights_ends_the_walk():
    class Scale(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs):
            return inputs * self.factor

    x, h = trunk()
    with pytest.raises(ValueError, match=r"comes from 'scale' \(Scale\).*'head' \(None, 3\)"):
        tap(keras.Model(x, Scale(name="scale")(layers.Dense(3, name="head")(h))))


@pytest.mark.parametrize("main_first", [True, False])
@pytest.mark.parametrize("built_first", ["main", "aux"])
def test_heads_at_two_depths(main_first, built_first):
    x = keras.Input((4,))
    early = layers.Dense(9, name="early")(x)
    late = layers.Dense(8, name="late")(early)
    heads = {}
    for name in sorted(("main", "aux"), key=lambda name: name != built_first):
        heads[name] = layers.Dense(3, name=name)(late if name == "main" else early)
    outputs = list(heads.values()) if main_first else list(heads.values())[::-1]
    with pytest.raises(ValueError, match="on different inputs") as raised:
        tap(keras.Model(x, outputs))
    assert "'late' (None, 8)" in str(raised.value)
    assert "'early' (None, 9)" in str(raised.value)


def test_heads_on_one_feature():
    x, h = trunk()
    outputs = {"kind": layers.Dense(3)(h), "size": layers.Dense(1, "relu")(h)}
    assert tap(keras.Model(x, outputs)).spec["features"].shape == (None, 7)


def test_the_inputs_of_a_student_are_no_feature():
    linear = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="sees the model's inputs, which do not learn"):
        tap(linear)
    assert tap(linear, "teacher").spec["features"].shape == (None, 4)


def test_layers_of_another_model_do_not_count():
    """A layer may run in several models: each is walked along its own calls."""
    shared = layers.Dense(3, name="head")
    x, h = trunk(5)
    keras.Model(x, shared(h))
    y = keras.Input((6,))
    other = layers.Dense(5, name="other")(y)
    model = keras.Model(y, shared(other))
    found = tap(model)
    value = np.ones((2, 6), "float32")
    kernel, bias = model.get_layer("other").get_weights()
    np.testing.assert_allclose(
        ops.convert_to_numpy(found(value)["features"]), value @ kernel + bias, atol=1e-5
    )
