"""A cache on disk lives long: it grows, inputs change, files break, data lose a side."""

import json
import os

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from test_teacher_cache import Shuffled, as_loader, as_tf_data, count_batches, distiller

from keras_fdkd import CrossModalDistiller
from keras_fdkd.data import cache_teacher, checked
from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.data.row_files import RowFiles
from keras_fdkd.data.row_index import RowIndex
from keras_fdkd.fingerprints import row_keys
from keras_fdkd.losses import PKD

BACKEND = keras.config.backend()


class Batches(keras.utils.PyDataset):
    """Batches of four in order; `noise` adds to what the teacher sees, anew at each reading."""

    def __init__(self, x, y, noise=0.0):
        super().__init__()
        self.x, self.y, self.noise = x, y, noise
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return -(-len(self.y) // 4)

    def __getitem__(self, step):
        rows = slice(4 * step, 4 * step + 4)
        x = {side: values[rows] for side, values in self.x.items()}
        if self.noise:
            noise = self.rng.normal(size=x["teacher"].shape).astype("float32")
            x["teacher"] = x["teacher"] + self.noise * noise
        return x, self.y[rows]


def features(cached):
    return np.concatenate([batch[0]["teacher_outputs"]["features"] for batch in cached])


def numbered(samples=24, seed=0, start=0):
    x, y = pairs(samples, seed=seed)
    return {**x, "index": np.arange(start, start + samples)}, y


def joined(*parts):
    return {side: np.concatenate([part[side] for part in parts]) for side in parts[0]}


def expected(model, x):
    return model.predict_teacher(x["teacher"])["features"]


def only_folder(path):
    (folder,) = path.iterdir()
    return folder


# It grows.


@pytest.mark.parametrize("with_index", [False, True])
def test_validation_data_may_share_a_path(with_index, tmp_path):
    x, y = numbered()
    other, labels = numbered(8, seed=1, start=24)
    if not with_index:
        del x["index"], other["index"]
    model = distiller()
    train = cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    validation = cache_teacher(model, Batches(other, labels), tmp_path, verbose=0)
    assert len(list(tmp_path.iterdir())) == 1
    model.fit(train, validation_data=validation, verbose=0)
    np.testing.assert_allclose(features(validation), expected(model, other), atol=1e-5)


@pytest.mark.parametrize("with_index", [False, True])
def test_only_what_is_new_runs(with_index, tmp_path, monkeypatch):
    x, y = numbered()
    more, labels = numbered(8, seed=1, start=24)
    if not with_index:
        del x["index"], more["index"]
    model = distiller()
    cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    seen = count_batches(model, monkeypatch)
    whole = joined(x, more), np.concatenate([y, labels])
    cached = cache_teacher(model, Batches(*whole), tmp_path, verbose=0)
    assert len(seen) == 2
    np.testing.assert_allclose(features(cached), expected(model, whole[0]), atol=1e-5)
    # An order of its own, and a sample that takes the place of another one.
    whole[0]["teacher"][20] += 1
    whole[0]["student"][20] += 1
    if with_index:
        whole[0]["index"][20] = 99
    cached = cache_teacher(model, Batches(*whole), tmp_path, verbose=0)
    with pytest.raises(ValueError, match="call `cache_teacher` again"):
        features(cached)
    cached = cache_teacher(model, Batches(*whole), tmp_path, verbose=0)
    assert len(seen) == 3
    np.testing.assert_allclose(features(cached), expected(model, whole[0]), atol=1e-5)


def test_an_opened_cache_reads_one_batch(tmp_path):
    x, y = numbered()
    model = distiller()
    cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    read = []

    class Counted(Batches):
        def __getitem__(self, step):
            read.append(step)
            return super().__getitem__(step)

    cache_teacher(model, Counted(x, y), tmp_path, verbose=0)
    assert read == [0]


def test_other_data_of_the_same_size_are_read(tmp_path):
    """As many batches of the same size: the first samples are known, later ones are not."""
    model = distiller()
    x, y = numbered(24)
    cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    more, _ = numbered(48, seed=1)
    order = [*range(4, 8), *range(24, 44)]
    mixed = {side: np.concatenate([x[side], more[side][24:]])[order] for side in x}
    cached = cache_teacher(model, Batches(mixed, np.zeros(24, "int32")), tmp_path, verbose=0)
    found = np.concatenate([cached[step][0]["teacher_outputs"]["features"] for step in range(6)])
    np.testing.assert_allclose(found, expected(model, mixed), rtol=1e-5, atol=1e-6)


def test_real_twins_run_once(tmp_path):
    x, y = pairs()
    x = joined(x, x)
    model = distiller()
    cached = cache_teacher(model, Batches(x, np.tile(y, 2)), tmp_path, verbose=0)
    assert len(cached.function.store.keys) == 24
    np.testing.assert_allclose(features(cached), expected(model, x), atol=1e-5)


# Samples that cannot be told apart.


def test_going_on_after_a_kill_finds_twins(tmp_path, monkeypatch):
    x, y = numbered()
    x["student"][20] = x["student"][1]
    index = x.pop("index")
    model = distiller()
    with monkeypatch.context() as patch:
        count_batches(model, patch, stop_at=1)
        with pytest.raises(KeyboardInterrupt):
            cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    with pytest.raises(ValueError, match='add `"index"`'):
        cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    x["index"] = index  # The advice helps, at the same path.
    cached = cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    np.testing.assert_allclose(features(cached), expected(model, x), atol=1e-5)


# Inputs change.


@pytest.mark.parametrize("kind", [Batches, Shuffled, as_tf_data, as_loader])
@pytest.mark.parametrize("row", [0, 20])
def test_a_changed_sample_is_noticed(kind, row, tmp_path):
    x, y = numbered()
    model = distiller()
    cache_teacher(model, kind(x, y), tmp_path, verbose=0)
    x["teacher"] = x["teacher"].copy()
    x["teacher"][row] += 10
    for _ in range(2):
        with pytest.raises(Exception, match="outputs for other inputs of the teacher"):
            for _ in cache_teacher(model, kind(x, y), tmp_path, verbose=0):
                pass
    # From then on when it is opened.
    with pytest.raises(ValueError, match="outputs for other inputs of the teacher"):
        cache_teacher(model, kind(x, y), tmp_path, verbose=0)
    x["index"][row] = 99
    cache_teacher(model, kind(x, y), tmp_path, verbose=0)


def test_augmentation_of_the_teacher_is_frozen(tmp_path):
    x, y = numbered()
    model = distiller()
    data = Batches(x, y, noise=1.0)
    first = features(cache_teacher(model, data, tmp_path, verbose=0))
    for augmented in (False, True):
        cached = cache_teacher(model, data, tmp_path, augmented=augmented, verbose=0)
        for _ in range(2):
            np.testing.assert_array_equal(features(cached), first)


def test_augmentation_of_iterables_is_frozen(tmp_path):
    torch = pytest.importorskip("torch")
    x, y = numbered()

    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, i):
            noise = np.random.normal(size=6).astype("float32")  # noqa: NPY002
            sides = {side: values[i] for side, values in x.items()}
            return {**sides, "teacher": sides["teacher"] + noise}, y[i]

    model = distiller()
    loader = torch.utils.data.DataLoader(Noisy(), 8, shuffle=True)
    kept = [cache_teacher(model, loader, tmp_path, verbose=0) for _ in range(2)]
    stores = [cached.collate_fn.function.store for cached in kept]
    np.testing.assert_array_equal(stores[0].arrays["features"], stores[1].arrays["features"])
    assert sum(len(labels) for _, labels in kept[1]) == 24


