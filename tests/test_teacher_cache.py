"""The teacher runs once: the same training, from memory or files that are never stale or torn."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.data import cache_teacher
from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.fingerprints import row_keys
from keras_fdkd.losses import KD


class Shuffled(keras.utils.PyDataset):
    """Batches of eight in a new order every epoch, the last one partial."""

    def __init__(self, x, y, seed=0):
        super().__init__()
        self.x, self.y = x, y
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.y) // 8)

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.y))

    def __getitem__(self, step):
        rows = self.order[8 * step : 8 * step + 8]
        return {side: values[rows] for side, values in self.x.items()}, self.y[rows]


def distiller(seed=0, **options):
    keras.utils.set_random_seed(seed)
    losses = {"extra_losses": [KD()], **options}
    made = FrequencyDistiller(classifier(6, batch_norm=True), classifier(4, batch_norm=True),
                              **losses)  # fmt: skip
    made.compile("adam", loss=cross_entropy())
    return made


def as_tf_data(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(20, seed=1).batch(8)


def as_loader(x, y):
    torch = pytest.importorskip("torch")
    samples = [({side: x[side][i] for side in x}, y[i]) for i in range(len(y))]
    generator = torch.Generator().manual_seed(0)
    return torch.utils.data.DataLoader(samples, 8, shuffle=True, generator=generator)


def as_arrays(x, y):
    return x


def as_py_dataset(x, y):
    return Shuffled(x, y)


KINDS = [as_arrays, as_py_dataset, as_tf_data, as_loader]


def fit(model, data, y):
    arrays = isinstance(data, dict)
    keras.utils.set_random_seed(1)
    return model.fit(
        data, y if arrays else None, epochs=2, batch_size=8 if arrays else None,
        shuffle=arrays, verbose=0,
    ).history  # fmt: skip


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("with_index", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_training(kind, with_index, on_disk, tmp_path):
    x, y = pairs(samples=22)
    if with_index:
        x["index"] = np.arange(22)
    models = [distiller(), distiller()]
    cached = cache_teacher(models[1], kind(x, y), tmp_path if on_disk else None, verbose=0)
    # The pass of the cache drew an order of its own.
    if kind is as_loader:
        cached.generator.manual_seed(0)
    elif kind is as_py_dataset:
        cached.data.rng = np.random.default_rng(0)
        cached.data.on_epoch_end()
    plain = kind(x, y)
    if kind is as_tf_data:  # The order of a second pass differs from that of the first.
        list(plain)

    def run(*args, **kwargs):
        raise AssertionError("the teacher ran")

    models[1].teacher.call = run
    models[1]._run_teacher = run
    histories = [fit(model, data, y) for model, data in zip(models, (plain, cached), strict=True)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def count_batches(model, monkeypatch, stop_at=None):
    """Count the batches that the teacher runs, and stop it at one of them."""
    seen = []
    original = model._teacher_tap.predict_on_batch

    def predict(inputs):
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(1)
        return original(inputs)

    monkeypatch.setattr(model._teacher_tap, "predict_on_batch", predict)
    return seen


@pytest.mark.parametrize("kind", [as_arrays, as_py_dataset])
def test_files_are_used_again(kind, tmp_path, monkeypatch):
    x, y = pairs()
    model = distiller()
    first = cache_teacher(model, kind(x, y), tmp_path, batch_size=8, verbose=0)
    seen = count_batches(model, monkeypatch)
    again = cache_teacher(model, kind(x, y), tmp_path, batch_size=8, verbose=0)
    assert not seen
    outputs = [data["teacher_outputs"] if kind is as_arrays else data.function.store.arrays
               for data in (first, again)]  # fmt: skip
    for name, values in outputs[0].items():
        assert isinstance(values, np.memmap)
        np.testing.assert_array_equal(outputs[1][name], values)


def changed_weights():
    model = distiller()
    kernel = model.teacher.layers[0].kernel
    kernel.assign(ops.convert_to_numpy(kernel) * np.float32(1 + 1e-6))
    return model, {}


def changed_tap():
    return distiller(teacher_features="feature", student_features="feature"), {}


def changed_dtype():
    return distiller(), {"dtype": "float16"}


def changed_configuration():
    model = distiller()
    teacher = classifier(6, batch_norm=True)
    teacher.set_weights(model.teacher.get_weights())
    teacher.get_layer("pool").activation = keras.activations.tanh
    changed = FrequencyDistiller(
        keras.models.clone_model(teacher), model.student, extra_losses=[KD()]
    )
    changed.teacher.set_weights(teacher.get_weights())
    return changed, {}


@pytest.mark.parametrize(
    "change", [changed_weights, changed_tap, changed_dtype, changed_configuration]
)
def test_nothing_stale(change, tmp_path, monkeypatch):
    x, _ = pairs()
    cache_teacher(distiller(), x, tmp_path, verbose=0)
    model, options = change()
    seen = count_batches(model, monkeypatch)
    cached = cache_teacher(model, x, tmp_path, verbose=0, **options)
    assert len(seen) == 1
    expected = model.predict_teacher(x["teacher"])
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if options else {"rtol": 1e-6, "atol": 1e-6}
    for name, values in expected.items():
        np.testing.assert_allclose(cached["teacher_outputs"][name], values, **tolerance)


def test_other_inputs_of_a_data_set_are_refused(tmp_path):
    x, y = pairs()
    x["index"] = np.arange(24)
    model = distiller()
    cache_teacher(model, Shuffled(x, y), tmp_path, verbose=0)
    with pytest.raises(ValueError, match="`path` holds outputs for other inputs of the teacher"):
        cache_teacher(model, Shuffled({**x, "teacher": x["teacher"] + 1}, y), tmp_path, verbose=0)


def test_changed_inputs_are_not_stale(tmp_path):
    x, _ = pairs()
    model = distiller()
    cache_teacher(model, x, tmp_path, verbose=0)
    x["teacher"] = x["teacher"].copy()
    x["teacher"][5, 2] += 1e-6
    cached = cache_teacher(model, x, tmp_path, verbose=0)
    features = model.predict_teacher(x["teacher"])["features"]
    np.testing.assert_allclose(cached["teacher_outputs"]["features"], features, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("tail", [b"", b"torn"])
@pytest.mark.parametrize("kind", [as_arrays, as_py_dataset])
def test_a_killed_pass_goes_on(kind, tail, size, tmp_path, monkeypatch):
    x, y = pairs()
    model = distiller()
    with monkeypatch.context() as patch:
        count_batches(model, patch, stop_at=2)
        with pytest.raises(KeyboardInterrupt):
            cache_teacher(model, kind(x, y), tmp_path, batch_size=8, verbose=0)
    (folder,) = tmp_path.iterdir()
    assert not OutputStore(folder).is_complete
    with (folder / "features.bin").open("ab") as file:
        file.write(tail)
    seen = count_batches(model, monkeypatch)
    cached = cache_teacher(model, kind(x, y), tmp_path, batch_size=size, verbose=0)
    assert len(seen) == 1
    assert (folder / "keys.bin").stat().st_size == 24 * 8
    expected = model.predict_teacher(x["teacher"])
    if kind is as_arrays:
        outputs = cached["teacher_outputs"]
    else:
        outputs = cached.function.store.take(row_keys(x["student"]))
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-6)


def test_half_precision_trains_alike(tmp_path):
    x, y = pairs()
    models = [distiller(), distiller()]
    cached = cache_teacher(models[1], x, tmp_path, dtype="float16", verbose=0)
    assert cached["teacher_outputs"]["features"].dtype == "float16"
    histories = [fit(model, data, y) for model, data in zip(models, (x, cached), strict=True)]
    np.testing.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=2e-3)


def test_half_precision_has_a_range():
    x, _ = pairs()
    x["teacher"] *= 1e7
    with pytest.raises(ValueError, match="leaves the range of `dtype`"):
        cache_teacher(distiller(), x, dtype="float16", verbose=0)


def test_workers_that_live_on():
    torch = pytest.importorskip("torch")
    x, y = pairs()
    samples = [({side: x[side][i] for side in x}, y[i]) for i in range(len(y))]
    # Not forked: backends run threads, whose locks a forked worker would wait for.
    loader = torch.utils.data.DataLoader(
        samples, 8, num_workers=1, persistent_workers=True, multiprocessing_context="spawn"
    )
    cached = cache_teacher(distiller(), loader, verbose=0)
    for _ in range(2):
        batches = [batch for batch, _ in cached]
        assert all(sorted(batch) == ["student", "teacher_outputs"] for batch in batches)


def test_processes_share_a_path(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_teacher_cache import cache_teacher, distiller, pairs\n"
        "x, _ = pairs()\n"
        "cached = cache_teacher(distiller(), x, sys.argv[1], batch_size=2, verbose=0)\n"
        "print(cached['teacher_outputs']['features'].sum())"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(tmp_path), str(here), str(here.parent)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(2)
    ]
    sums = [process.communicate()[0].split()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sums[0] == sums[1]
    (folder,) = tmp_path.iterdir()
    assert (folder / "keys.bin").stat().st_size == 24 * 8


def test_stores_travel_to_workers(tmp_path):
    x, y = pairs()
    cached = cache_teacher(distiller(), as_py_dataset(x, y), tmp_path, verbose=0)
    sent = pickle.dumps(cached.function.store)
    assert len(sent) < 500
    keys = row_keys(x["student"])
    again = pickle.loads(sent)
    np.testing.assert_array_equal(
        again.take(keys)["features"], cached.function.store.take(keys)["features"]
    )


def test_augmented_students_need_an_index():
    x, y = pairs()
    cached = cache_teacher(distiller(), Shuffled(x, y), verbose=0)
    cached.data.x = {**x, "student": x["student"] + 1}
    with pytest.raises(ValueError, match='add `"index"`'):
        cached[0]


def test_twins_need_an_index(tmp_path):
    x, y = pairs()
    x["student"][1] = x["student"][0]
    for _ in range(2):  # Nor later.
        with pytest.raises(ValueError, match='add `"index"`'):
            cache_teacher(distiller(), Shuffled(x, y), tmp_path, verbose=0)
    x["index"] = np.arange(24)
    cache_teacher(distiller(), Shuffled(x, y), verbose=0)
    x["teacher"][1] = x["teacher"][0]  # Real twins are no contradiction.
    del x["index"]
    cache_teacher(distiller(), Shuffled(x, y), verbose=0)


def joint():
    return C2KDDistiller(classifier(6), classifier(4))


@pytest.mark.parametrize(
    ("make", "data", "options", "message"),
    [
        (distiller, [1, 2], {}, "`data` must be a"),
        (distiller, {"student": np.ones((4, 4))}, {}, "`data` must be a"),
        (distiller, pairs()[0], {"dtype": "int8"}, "`dtype` must be"),
        (joint, pairs()[0], {}, "whose teacher is a frozen"),
        (lambda: classifier(4), pairs()[0], {}, "`distiller` must be a `CrossModalDistiller`"),
    ],
)
def test_arguments(make, data, options, message):
    with pytest.raises(ValueError, match=message):
        cache_teacher(make(), data, verbose=0, **options)


def test_data_sets_must_end():
    class Endless(Shuffled):
        num_batches = None

    with pytest.raises(ValueError, match="must have an end"):
        cache_teacher(distiller(), Endless(*pairs()), verbose=0)


def test_only_what_is_read():
    x, _ = pairs()
    model = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    assert list(cache_teacher(model, x, verbose=0)["teacher_outputs"]) == ["predictions"]


def test_row_keys_tell_rows_apart():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 4, size=(50_000, 9)).astype("float32") / 4
    unique = np.unique(rows, axis=0)
    assert len(np.unique(row_keys({"a": rows[:, :4], "b": [rows[:, 4:]]}))) == len(unique)
    assert (row_keys(rows) == row_keys(rows.copy(order="F"))).all()
    assert (row_keys(rows[:, :4]) != row_keys(rows[:, ::-1][:, :4])).any()
