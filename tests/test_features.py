"""Taps: where a feature is read, and what is said when it cannot be."""

import keras
import numpy as np
import pytest
from conftest import classifier
from keras import ops

from keras_fdkd.features import FeatureTap


def tap(model, where=None, role="student"):
    return FeatureTap(model, {"features": where}, role)


def nested():
    """encoder(block(dense pool)) -> head, all functional, three levels deep."""
    x = keras.Input((4,))
    block = keras.Model(x, keras.layers.Dense(8, name="pool")(x), name="block")
    x = keras.Input((4,))
    hidden = keras.layers.ReLU(name="relu")(block(x))
    encoder = keras.Model(x, hidden, name="encoder")
    x = keras.Input((4,))
    dropped = keras.layers.Dropout(0.5, name="dropout")(encoder(x))
    return keras.Model(x, keras.layers.Dense(3, name="head")(dropped), name="whole")


INPUT = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def test_default_is_the_input_of_the_last_dense():
    model = classifier(4)
    outputs = tap(model)(INPUT)
    kernel, bias = model.get_layer("feature").get_weights()
    expected = np.maximum(INPUT @ kernel + bias, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["features"]), expected, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs["predictions"]), ops.convert_to_numpy(model(INPUT)), atol=1e-6
    )


def test_default_searches_nested_models():
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(3)])
    model = keras.Model(x, keras.layers.Softmax()(inner(x)))
    assert tap(model).spec["features"].shape == (None, 6)


@pytest.mark.parametrize("path", ["encoder/block/pool", "encoder/block", "encoder/relu", "encoder"])
def test_paths_through_nested_models(path):
    model = nested()
    outputs = tap(model, path)(INPUT)
    kernel, bias = model.get_layer("encoder").get_layer("block").get_layer("pool").get_weights()
    expected = INPUT @ kernel + bias
    if path in ("encoder/relu", "encoder"):
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["features"]), expected, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs["predictions"]), ops.convert_to_numpy(model(INPUT)), atol=1e-6
    )


def test_training_mode_reaches_nested_layers():
    outputs = tap(nested(), "dropout")(INPUT, training=True)
    assert (ops.convert_to_numpy(outputs["features"]) == 0).mean() > 0.2


def test_several_features_in_one_pass():
    model = nested()
    both = FeatureTap(model, {"deep": "encoder/block/pool", "late": "dropout"}, "student")
    assert {name: spec.shape[-1] for name, spec in both.spec.items()} == {
        "deep": 8, "late": 8, "predictions": 3,
    }  # fmt: skip


def test_keras_tensor():
    model = classifier(4)
    by_tensor = tap(model, model.get_layer("feature").output)
    assert by_tensor.paths == {"features": "feature"}
    x = keras.Input((4,))
    summed = keras.layers.Dense(6)(x) + 1.0
    model = keras.Model(x, keras.layers.Dense(2)(summed))
    assert tap(model, summed).spec["features"].shape == (None, 6)


def test_the_model_is_left_as_it_was():
    model = nested()
    before = model.to_json()
    weights = model.get_weights()
    tap(model, "encoder/block/pool")
    assert model.to_json() == before
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("head").output.shape == (None, 3)


@keras.saving.register_keras_serializable(package="tests")
class TwoOutputs(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(8)
        self.head = keras.layers.Dense(3)

    def call(self, inputs):
        x = inputs["left"] + inputs["right"] if isinstance(inputs, dict) else inputs
        hidden = self.hidden(x)
        return {"features": hidden, "logits": self.head(hidden)}


def test_models_that_hand_out_their_features():
    model = TwoOutputs()
    expected = model(INPUT)
    outputs = tap(model)(INPUT)
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs["features"]), ops.convert_to_numpy(expected["features"])
    )
    assert tap(model).spec["predictions"].shape == (None, 3)
    x = keras.Input((4,))
    functional = keras.Model(x, model(x))
    assert tap(functional).spec["features"].shape == (None, 8)


def test_subclassed_model_with_nested_inputs():
    model = TwoOutputs()
    model({"left": INPUT, "right": INPUT})
    assert tap(model).spec["features"].shape == (None, 8)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("pol", r"no layer 'pol' in `student`.*Nearest names: \['pool'\]"),
        ("pool/inner", "not a functional model"),
        (3, "must be `None`, a layer path"),
        (keras.KerasTensor((None, 4)), "is not computed from the inputs"),
    ],
)
def test_wrong_features(where, message):
    with pytest.raises(ValueError, match=message):
        tap(classifier(4), where)


def test_an_input_is_no_feature():
    model = classifier(4)
    with pytest.raises(ValueError, match="not be its input"):
        tap(model, model.inputs[0])


def test_predictions_are_the_logits_whatever_else_is_handed_out():
    class Three(TwoOutputs):
        def call(self, inputs):
            outputs = super().call(inputs)
            return {**outputs, "predictions": ops.softmax(outputs["logits"])}

    model = Three()
    expected = model(INPUT)["logits"]
    found = tap(model)(INPUT)["predictions"]
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(expected))


def test_unknown_nested_path_names_what_is_there():
    with pytest.raises(ValueError, match=r"Nearest names: \['block'\]"):
        tap(nested(), "encoder/blok")


