"""The first batches of a data set are looked at before they train."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from test_errors_in_steps import Batches

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import CRD, KD


def nan(x, y):
    return {**x, "teacher": np.full_like(x["teacher"], np.nan)}, y


def out_of_range(x, y):
    return x, y + 3


def as_kind(kind, change=lambda x, y: (x, y), broken=0):
    data = Batches(change, broken)
    if kind == "a PyDataset":
        return data
    if kind == "a generator":
        return (data[i] for i in range(len(data)))
    batches = [data[i] for i in range(len(data))]
    x = {side: np.concatenate([b[0][side] for b in batches]) for side in ("teacher", "student")}
    y = np.concatenate([b[1] for b in batches])
    if kind == "a tf.data.Dataset":
        tf = pytest.importorskip("tensorflow")
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    torch = pytest.importorskip("torch")
    rows = [({side: values[i] for side, values in x.items()}, y[i]) for i in range(len(y))]
    return torch.utils.data.DataLoader(rows, batch_size=8)


KINDS = ["a PyDataset", "a generator", "a tf.data.Dataset", "a DataLoader"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "message"),
    [(nan, "NaN or infinity in 8 of 8 samples of teacher"), (out_of_range, "Labels must be in")],
)
def test_what_is_wrong_is_said_before_anything_trains(kind, change, message):
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())
    before = [np.array(w) for w in distiller.student.get_weights()]
    with pytest.raises(Exception, match=message):
        distiller.fit(as_kind(kind, change), verbose=0, shuffle=False)
    for old, new in zip(before, distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of any generator
@pytest.mark.parametrize("kind", KINDS)
def test_a_data_set_trains_as_its_arrays_do(kind):
    x, y = pairs()
    found = []
    for data in ((x, y), (as_kind(kind),)):
        keras.utils.set_random_seed(0)
        distiller = FrequencyDistiller(classifier(6), classifier(4))
        distiller.compile(keras.optimizers.SGD(0.1), cross_entropy())
        arrays = {"batch_size": 8} if len(data) == 2 else {}
        distiller.fit(*data, shuffle=False, verbose=0, **arrays)
        found.append(distiller.student.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["a PyDataset", "a tf.data.Dataset"])
@pytest.mark.parametrize("bad", [-1, 24, 0])
def test_numbers_of_samples_are_looked_at_in_each_batch(kind, bad):
    """Out of range, or twice in a batch; in the last of the batches too."""

    def change(x, y):
        return {**x, "index": np.array([16, 17, 18, 19, 20, 21, bad, bad])}, y

    class Numbered(Batches):
        def __getitem__(self, step):
            x, y = super().__getitem__(step)
            return {"index": np.arange(8 * step, 8 * step + 8), **x}, y

    data = Numbered(change, broken=2)
    if kind == "a tf.data.Dataset":
        tf = pytest.importorskip("tensorflow")
        whole = [data[i] for i in range(3)]
        x = {name: np.concatenate([x[name] for x, _ in whole]) for name in whole[0][0]}
        y = np.concatenate([y for _, y in whole])
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat(2)
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[CRD(24, negatives=4)])
    distiller.compile("adam", cross_entropy())
    with pytest.raises(Exception, match="index"):
        distiller.fit(data, verbose=0, shuffle=False)


def test_numbers_of_samples_of_arrays():
    x, y = pairs()
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[CRD(24, negatives=4)])
    distiller.compile("adam", cross_entropy())
    for index in (np.arange(24) - 1, np.arange(24) + 1, np.zeros(24, int), np.arange(24) / 2):
        with pytest.raises(ValueError, match="index"):
            distiller.fit({**x, "index": index}, y, verbose=0)
    distiller.fit({**x, "index": np.arange(24)}, y, verbose=0)


def test_class_weights_of_a_pipeline_with_unlabelled_rows():
    """Label -1 has weight 1, as it has in arrays."""
    tf = pytest.importorskip("tensorflow")
    x, y = pairs()
    y[::2] = -1
    weights = {0: 1.0, 1: 5.0, 2: 0.2}
    found = []
    for kind in ("arrays", "pipeline"):
        keras.utils.set_random_seed(0)
        distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD(2.0)])
        distiller.compile(keras.optimizers.SGD(0.0), cross_entropy(ignore_class=-1))
        if kind == "arrays":
            data = {"x": x, "y": y, "batch_size": 24}
        else:
            data = {"x": tf.data.Dataset.from_tensors((x, y))}
        history = distiller.fit(**data, class_weight=weights, shuffle=False, verbose=0).history
        found.append([history["kd_loss"][0], history["task_loss"][0]])
    np.testing.assert_allclose(*found, rtol=1e-5)
