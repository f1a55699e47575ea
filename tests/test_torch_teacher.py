"""Modules of PyTorch as teachers: read, left as they were, told apart, never saved by accident."""

import collections

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, fingerprint, from_torch
from keras_fdkd.data import cache_teacher
from keras_fdkd.data.hidden_weights import hidden_weights
from keras_fdkd.features import FeatureTap
from keras_fdkd.losses import KD

BACKEND = keras.config.backend()
ON_TORCH = BACKEND == "torch"
if ON_TORCH:
    import torch

    class Output(collections.OrderedDict):
        """What models of Hugging Face return: named, and numbered, without what is missing."""

        def __getattr__(self, name):
            if name not in self:
                raise AttributeError(name)
            return self[name]

        def __getitem__(self, key):
            return super().__getitem__(key) if isinstance(key, str) else list(self.values())[key]

    class Encoder(torch.nn.Module):
        """Token ids and their mask in, as a model of Hugging Face takes them."""

        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(20, 8)
            self.layer = torch.nn.GRU(8, 8, batch_first=True)
            self.drop = torch.nn.Dropout(0.5)
            self.head = torch.nn.Linear(8, 3)
            self.unused = torch.nn.Linear(8, 3)

        def forward(self, input_ids, attention_mask=None):
            assert not input_ids.is_floating_point()
            embedded = self.embed(input_ids)
            hidden = self.drop(self.layer(embedded)[0])
            weight = attention_mask[..., None].to(hidden.dtype)
            pooled = (hidden * weight).sum(1) / weight.sum(1)
            return Output(
                logits=self.head(self.drop(pooled)),
                pooler_output=pooled,
                last_hidden_state=hidden,
                hidden_states=(embedded, hidden),
            )

    def perceptron(seed=0):
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(inplace=True)]
        return torch.nn.Sequential(*layers, torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))


torch_only = pytest.mark.skipif(not ON_TORCH, reason="modules of PyTorch run in Keras there alone")


def tokens(samples=24):
    rng = np.random.default_rng(0)
    mask = np.ones((samples, 5), "int64")
    mask[::2, 3:] = 0
    return {"input_ids": rng.integers(20, size=(samples, 5)), "attention_mask": mask}


@pytest.mark.skipif(ON_TORCH, reason="the other backends")
def test_other_backends_are_told_what_to_do():
    with pytest.raises(ValueError, match=f"record_teacher.*Received: the backend '{BACKEND}'"):
        from_torch(object(), np.ones((2, 6)))


@torch_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_module_gives_what_it_gives_alone(dtype):
    net, x = perceptron(), pairs()[0]["teacher"]
    teacher = from_torch(net, x.astype(dtype), features="1", name="video")
    outputs = FeatureTap(teacher, {"features": None}, "teacher").predict(x, batch_size=7)
    net.eval()
    with torch.no_grad():
        normed = net[1](net[0](torch.tensor(x)))  # before the ReLU that works in place
        np.testing.assert_allclose(outputs["features"], normed, atol=1e-6)
        np.testing.assert_allclose(outputs["predictions"], net(torch.tensor(x)), atol=1e-6)
    assert (outputs["features"] < 0).any()
    assert teacher.name == "video"


@torch_only
def test_training_leaves_the_module_as_it_was():
    net = perceptron()
    net.train()
    net[1].eval()
    net[4].bias.requires_grad = False
    net[0].weight.grad = torch.ones_like(net[0].weight)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [part.training for part in net.modules()]
    needed = [value.requires_grad for value in net.parameters()]
    x, y = pairs()
    teacher = from_torch(net, x["teacher"][:4], features="2")
    distiller = FrequencyDistiller(teacher, classifier(4), extra_losses=[KD()])
    distiller.compile("adam", cross_entropy())
    distiller.trainable = True
    teacher.trainable = True
    distiller.fit(x, y, epochs=2, verbose=0, validation_data=(x, y))
    distiller.predict_teacher(x["teacher"])
    assert modes == [part.training for part in net.modules()]
    assert needed == [value.requires_grad for value in net.parameters()]
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert not teacher.trainable_variables
    assert not any(part._forward_hooks for part in net.modules())


