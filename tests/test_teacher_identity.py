"""What is one teacher to the cache, and what is another one."""

import keras
import numpy as np
import pytest
from conftest import Opaque, classifier, pairs

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, fingerprint
from keras_fdkd.data import cache_teacher
from keras_fdkd.data.teacher_identity import teacher_identity
from keras_fdkd.losses import KD

BACKEND = keras.config.backend()


def identity(teacher, features=None, key=None):
    distiller = FrequencyDistiller(teacher, classifier(4), teacher_features=features)
    return teacher_identity(distiller, key, distiller._teacher.run_reads())


def branches(first, second):
    """A model whose branch `second` is taken from the layer `first` or from the other one."""
    inputs = keras.Input((6,))
    a = keras.layers.Activation("relu")(inputs)
    b = keras.layers.Activation("relu")(inputs)
    c = keras.layers.Activation("tanh")([a, b][first])
    d = keras.layers.Activation("sigmoid")([a, b][second])
    joined = keras.layers.Concatenate()([a, b, c, d])
    hidden = keras.layers.Dense(8)(joined)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    for number, weight in enumerate(model.weights):
        weight.assign(np.full(weight.shape, 0.1 * (number + 1), "float32"))
    return model


@keras.saving.register_keras_serializable(package="test")
class Scaled(keras.layers.Layer):
    def __init__(self, mode="v_1", **kwargs):
        super().__init__(**kwargs)
        self.mode = mode

    def call(self, inputs):
        return inputs * (2.0 if self.mode == "v_1" else 3.0)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def scaled(mode):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((6,)), Scaled(mode), keras.layers.Dense(8), keras.layers.Dense(3)]
    )


def test_wiring_is_part_of_it():
    same, again, other = branches(0, 1), branches(0, 1), branches(0, 0)
    assert fingerprint(same) == fingerprint(other)
    assert identity(same) == identity(again)
    assert identity(same) != identity(other)


def test_which_layers_share_weights_is_part_of_it():
    def model(places):
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(6, name="one"), keras.layers.Dense(6, name="two")]
        # Each in a model of its own: their configurations hide that a layer is the same one.
        hidden = inputs = keras.Input((6,))
        for number, place in enumerate(places):
            name = f"block{number}"
            layer = layers[place]
            layer.name = "shared"
            hidden = keras.Sequential([keras.Input((6,)), layer], name=name)(hidden)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    models = [model([0, 0, 1]), model([0, 0, 1]), model([0, 1, 0])]
    for other in models[1:]:
        other.set_weights(models[0].get_weights())
    assert len({fingerprint(each) for each in models}) == 1
    names = [identity(each) for each in models]
    assert names[0] == names[1]
    assert names[0] != names[2]


def test_options_are_part_of_it():
    assert fingerprint(scaled("v_1")) == fingerprint(scaled("v_2"))
    assert identity(scaled("v_1")) != identity(scaled("v_2"))
    assert identity(scaled("v_1")) == identity(scaled("v_1"))


def test_names_that_keras_numbers_are_not():
    def model():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((5, 6))
        hidden = keras.layers.Bidirectional(keras.layers.LSTM(4))(inputs) + 1.0
        hidden = keras.layers.Dense(8)(hidden)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden)), hidden

    models = [model() for _ in range(2)]
    assert models[0][0].layers[1].name != models[1][0].layers[1].name
    first, second = (identity(each, hidden) for each, hidden in models)
    assert first == second
    by_name = identity(models[0][0], models[0][0].layers[-2].name)
    assert by_name == first
    assert identity(models[0][0], models[0][0].layers[1].name) != first


def test_names_of_models_are_not():
    """A part of a backbone is often given its name, which Keras numbers by the backbone's class."""

    class Backbone(keras.Model):
        def __init__(self):
            inputs = keras.Input((6,))
            super().__init__(inputs, keras.layers.Activation("relu")(keras.layers.Dense(8)(inputs)))

    def model():
        keras.utils.set_random_seed(1)
        whole = Backbone()
        part = keras.Model(whole.input, whole.layers[-1].input, name=whole.name)
        inputs = keras.Input((6,))
        return keras.Model(inputs, keras.layers.Dense(3)(part(inputs)))

    models = [model() for _ in range(2)]
    first, second = (each.layers[1].name for each in models)
    assert first != second
    assert identity(models[0]) == identity(models[1])
    # What is read of a part is still told apart.
    inside = [f"{name}/{models[0].get_layer(name).layers[-1].name}" for name in [first]]
    assert identity(models[0], inside[0]) != identity(models[0])