# The data lose a side.


@pytest.mark.parametrize("kind", [Batches, as_tf_data, as_loader, lambda x, y: x])
def test_the_teachers_inputs_may_be_left_out(kind, tmp_path):
    x, y = numbered()
    model = distiller()
    cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    alone = {side: x[side] for side in ("student", "index")}
    cached = cache_teacher(model, kind(alone, y), tmp_path, verbose=0)
    if isinstance(cached, dict):
        np.testing.assert_allclose(
            cached["teacher_outputs"]["features"], expected(model, x), atol=1e-5
        )
        model.fit(cached, y, verbose=0)
    else:
        assert "loss" in model.fit(cached, shuffle=False, verbose=0).history
    alone["index"] = alone["index"] + 100
    with pytest.raises(ValueError, match=r"`cache_teacher` first .* the first: index \[1\d\d, "):
        cache_teacher(model, kind(alone, y), tmp_path, verbose=0)
    with pytest.raises(ValueError, match="`cache_teacher` first .*path=None"):
        cache_teacher(model, kind(alone, y), verbose=0)


# Files.


def damaged(how):
    def damage(folder):
        file = folder / "features.bin"
        data = file.read_bytes()
        if how == "cut":
            os.truncate(file, len(data) - 64)
        elif how == "row of zeros":
            file.write_bytes(data[:-64] + bytes(64))
        elif how == "other order":
            file.write_bytes(data[64:] + data[:64])
        elif how == "gone":
            file.unlink()
        elif how == "no keys":
            os.truncate(folder / "keys.bin", 0)
        elif how == "other keys":
            (folder / "keys.bin").write_bytes(bytes(24 * 8))
        elif how == "torn spec":
            (folder / "spec.json").write_text('{"feat')
        elif how == "other spec":
            spec = json.loads((folder / "spec.json").read_text())
            spec["features"][1] = "int32"
            (folder / "spec.json").write_text(json.dumps(spec))
        elif how == "foreign spec":
            (folder / "spec.json").write_text('{"/etc/host.conf#": [[1], "uint8"]}')
        elif how == "torn word":
            (folder / "complete.json").write_text('{"rows": ')
        elif how == "other word":
            (folder / "complete.json").write_text('{"rows": "24"}')

    return damage