@torch_only
def test_an_error_leaves_the_module_as_it_was():
    net = perceptron()
    net[1].eval()
    modes = [part.training for part in net.modules()]
    teacher = from_torch(net, np.ones((2, 6)), features="2")
    with pytest.raises(RuntimeError):
        teacher(np.ones((2, 5), "float32"))
    assert modes == [part.training for part in net.modules()]
    assert not any(part._forward_hooks for part in net.modules())


@torch_only
@pytest.mark.parametrize(
    ("features", "shape"),
    [
        ("pooler_output", (8,)),
        (1, (8,)),
        ("hidden_states/-1", (5, 8)),
        ("layer/0", (5, 8)),
        ("embed", (5, 8)),
        (None, None),
    ],
)
def test_models_of_hugging_face(features, shape):
    net, ids = Encoder(), tokens()
    teacher = from_torch(net, {name: value[:4] for name, value in ids.items()}, features)
    with torch.no_grad():
        wanted = net.eval()(**{name: torch.tensor(value) for name, value in ids.items()})
    outputs = teacher.predict(ids, verbose=0)
    logits = outputs if features is None else outputs["logits"]
    np.testing.assert_allclose(logits, wanted["logits"], atol=1e-6)
    if features is not None:
        assert outputs["features"].shape == (24, *shape)
        x, y = pairs()
        student = classifier(4, features=8) if len(shape) == 1 else None
        if student is not None:
            distiller = FrequencyDistiller(teacher, student, extra_losses=[KD()])
            distiller.compile("adam", cross_entropy())
            data = {"teacher": ids, "student": x["student"]}
            assert np.isfinite(distiller.fit(data, y, verbose=0).history["loss"]).all()


@torch_only
def test_the_attention_mask_is_the_mask_of_sequences():
    ids = tokens(4)
    tap = FeatureTap(from_torch(Encoder(), ids, "last_hidden_state"), {"features": None}, "teacher")
    assert tap.masks == {"features"}
    mask = tap.predict(ids)["features_mask"]
    np.testing.assert_array_equal(mask[..., 0], ids["attention_mask"] == 1)


@torch_only
def test_several_arguments():
    class Sum(torch.nn.Module):
        def forward(self, a, b):
            return {"logits": a + 2 * b}

    a, b = np.ones((4, 3), "float32"), np.full((4, 3), 3.0, "float32")
    teacher = from_torch(Sum(), (a, b))
    np.testing.assert_allclose(teacher.predict([a, b], verbose=0), a + 2 * b)
    with pytest.raises(ValueError, match="2 arguments. Received: one array"):
        teacher(a)


@torch_only
def test_maps_have_their_channels_last():
    net = torch.nn.Conv2d(3, 8, 1)
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")
    with torch.no_grad():
        wanted = net(torch.tensor(x))
    np.testing.assert_allclose(from_torch(net, x).predict(x, verbose=0), wanted.permute(0, 2, 3, 1))
    kept = from_torch(net, x, data_format="channels_last")
    np.testing.assert_allclose(kept.predict(x, verbose=0), wanted)
    sequences = torch.nn.Conv1d(3, 8, 1)
    x = x[..., 0]
    with torch.no_grad():
        wanted = sequences(torch.tensor(x))
    np.testing.assert_allclose(from_torch(sequences, x).predict(x, verbose=0), wanted)
    moved = from_torch(sequences, x, data_format="channels_first")
    np.testing.assert_allclose(moved.predict(x, verbose=0), wanted.mT)


