"""The part of each batch that a process trains on."""

import keras
import numpy as np
import pytest

from keras_fdkd.data import shard, shards


class Data(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, step):
        rows = np.arange(7) + 10 * step
        return {"teacher": rows * 1.0, "student": rows * 2.0}, rows


def parts(monkeypatch, data, count):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    found = []
    for number in range(count):
        monkeypatch.setattr(shards, "process", lambda number=number: (number, count))
        found.append(shard(data))
    return found


def test_parts_make_up_each_batch(monkeypatch):
    for count in (2, 3, 7):
        found = parts(monkeypatch, Data(), count)
        for step in range(2):
            batches = [part[step] for part in found]
            whole = Data()[step]
            np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), whole[1])
            for side in ("teacher", "student"):
                together = np.concatenate([x[side] for x, _ in batches])
                np.testing.assert_array_equal(together, whole[0][side])
            sizes = [len(y) for _, y in batches]
            assert max(sizes) - min(sizes) <= 1


def test_data_loader(monkeypatch):
    torch = pytest.importorskip("torch")
    rows = torch.arange(8)
    pairs = [({"teacher": row, "student": row}, row) for row in rows]
    loader = torch.utils.data.DataLoader(pairs, batch_size=4)
    first, second = parts(monkeypatch, loader, 2)
    assert [y.tolist() for _, y in first] == [[0, 1], [4, 5]]
    assert [x["student"].tolist() for x, _ in second] == [[2, 3], [6, 7]]


def test_tf_data(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    rows = np.arange(8)
    data = tf.data.Dataset.from_tensor_slices(({"student": rows}, rows)).batch(4)
    _, second = parts(monkeypatch, data, 2)
    assert [y.numpy().tolist() for _, y in second] == [[2, 3], [6, 7]]


def test_a_process_alone_gets_everything(monkeypatch):
    data = Data()
    assert shard(data) is data
    monkeypatch.setattr(shards, "process", lambda: (1, 2))
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    assert shard(data) is data  # Keras spreads it.


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match="must be a `keras.utils.PyDataset`"):
        shard({"teacher": np.ones(2), "student": np.ones(2)})
    with pytest.raises(ValueError, match=r"row of each batch.*7 rows for 8 processes"):
        parts(monkeypatch, Data(), 8)[0][0]