DAMAGE = ["cut", "row of zeros", "other order", "gone", "no keys", "other keys", "torn spec",
          "other spec", "foreign spec", "torn word", "other word"]  # fmt: skip


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_files_are_named(how, arrays, tmp_path):
    x, y = pairs()
    model = distiller()
    data = x if arrays else Batches(x, y)
    cache_teacher(model, data, tmp_path, verbose=0)
    folder = only_folder(tmp_path)
    damaged(how)(folder)
    file = "json" if "spec" in how or "word" in how else "bin"
    with pytest.raises(ValueError, match=rf"damaged. Delete the folder '{folder}'.*\.{file}"):
        for _ in cache_teacher(model, data, tmp_path, verbose=0):
            pass


@pytest.mark.parametrize("how", ["cut", "row of zeros"])
def test_rows_before_the_damage_are_kept(how, tmp_path, monkeypatch):
    x, y = pairs()
    model = distiller()
    cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    folder = only_folder(tmp_path)
    damaged(how)(folder)
    (folder / "complete.json").unlink()
    seen = count_batches(model, monkeypatch)
    cached = cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    assert len(seen) == 1
    np.testing.assert_allclose(features(cached), expected(model, x), atol=1e-5)


def test_read_only_storage(tmp_path, monkeypatch):
    x, y = numbered()
    model = distiller()
    cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    folder = only_folder(tmp_path)
    names = sorted(path.name for path in folder.iterdir())

    def locked(self):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(RowFiles, "locked", locked)
    folder.chmod(0o500)
    try:
        cached = cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
        np.testing.assert_allclose(features(cached), expected(model, x), atol=1e-5)
        x["index"] += 100
        with pytest.raises(ValueError, match="cannot be written to.*Read-only"):
            cache_teacher(model, Shuffled(x, y), tmp_path, verbose=0)
    finally:
        folder.chmod(0o700)
    assert sorted(path.name for path in folder.iterdir()) == names