@torch_only
def test_half_precision_runs_as_it_is():
    net = perceptron().to(torch.bfloat16)
    teacher = from_torch(net, np.ones((2, 6), "float32"), features="2")
    outputs = teacher(np.ones((2, 6), "float32"))
    assert outputs["logits"].dtype == torch.bfloat16
    assert {value.dtype for value in net.parameters()} == {torch.bfloat16}
    assert len(fingerprint(teacher)) == 16


@torch_only
def test_other_weights_have_other_fingerprints():
    x = np.ones((2, 6))
    first, again, other = (from_torch(perceptron(seed), x, features="2") for seed in (0, 0, 1))
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)
    assert hidden_weights(first) is None
    before = fingerprint(first)
    net = first._reader.module
    net[1].running_var *= 2  # a buffer
    assert fingerprint(first) != before
    net.load_state_dict(again._reader.module.state_dict())
    assert fingerprint(first) == before


@torch_only
def test_packed_weights_are_part_of_the_fingerprint():
    class Packed(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

        def get_extra_state(self):
            return {"factor": self.factor}

        def set_extra_state(self, state):
            self.factor = state["factor"]

    x = np.ones((2, 6))
    one, two = (fingerprint(from_torch(Packed(factor), x)) for factor in (1.0, 2.0))
    assert one != two == fingerprint(from_torch(Packed(2.0), x))


@torch_only
def test_a_cache_of_one_module_never_serves_another(tmp_path):
    x, _ = pairs()
    said = []
    nets = [perceptron(0), perceptron(1), perceptron(0)]
    nets.append(torch.nn.Sequential(*nets[0][:2], torch.nn.Tanh(), *nets[0][3:]))  # equal weights
    for net in nets:
        teacher = from_torch(net, x["teacher"][:4], features="2")
        distiller = FrequencyDistiller(teacher, classifier(4))
        cached = cache_teacher(distiller, x, tmp_path, verbose=0)["teacher_outputs"]
        np.testing.assert_allclose(
            cached["features"], distiller.predict_teacher(x["teacher"])["features"], atol=1e-6
        )
        said.append(np.array(cached["features"]))
    assert len(list(tmp_path.iterdir())) == 3
    np.testing.assert_array_equal(said[0], said[2])


@torch_only
def test_saving_the_whole_says_what_to_do(tmp_path):
    x, y = pairs()
    teacher = from_torch(perceptron(), x["teacher"], features="2")
    distiller = FrequencyDistiller(teacher, classifier(4))
    distiller.compile("adam", cross_entropy())
    distiller.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"distiller.student.save\(...\).*save_weights"):
        distiller.save(tmp_path / "whole.keras")
    assert not list(tmp_path.iterdir())
    distiller.student.save(tmp_path / "student.keras")
    distiller.save_weights(tmp_path / "some.weights.h5")
    again = FrequencyDistiller(from_torch(perceptron(), x["teacher"], features="2"), classifier(4))
    again.load_weights(tmp_path / "some.weights.h5")
    for one, two in zip(distiller.student.weights, again.student.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(two))
    other = from_torch(perceptron(1), x["teacher"], features="2")
    with pytest.raises(ValueError, match="teacher"):
        FrequencyDistiller(other, classifier(4)).load_weights(tmp_path / "some.weights.h5")


@torch_only
def test_deriving_shapes_runs_nothing():
    net = perceptron()
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    teacher = from_torch(net, np.ones((2, 6)), features="2")
    FrequencyDistiller(teacher, classifier(4))
    assert len(calls) == 1
    inputs = keras.Input((6,))
    assert keras.Model(inputs, teacher(inputs)).output["features"].shape == (None, 16)
    assert len(calls) == 1