def test_wrong_models():
    with pytest.raises(ValueError, match="`teacher` must be a `keras.Model`"):
        tap(lambda x: x, role="teacher")
    with pytest.raises(ValueError, match="must be built"):
        tap(keras.Sequential([keras.layers.Dense(3)]))
    no_dense = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="not from a `Dense` layer"):
        tap(no_dense)


def test_layer_that_runs_twice():
    shared = keras.layers.Dense(4, name="shared")
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(2)(shared(shared(x))))
    with pytest.raises(ValueError, match="more than once"):
        tap(model, "shared")
    # The tensor of a run that is not the last layer of the graph, either.
    between = keras.layers.Dense(4, name="between")
    feature = shared(between(shared(x)))
    model = keras.Model(x, keras.layers.Dense(2)(feature))
    with pytest.raises(ValueError, match="more than once"):
        FeatureTap(model, {"feature": feature}, "teacher")


def test_layer_with_several_outputs():
    x = keras.Input((6, 4))
    sequence, state = keras.layers.GRU(5, return_state=True, name="gru")(x)
    model = keras.Model(x, keras.layers.Dense(2)(sequence + state))
    with pytest.raises(ValueError, match="does not give a single tensor"):
        tap(model, "gru")


def test_subclassed_model_without_features():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Plain()
    model(INPUT)
    with pytest.raises(ValueError, match='keys "features" and "logits"'):
        tap(model)
    alone = FeatureTap(model, {}, "student")  # No feature is read: the predictions are enough.
    assert (alone.paths, alone.masks, alone.meaning("predictions")) == ({}, set(), None)
    for found in (alone(INPUT), alone.predict(INPUT), alone.predict_on_batch(INPUT)):
        assert list(found) == ["predictions"]
        np.testing.assert_allclose(
            ops.convert_to_numpy(found["predictions"]),
            ops.convert_to_numpy(model(INPUT)),
            atol=1e-6,
        )
    assert tap(model, "dense").spec["features"].shape == (None, 3)


def test_own_call_must_hand_out_one_tensor():
    class Several(TwoOutputs):
        def call(self, inputs):
            outputs = super().call(inputs)
            return [outputs["logits"], outputs["features"]]

    model = Several()
    model(INPUT)
    with pytest.raises(ValueError, match="or a single tensor, as no feature of it is read"):
        FeatureTap(model, {}, "teacher")


@pytest.mark.skipif(keras.config.backend() != "torch", reason="wraps a module of PyTorch")
def test_torch_module_of_unknown_output():
    import torch

    wrapper, module = keras.layers.TorchModuleWrapper, torch.nn.Linear(4, 3)
    model = keras.Sequential([keras.Input((4,)), wrapper(module)])
    model(INPUT)
    for features in ({"features": None}, {"features": "nothing"}):
        with pytest.raises(ValueError, match=r"TorchModuleWrapper\(module, output_shape=...\)"):
            FeatureTap(model, features, "teacher")
    assert FeatureTap(model, {}, "teacher").spec["predictions"].shape == (None, 3)
    known = keras.Sequential([keras.Input((4,)), wrapper(module, output_shape=(None, 3))])
    assert FeatureTap(known, {}, "teacher").spec["predictions"].shape == (None, 3)


def test_own_call_of_unknown_input_shapes():
    class Shapeless(keras.Model):
        def __init__(self):
            super().__init__()
            self.built = True

        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="could not be derived.*Wrap it as `keras.Model"):
        FeatureTap(Shapeless(), {}, "teacher")


def image_model(channels_last):
    layers = keras.layers
    form = {"data_format": "channels_last" if channels_last else "channels_first"}
    x = keras.Input((8, 8, 3) if channels_last else (3, 8, 8))
    h = layers.Conv2D(4, 3, padding="same", name="conv", **form)(x)
    h = layers.BatchNormalization(axis=-1 if channels_last else 1, name="norm")(h)
    h = layers.Add(name="add")([layers.ReLU(name="relu")(h), h])
    if not channels_last:
        h = layers.Permute((2, 3, 1), name="turned")(h)
    pooled = layers.GlobalAveragePooling2D(name="pool", data_format="channels_last")(h)
    return keras.Model(x, layers.Dense(3, name="head")(pooled))


@pytest.mark.parametrize("path", ["conv", "norm", "relu", "add"])
def test_maps_with_channels_first_are_refused(path):
    assert tap(image_model(True), path).channels_first_by("features") is None
    with pytest.raises(ValueError, match=r"Permute\(\(2, 3, 1\)\).*channels first by 'conv'"):
        tap(image_model(False), path)


def test_what_is_turned_or_pooled_has_no_channels_first():
    for path in ("turned", "pool", "head"):
        assert tap(image_model(False), path).spec["features"].shape[-1] in (3, 4)


def test_predictions_with_channels_first_are_told():
    x = keras.Input((3, 8, 8))
    conv = keras.layers.Conv2D(2, 1, data_format="channels_first", name="conv")
    found = FeatureTap(keras.Model(x, conv(x)), {}, "student")
    assert found.channels_first_by("predictions") == "conv"
