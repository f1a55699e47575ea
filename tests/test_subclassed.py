"""Models with their own `call`: features by the name of a layer or of an entry of the output."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.features import FeatureTap
from keras_fdkd.inner_layers import find_layer
from keras_fdkd.losses import KD, PKD

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class Encoder(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [keras.layers.Dense(16, "relu"), keras.layers.Dense(16)]
        self.pool = keras.layers.Activation("tanh", name="squash")

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.pool(inputs)


@keras.saving.register_keras_serializable(package="tests")
class Net(keras.Model):
    """`form` says what comes out."""

    def __init__(self, form="logits", size=4, **kwargs):
        super().__init__(**kwargs)
        self.form, self.size = form, size
        self.encoder = Encoder()
        self.twice = keras.layers.Dropout(0.1)
        self.never = keras.layers.Dense(2, trainable=False)
        self.never.build((None, 4))
        self.hid = keras.layers.Dense(16, name="hidden")
        self.both = keras.layers.Dense(16)
        self.head = keras.layers.Dense(3)
        self(np.zeros((1, size), "float32"))

    def call(self, inputs, training=False):
        hidden = self.hid(self.twice(self.encoder(inputs), training=training))
        logits = self.head(self.twice(self.both(hidden), training=training))
        return {
            "logits": logits,
            "tuple": (logits, hidden),
            "dict": {"embedding": hidden, "logits": logits},
            "clash": {"both": hidden, "logits": logits},
            "nested": {"embedding": [hidden, hidden], "logits": logits},
            "no logits": {"embedding": hidden, "out": logits},
        }[self.form]

    def get_config(self):
        return {"form": self.form, "size": self.size, "name": self.name}


def values(net, x=X):
    hidden = net.encoder.blocks[0](x)
    squashed = net.encoder.pool(net.encoder.blocks[1](hidden))
    return {
        "encoder/blocks/0": hidden,
        "encoder/pool": squashed,
        "encoder": squashed,
        "hid": net.hid(squashed),
        "hidden": net.hid(squashed),
    }


@pytest.mark.parametrize("path", ["encoder/blocks/0", "encoder/pool", "encoder", "hid", "hidden"])
def test_layers_are_read_by_path(path):
    net = Net()
    before = [dict(vars(layer)) for layer in (net.hid, net.encoder, net.encoder.pool)]
    tap = FeatureTap(net, {"features": path}, "teacher")
    assert (tap.paths, tap.spec["features"].shape) == ({"features": path}, (None, 16))
    for outputs in (tap(X), tap.predict(X), tap.predict_on_batch(X)):
        assert sorted(outputs) == ["features", "predictions"]
        np.testing.assert_allclose(
            ops.convert_to_numpy(outputs["features"]),
            ops.convert_to_numpy(values(net)[path]),
            atol=1e-5,
        )
        np.testing.assert_allclose(
            ops.convert_to_numpy(outputs["predictions"]), ops.convert_to_numpy(net(X)), atol=1e-5
        )
    after = [dict(vars(layer)) for layer in (net.hid, net.encoder, net.encoder.pool)]
    assert [set(one) for one in before] == [set(one) for one in after]
    assert "call" not in vars(net.hid)


@pytest.mark.parametrize("path", ["net/hid", "net/encoder/pool"])
def test_layers_inside_a_functional_wrapper(path):
    net = Net(name="net")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Activation("linear")(net(inputs)))
    tap = FeatureTap(model, {"features": path}, "teacher")
    np.testing.assert_allclose(
        tap.predict(X)["features"],
        ops.convert_to_numpy(values(net)[path.partition("/")[2]]),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        tap.predict(X)["predictions"], ops.convert_to_numpy(net(X)), atol=1e-5
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_both_sides_train_by_name(wrapped):
    def model(size):
        net = Net(size=size, name="net")
        if not wrapped:
            return net
        inputs = keras.Input((size,))
        return keras.Model(inputs, net(inputs))

    x, y = pairs()
    path = "net/encoder/pool" if wrapped else "encoder/pool"
    teacher, student = model(6), model(4)
    frozen = teacher.get_weights()
    distiller = FrequencyDistiller(
        teacher, student, teacher_features=path, student_features=path, extra_losses=[KD()]
    )
    distiller.compile("adam", cross_entropy(), metrics=["accuracy"])
    before = student.get_weights()
    history = distiller.fit(x, y, epochs=2, verbose=0, validation_data=(x["student"], y)).history
    assert np.isfinite(history["loss"]).all()
    for one, two in zip(frozen, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    changed = [
        not np.array_equal(one, two) for one, two in zip(before, student.get_weights(), strict=True)
    ]
    assert sum(changed) == len(changed) - 2  # all but the layer that never runs
    net = student.get_layer("net") if wrapped else student
    assert not [name for layer in (net.encoder.pool, net.hid) for name in vars(layer) if name in
                ("call", "quantized_call")]  # fmt: skip


def test_losses_read_layers_by_path():
    x, y = pairs()
    distiller = CrossModalDistiller(
        Net(size=6),
        Net(),
        losses=[PKD(teacher_layer_name="encoder/blocks/0", student_layer_name="hid")],
    )
    distiller.compile("adam", cross_entropy())
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["pkd_loss"]).all()


def test_paths_are_saved(tmp_path):
    x, y = pairs()
    distiller = FrequencyDistiller(
        Net(size=6), Net(), teacher_features="encoder/pool", student_features="hid"
    )
    distiller.compile("adam", cross_entropy())
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras")
    np.testing.assert_allclose(
        again.predict_teacher(x["teacher"])["features"],
        distiller.predict_teacher(x["teacher"])["features"],
        atol=1e-6,
    )


def test_entries_of_the_output():
    net = Net("dict")
    tap = FeatureTap(net, {"features": "embedding", "deep": "encoder/pool"}, "teacher")
    outputs, wanted = tap.predict(X), net.predict(X, verbose=0)
    np.testing.assert_allclose(outputs["features"], wanted["embedding"], atol=1e-6)
    np.testing.assert_allclose(outputs["predictions"], wanted["logits"], atol=1e-6)
    assert outputs["deep"].shape == (5, 16)
    assert sorted(FeatureTap(net, {}, "teacher").spec) == ["predictions"]


def test_an_error_in_the_model_leaves_its_layers():
    net = Net()
    tap = FeatureTap(net, {"features": "hid"}, "teacher")
    with pytest.raises(Exception, match=r".+"):
        tap(np.ones((2, 7), "float32"))
    assert "call" not in vars(net.hid)
    assert tap(X)["features"].shape == (5, 16)


def test_masks_of_layers_inside():
    class Sequences(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = keras.layers.Embedding(9, 6, mask_zero=True)
            self.pool = keras.layers.GlobalAveragePooling1D()
            self.head = keras.layers.Dense(3)

        def call(self, inputs):
            return self.head(self.pool(self.embed(inputs)))

    ids = np.array([[1, 2, 0], [3, 0, 0]])
    net = Sequences()
    net(ids)
    tap = FeatureTap(net, {"features": "embed"}, "teacher")
    assert tap.masks == {"features"}
    np.testing.assert_array_equal(tap.predict(ids)["features_mask"][..., 0], ids > 0)


@pytest.mark.skipif(keras.config.backend() == "torch", reason="PyTorch runs step by step")
def test_compiled_steps():
    x, y = pairs()
    distiller = FrequencyDistiller(
        Net(size=6), Net(), teacher_features="hid", student_features="encoder/pool"
    )
    distiller.compile("adam", cross_entropy(), jit_compile=True)
    assert np.isfinite(distiller.fit(x, y, verbose=0, batch_size=8).history["loss"]).all()


def test_quantized_layers():
    net = Net()
    net.hid.quantize("int8")
    tap = FeatureTap(net, {"features": "hid"}, "teacher")
    found = tap.predict(X)["features"]
    np.testing.assert_allclose(found, ops.convert_to_numpy(values(net)["hid"]), atol=1e-5)


@pytest.mark.parametrize(
    ("form", "where", "message"),
    [
        ("logits", None, "no default feature: name a layer.*layers: .*'hid'"),
        ("logits", "hidde", "no layer and no entry.*attributes"),
        ("logits", "encoder/blocks/7", "no layer and no entry"),
        ("logits", "twice", "must run once.*runs 2 times"),
        ("logits", "never", "must run once.*runs not at all"),
        ("tuple", "hid", "logits, features = self.model.*Received output: a tuple of 2"),
        ("no logits", "embedding", r"the logits may not.*\['embedding', 'out'\]"),
        ("clash", "both", "which is both"),
        ("nested", "embedding", "must be a single tensor"),
    ],
)
def test_what_cannot_be_read(form, where, message):
    with pytest.raises(ValueError, match=message):
        FrequencyDistiller(Net(form, size=6), classifier(4), teacher_features=where)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("net/nothing", "'net' in the path 'net/nothing' is not a functional.*Layers: .*'encoder'"),
        ("net/twice", "Layer 'net/twice' of `teacher` must run once.*2 times"),
    ],
)
def test_what_cannot_be_read_inside_a_wrapper(path, message):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, Net(size=6, name="net")(inputs))
    with pytest.raises(ValueError, match=message):
        FrequencyDistiller(model, classifier(4), teacher_features=path)


def test_channels_first_inside_is_refused():
    class Sequences(keras.Model):
        def __init__(self):
            super().__init__()
            self.pool = keras.layers.MaxPooling1D(2, data_format="channels_first")
            self.head = keras.layers.Dense(3)

        def call(self, inputs):
            return self.head(ops.mean(self.pool(inputs), axis=-1))

    net = Sequences()
    net(np.zeros((1, 4, 6), "float32"))
    with pytest.raises(ValueError, match="channels last.*'pool'"):
        FeatureTap(net, {"features": "pool"}, "teacher")


def test_find_layer():
    net = Net(name="net")
    assert find_layer(net, "encoder/squash") is None  # A layer has no names inside, a model has.
    assert find_layer(net, "hidden") is net.hid
    assert find_layer(net, "form") is None
    assert find_layer(net, "encoder/blocks") is None