@pytest.mark.parametrize(
    "name", ["backbone/pool", "../../up", "Pool", "pool", "keys", "a b:c*", "é" * 200]
)
def test_any_name_is_a_file(name, tmp_path):
    store = OutputStore(tmp_path / "inner", [name, "other"])
    keys = np.arange(3, dtype="uint64")
    values = np.arange(6.0).reshape(3, 2)
    with store.writing():
        store.append(keys, keys, {name: values, "other": keys})
        store.complete()
    again = OutputStore(tmp_path / "inner", ["other", name])
    again.open()
    np.testing.assert_array_equal(again.take(keys[::-1])[name], values[::-1])
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    low = [path.name.lower() for path in (tmp_path / "inner").iterdir()]
    assert len(low) == len(set(low)) == 8


def test_layers_of_nested_models(tmp_path):
    def nested(size):
        body = keras.Sequential(
            [keras.Input((size,)), keras.layers.Dense(16, "relu", name="pool")], name="backbone"
        )
        inputs = keras.Input((size,))
        return keras.Model(inputs, keras.layers.Dense(3)(body(inputs)))

    loss = PKD(teacher_layer_name="backbone/pool", student_layer_name="backbone/pool")
    model = CrossModalDistiller(nested(6), nested(4), losses=[loss])
    model.compile("adam", cross_entropy())
    x, y = pairs()
    histories = []
    for path in (None, tmp_path, tmp_path):
        cached = cache_teacher(model, x, path, verbose=0)
        histories.append(model.evaluate(cached, y, verbose=0))
    assert histories[0] == histories[1] == histories[2]


# Keys.


@pytest.mark.parametrize(
    "index",
    [np.zeros((24, 2), int), np.arange(24) / 2, -np.arange(24), np.array(list("abcdefgh" * 3))],
)
def test_what_an_index_is(index):
    x, y = pairs()
    with pytest.raises(ValueError, match='"index" must number the samples'):
        cache_teacher(distiller(), Batches({**x, "index": index}, y), verbose=0)


def test_an_index_may_be_a_column(tmp_path):
    x, y = numbered()
    model = distiller()
    column = {**x, "index": x["index"][:, None]}
    first = features(cache_teacher(model, Batches(column, y), tmp_path, verbose=0))
    np.testing.assert_array_equal(
        first, features(cache_teacher(model, Batches(x, y), tmp_path, verbose=0))
    )
    assert len(list(tmp_path.iterdir())) == 1


def test_an_index_is_there_or_not():
    x, y = numbered()

    class Partly(Batches):
        def __getitem__(self, step):
            x, y = super().__getitem__(step)
            return {side: x[side] for side in x if step < 2 or side != "index"}, y

    with pytest.raises(ValueError, match='all batches must hold "index"'):
        cache_teacher(distiller(), Partly(x, y), verbose=0)


@pytest.mark.parametrize("arrays", [False, True])
def test_no_samples(arrays, tmp_path):
    x, y = pairs()
    x, y = {side: values[:0] for side, values in x.items()}, y[:0]
    for path in (None, tmp_path):
        with pytest.raises(ValueError, match="must hold samples"):
            cache_teacher(distiller(), x if arrays else Batches(x, y), path, verbose=0)


def test_texts_tell_samples_apart():
    texts = ["a", "bc", "é"]
    kinds = [
        np.array(texts),
        np.array(texts, object),
        np.array([t.encode() for t in texts], object),
    ]
    keys = [row_keys(kind) for kind in kinds]
    assert len(set(keys[0].tolist())) == 3
    for other in keys[1:]:
        np.testing.assert_array_equal(other, keys[0])
    with pytest.raises(ValueError, match="numbers or texts"):
        row_keys(np.array([{}, []], object))
    assert row_keys(np.zeros((2, 0))).shape == (2,)
    assert row_keys(np.zeros((0, 3))).shape == (0,)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="models take texts on TensorFlow")
