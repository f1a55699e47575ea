"""What a teacher of any kind said, in files."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import FrequencyDistiller
from keras_fdkd.data import open_recorded, record_teacher
from keras_fdkd.features import FeatureTap

HAS_TORCH = importlib.util.find_spec("torch") is not None
X = np.random.default_rng(0).normal(size=(23, 6)).astype("float32")


def batches(x=X, size=5):
    return [x[start : start + size] for start in range(0, len(x), size)]


def said(batch):
    return {"features": batch[:, :4] * 2, "logits": batch[:, :3]}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("lazy", [False, True])
def test_a_function(tmp_path, lazy, capsys):
    data = iter(batches()) if lazy else batches()
    recorded = record_teacher(said, data, tmp_path / "a" / "b")
    assert "5/" in capsys.readouterr().out
    assert all(isinstance(array, np.memmap) for array in recorded.values())
    for name, wanted in said(X).items():
        np.testing.assert_array_equal(recorded[name], wanted)
        np.testing.assert_array_equal(np.load(tmp_path / "a" / "b" / f"{name}.npy"), wanted)
        np.testing.assert_array_equal(open_recorded(tmp_path / "a" / "b")[name], wanted)
    assert files(tmp_path / "a") == ["b"]


def test_outputs_may_have_any_name(tmp_path):
    names = ["layer:a/head", "Features", "features", "con", "../up", "recorded.json"]
    folder = tmp_path / "t"
    record_teacher(lambda x: dict.fromkeys(names, x), batches(), folder, verbose=0)
    assert sorted(open_recorded(folder)) == sorted(names)
    assert len(files(folder)) == len(names) + 1
    assert files(tmp_path) == ["t"]


def test_arrays_of_the_backend(tmp_path):
    def teacher(batch):
        batch = ops.convert_to_tensor(batch)
        return {
            "half": ops.cast(batch, "bfloat16"),
            "logits": batch,
            "count": ops.ones((5,), "int32"),
        }

    recorded = record_teacher(teacher, batches(X[:20]), tmp_path / "t", verbose=0)
    assert {name: array.dtype.name for name, array in recorded.items()} == {
        "half": "float32", "logits": "float32", "count": "int32",
    }  # fmt: skip
    wanted = ops.convert_to_numpy(ops.cast(ops.cast(X[:20], "bfloat16"), "float32"))
    np.testing.assert_array_equal(recorded["half"], wanted)


def test_a_keras_model(tmp_path):
    model = classifier(6)
    recorded = record_teacher(model, batches(), tmp_path / "t", verbose=0)
    wanted = FeatureTap(model, {"features": None}, "teacher").predict(X)
    np.testing.assert_allclose(recorded["features"], wanted["features"], atol=1e-6)
    np.testing.assert_allclose(recorded["logits"], wanted["predictions"], atol=1e-6)
    named = record_teacher(model, batches(), tmp_path / "u", features="feature", verbose=0)
    assert (named["features"] < 0).any()


def test_masks_are_recorded(tmp_path):
    ids = keras.Input((3,), dtype="int32")
    hidden = keras.layers.Embedding(9, 6, mask_zero=True, name="embed")(ids)
    pooled = keras.layers.GlobalAveragePooling1D()(hidden)
    model = keras.Model(ids, keras.layers.Dense(3)(pooled))
    data = [np.array([[1, 2, 0], [3, 0, 0]])]
    recorded = record_teacher(model, data, tmp_path / "t", features="embed", verbose=0)
    np.testing.assert_array_equal(recorded["features_mask"][..., 0], data[0] > 0)


def test_training_on_what_was_recorded(tmp_path):
    x, y = pairs()
    teacher = classifier(6)
    folder = tmp_path / "teacher"
    recorded = record_teacher(teacher, batches(x["teacher"]), folder, verbose=0)

    def trained(outputs):
        keras.utils.set_random_seed(1)
        distiller = FrequencyDistiller(teacher, classifier(4))
        distiller.compile("adam", cross_entropy())
        return distiller.fit({"student": x["student"], **outputs}, y, verbose=0).history

    for outputs in (recorded, open_recorded(folder)):
        one, two = trained({"teacher_outputs": outputs}), trained({"teacher": x["teacher"]})
        for name in one:
            np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch, with any backend of Keras")
def test_a_module_of_torch_on_every_backend(tmp_path):
    import torch

    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5)]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(8, 3)).train()
    data = torch.utils.data.DataLoader(torch.tensor(X), batch_size=5)
    recorded = record_teacher(net, data, tmp_path / "t", features="1", verbose=0)
    assert net.training
    assert net[2].training
    assert not net[1].num_batches_tracked
    with torch.no_grad():
        net.eval()
        np.testing.assert_allclose(recorded["logits"], net(torch.tensor(X)), atol=1e-6)
        np.testing.assert_allclose(recorded["features"], net[:2](torch.tensor(X)), atol=1e-6)
    by_array = record_teacher(net, batches(), tmp_path / "u", features="1", verbose=0)
    np.testing.assert_allclose(by_array["features"], recorded["features"], atol=1e-6)
    half = record_teacher(net.to(torch.bfloat16), batches(), tmp_path / "v", verbose=0)
    assert half["logits"].dtype == "float32"
    assert sorted(half) == ["logits"]


def test_what_is_there_is_not_replaced(tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir()  # An empty one is fine.
    record_teacher(said, batches(), folder, verbose=0)
    with pytest.raises(ValueError, match="open_recorded.*overwrite=True"):
        record_teacher(said, batches(), folder, verbose=0)
    again = record_teacher(said, batches(X[:7]), folder, overwrite=True, verbose=0)
    assert len(again["logits"]) == 7
    assert files(tmp_path) == ["teacher"]
    for overwrite in (False, True):
        other = tmp_path / f"other{overwrite}"
        other.mkdir()
        (other / "thesis.txt").write_text("mine")
        with pytest.raises(ValueError, match="holds something else"):
            record_teacher(said, batches(), other, overwrite=overwrite, verbose=0)
        assert files(other) == ["thesis.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_error_leaves_what_was_there(tmp_path, overwrite):
    folder = tmp_path / "teacher"
    if overwrite:
        record_teacher(said, batches(X[:7]), folder, verbose=0)

    def broken():
        yield X[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_teacher(said, broken(), folder, overwrite=overwrite, verbose=0)
    assert files(tmp_path) == (["teacher"] if overwrite else [])
    if overwrite:
        assert len(open_recorded(folder)["logits"]) == 7


@pytest.mark.parametrize(
    ("teacher", "data", "arguments", "message"),
    [
        ("net", batches(), {}, "`teacher` must be"),
        (said, X, {}, "iterable of batches"),
        (said, {"a": X}, {}, "iterable of batches"),
        (said, 3, {}, "iterable of batches"),
        (said, [], {}, "at least one batch"),
        (said, batches(), {"features": "hid"}, "names its outputs itself.*features='hid'"),
        (said, batches(), {"overwrite": 1}, "`overwrite` must be"),
        (said, batches(), {"folder": ""}, "`folder` must be"),
        (lambda x: x, batches(), {}, "must return a dict.*in batch 0"),
        (lambda x: {}, batches(), {}, "must return a dict"),
        (lambda x: {"logits": x[:1]}, batches(), {}, "a row for each sample"),
        (lambda x: {"logits": x.sum()}, batches(), {}, "a row for each sample"),
        (lambda x: {"logits": x, "features": x[1:]}, batches(), {}, "a row for each sample"),
        (lambda x: {"logits": x[:, : len(x)]}, batches(), {}, "must have one shape"),
        (lambda x: {f"out{len(x)}": x}, batches(), {}, "the same outputs"),
        (lambda x: {"logits": x / 0}, batches(), {}, "must be finite.*'logits' of batch 0"),
        (lambda x: {"logits": np.array(["a"] * len(x))}, batches(), {}, "arrays of numbers"),
        (classifier(6), batches(), {"logits": "head"}, "are of modules of PyTorch"),
        (classifier(6), batches(), {"features": "pol"}, "no layer 'pol'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_wrong_arguments(tmp_path, teacher, data, arguments, message):
    with pytest.raises(ValueError, match=message):
        record_teacher(teacher, data, **{"folder": tmp_path / "t", "verbose": 0, **arguments})
    assert files(tmp_path) == []


def test_data_sets_and_several_outputs_are_told_apart(tmp_path):
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, step):
            return X[:4], X[:4]

    with pytest.raises(ValueError, match=r"data\[i\]\[0\] for i in range\(data.num_batches\)"):
        record_teacher(said, Data(), tmp_path / "t", verbose=0)
    model = classifier(6)
    several = keras.Model(model.inputs[0], {"a": model.outputs[0], "b": model.outputs[0]})
    with pytest.raises(ValueError, match="one output.*pass a function"):
        record_teacher(several, batches(), tmp_path / "t", features="pool", verbose=0)


def test_damaged_files_are_found(tmp_path):
    folder = tmp_path / "teacher"
    with pytest.raises(ValueError, match="`record_teacher` wrote to the end"):
        open_recorded(folder)
    record_teacher(said, batches(), folder, verbose=0)
    marks = folder / "recorded.json"
    text = marks.read_text()
    for wrong in ("{", "[]", json.dumps({"rows": 3})):
        marks.write_text(wrong)
        with pytest.raises(ValueError, match="`record_teacher` wrote to the end"):
            open_recorded(folder)
    marks.write_text(text)
    path = folder / "logits.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"missing or damaged.*logits.npy"):
        open_recorded(folder)
    np.save(path, X[:3])
    with pytest.raises(ValueError, match="3 of 23 rows"):
        open_recorded(folder)
    path.unlink()
    with pytest.raises(ValueError, match="missing or damaged"):
        open_recorded(folder)