def test_compiling_and_freezing_are_not():
    teacher = scaled("v_1")
    before = identity(teacher)
    teacher.compile("adam", "mse")
    teacher.predict(np.ones((2, 6)), verbose=0)
    assert identity(teacher) == before
    teacher.trainable = True
    distiller = FrequencyDistiller(scaled("v_1"), classifier(4))
    distiller.teacher.layers[0].trainable = True
    assert teacher_identity(distiller, None, distiller._teacher.run_reads()) == before


def test_constants_of_a_layer_are_part_of_it():
    @keras.saving.register_keras_serializable(package="test")
    class Windowed(keras.layers.Layer):
        window = None

        def call(self, inputs):
            return inputs * self.window

    def model(value):
        keras.utils.set_random_seed(1)
        layer = Windowed()
        layer.window = np.full(6, value, "float32")
        return keras.Sequential(
            [keras.Input((6,)), layer, keras.layers.Dense(8), keras.layers.Dense(3)]
        )

    assert identity(model(1.0)) == identity(model(1.0))
    assert identity(model(1.0)) != identity(model(2.0))


def test_a_vocabulary_is_part_of_it():
    pytest.importorskip("tensorflow")
    if BACKEND == "torch":
        pytest.skip("no texts in models on PyTorch")

    def model(words):
        keras.utils.set_random_seed(1)
        layer = keras.layers.IntegerLookup(max_tokens=9)
        layer.adapt(np.array(words))
        inputs = keras.Input((4,), dtype="int64")
        hidden = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(layer(inputs)))
        return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(8)(hidden)))

    assert identity(model([5, 5, 6])) == identity(model([5, 5, 6]))
    assert identity(model([5, 5, 6])) != identity(model([6, 6, 5]))


class Holding(keras.layers.Layer):
    """Keeps a module where Keras does not look."""

    def __init__(self, module, **kwargs):
        super().__init__(**kwargs)
        object.__setattr__(self, "kept", {"module": module})

    def call(self, inputs):
        return inputs

    def get_config(self):
        return {"name": self.name}


def holding(layer):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8)(layer(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def torch_module():
    torch = pytest.importorskip("torch")
    return Holding(torch.nn.Linear(6, 6), name="served")


def closure():
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(6, 6)

    @keras.saving.register_keras_serializable(package="test")
    def call(x):
        return x if net is not None else net(x)

    return keras.layers.Lambda(call, output_shape=(6,), name="served")


def keras_layer():
    hidden = keras.layers.Dense(6)
    hidden.build((None, 6))
    return Holding([hidden], name="served")


def tensorflow_variable():
    tf = pytest.importorskip("tensorflow")
    return Holding(tf.Variable(np.ones(3)), name="served")


def saved_model(folder):
    if BACKEND != "tensorflow":
        pytest.skip("TFSMLayer runs on TensorFlow")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    model.export(str(folder / "served"), verbose=False)
    return keras.layers.TFSMLayer(str(folder / "served"), call_endpoint="serve", name="served")


@pytest.mark.parametrize(
    "make", [torch_module, closure, keras_layer, tensorflow_variable, saved_model]
)
def test_weights_that_keras_cannot_see_need_a_key(make, tmp_path):
    layer = make(tmp_path) if make is saved_model else make()
    distiller = CrossModalDistiller(holding(layer), classifier(4), losses=[KD()])
    x, _ = pairs()
    path = tmp_path / "cache"
    with pytest.raises(ValueError, match="layer 'served'.*Pass `key=`"):
        cache_teacher(distiller, x, path, verbose=0)
    assert not path.exists()
    for _ in range(2):
        for key in ("one", "two"):
            cache_teacher(distiller, x, path, key=key, verbose=0)
    assert len(list(path.iterdir())) == 2
    cache_teacher(distiller, x, verbose=0)  # Memory ends with the process.


@pytest.mark.skipif(BACKEND != "torch", reason="Keras wraps modules of PyTorch there")
def test_modules_that_keras_wraps_are_seen():
    import torch

    def model(change):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8))
        net[1].running_mean += change
        inputs = keras.Input((6,))
        hidden = keras.layers.TorchModuleWrapper(net, output_shape=(None, 8))(inputs)
        keras.utils.set_random_seed(1)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    teacher = model(0.0)
    before = identity(teacher)
    teacher.predict(np.ones((2, 6), "float32"), verbose=0)
    assert identity(teacher) == before == identity(model(0.0))
    assert fingerprint(teacher) == fingerprint(model(1.0))
    assert identity(model(1.0)) != before


def test_teachers_without_a_configuration_need_a_key():
    teacher = holding(Opaque(object()))
    with pytest.raises(ValueError, match="no configuration.*pass `key=`"):
        identity(teacher)
    assert identity(teacher, key="one") != identity(teacher, key="two")