def test_a_student_that_reads_texts(tmp_path):
    import tensorflow as tf

    words = [f"{a}{b}" for a in "abcd" for b in "abcdef"]
    layer = keras.layers.TextVectorization(output_sequence_length=1, vocabulary=words)
    inputs = keras.Input((), dtype="string")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(30, 8)(layer(inputs)))
    hidden = keras.layers.Dense(16, "relu")(hidden)
    model = CrossModalDistiller(
        classifier(6), keras.Model(inputs, keras.layers.Dense(3)(hidden)), losses=[PKD()]
    )
    model.compile("adam", cross_entropy(), jit_compile=False)
    x, y = pairs()
    data = tf.data.Dataset.from_tensor_slices(({**x, "student": np.array(words)}, y)).batch(8)
    plain = model.evaluate(data, verbose=0)
    for _ in range(2):
        cached = cache_teacher(model, data, tmp_path, verbose=0)
        np.testing.assert_allclose(model.evaluate(cached, verbose=0), plain, rtol=1e-5)


# Nothing is done twice.


def test_arrays_in_memory_are_not_hashed(monkeypatch):
    def refuse(arrays):
        raise AssertionError("hashed")

    monkeypatch.setattr("keras_fdkd.data.reading.row_keys", refuse)
    monkeypatch.setattr("keras_fdkd.data.output_store.row_keys", refuse)
    x, _ = pairs()
    cached = cache_teacher(distiller(), x, verbose=0)
    assert len(cached["teacher_outputs"]["features"]) == 24


def test_going_on_sorts_once(tmp_path, monkeypatch):
    """Not once a batch: the rows may be millions."""
    x, y = numbered(400)
    model = distiller()
    with monkeypatch.context() as patch:
        count_batches(model, patch, stop_at=80)
        with pytest.raises(KeyboardInterrupt):
            cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    large = []
    for name in ("argsort", "sort", "isin", "unique"):
        function = getattr(np, name)

        def counted(values, *args, function=function, **kwargs):
            if len(values) > 100:
                large.append(1)
            return function(values, *args, **kwargs)

        monkeypatch.setattr(np, name, counted)
    seen = count_batches(model, monkeypatch)
    cached = cache_teacher(model, Batches(x, y), tmp_path, verbose=0)
    assert len(seen) == 20
    assert len(large) < 8
    np.testing.assert_allclose(features(cached), expected(model, x), atol=1e-5)


def test_row_index_finds_what_was_added():
    rng = np.random.default_rng(0)
    keys = rng.permutation(100_000).astype("uint64") * 3
    index = RowIndex(keys[:1000], keys[:1000] + np.uint64(1))
    for start in range(1000, len(keys), 500):
        part = keys[start : start + 500]
        assert not index.find(part)[0].any()
        index.add(part, part + np.uint64(1))
    found, values = index.find(np.concatenate([keys, keys + np.uint64(2)]))
    assert found.tolist() == [True] * len(keys) + [False] * len(keys)
    np.testing.assert_array_equal(values[: len(keys)], keys + np.uint64(1))


# Batches of a loader are counted from 0.


def test_each_iterator_of_a_loader_counts_for_itself():
    x, y = pairs()
    x["student"][20, 2] = np.nan
    loader = checked(checked(as_loader_in_order(x, y)))
    for _ in range(2):
        ahead = iter(loader)
        next(ahead)
        with pytest.raises(ValueError, match="of student in batch 2"):
            list(loader)
        next(ahead)
        with pytest.raises(ValueError, match="of student in batch 2"):
            next(ahead)


def as_loader_in_order(x, y):
    torch = pytest.importorskip("torch")
    samples = [({side: x[side][i] for side in x}, y[i]) for i in range(len(y))]
    return torch.utils.data.DataLoader(samples, 8)