@torch_only
def test_part_of_a_functional_teacher():
    x, y = pairs()
    teacher = from_torch(perceptron(), x["teacher"])
    inputs = keras.Input((6,))
    whole = keras.Model(inputs, teacher(inputs * 2.0))
    distiller = CrossModalDistiller(whole, classifier(4), losses=[KD()])
    distiller.compile("adam", cross_entropy())
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()
    np.testing.assert_allclose(
        whole.predict(x["teacher"], verbose=0),
        teacher.predict(2 * x["teacher"], verbose=0),
        atol=1e-6,
    )


@torch_only
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"module": classifier(6)}, "must be a `torch.nn.Module`"),
        ({"module": "net"}, "must be a `torch.nn.Module`"),
        ({"features": "pol"}, "path of a submodule or an entry"),
        ({"features": 2.5}, "must be the path of a submodule"),
        ({"features": 9}, "names no entry"),
        ({"features": "unused"}, "ran not at all"),
        ({"features": "drop"}, "ran 2 times"),
        ({"features": "layer"}, "must name one tensor.*tuple of 2"),
        ({"features": "hidden_states"}, "behind a slash"),
        ({"features": "hidden_states/7"}, "names no entry"),
        ({"logits": "hidden_states"}, "must name one tensor"),
        ({"data_format": "NCHW"}, "`data_format` must be one of"),
        ({"name": 3}, "`name` must be a non-empty string"),
        ({"example": {"input_ids": np.ones((2, 5), "int64")}}, "could not run on `example`"),
        ({"example": np.ones((2, 5))}, "could not run on `example`"),
        ({"example": {**tokens(4), "attention_mask": np.ones((3, 5))}}, "as many rows"),
        ({"example": {"input_ids": np.array(["a", "b"])}}, "must be arrays of numbers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_torch(**{"module": Encoder(), "example": tokens(4), **arguments})


@torch_only
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: (x, x), r'none of them is named "logits".*logits=0'),
        (lambda x: {"out": x}, 'none of them is named "logits"'),
        (lambda x: x.T, "a row for each sample"),
        (lambda x: x.argmax(-1), "tensor of floats"),
        (lambda x: x.sum(), "a row for each sample"),
        (lambda x: {"logits": x, "body": x}, None),
    ],
)
def test_outputs_that_cannot_be_read(function, message):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Identity()

        def forward(self, x):
            return function(self.body(x))

    if message is None:
        with pytest.raises(ValueError, match="which is both"):
            from_torch(Own(), np.ones((4, 6)), features="body")
        return
    with pytest.raises(ValueError, match=message):
        from_torch(Own(), np.ones((4, 6)))


@torch_only
def test_modules_without_values_are_refused():
    with pytest.raises(ValueError, match="parameters without values"):
        from_torch(torch.nn.LazyLinear(3), np.ones((2, 6)))


@torch_only
def test_a_module_that_got_other_parameters_is_refused():
    net = perceptron()
    teacher = from_torch(net, np.ones((2, 6)))
    net[4] = torch.nn.Linear(16, 3)
    with pytest.raises(ValueError, match="got other parameters"):
        teacher(np.ones((2, 6), "float32"))


@torch_only
def test_distillers_say_how_to_wrap_a_module():
    with pytest.raises(ValueError, match=r"keras_fdkd.from_torch\(module, example\)"):
        CrossModalDistiller(perceptron(), classifier(4), losses=[KD()])
    teacher = from_torch(perceptron(), np.ones((2, 6)))
    for where in (None, "1"):
        with pytest.raises(ValueError, match=r"from_torch\(module, example, features=...\)"):
            FrequencyDistiller(teacher, classifier(4), teacher_features=where)
    with pytest.raises(ValueError, match="the student must be a model of Keras"):
        FrequencyDistiller(classifier(6), teacher)
    wrapper = keras.layers.TorchModuleWrapper(perceptron())
    sequential = keras.Sequential([keras.Input((6,)), wrapper])
    with pytest.raises(ValueError, match=r"such as\s+`\(None, 3\)`, or use `keras_fdkd.from_torch"):
        FrequencyDistiller(sequential, classifier(4))
