"""Every kind of data that Keras's `fit` takes, with nested inputs on each side."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller
from keras_fdkd.analysis import extract_features

BACKEND = keras.config.backend()


class Pairs(keras.utils.PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.y) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return keras.tree.map_structure(lambda a: a[rows], self.x), self.y[rows]


def sources(x, y, size):
    """The same batches from each source this environment has."""
    found = {"numpy": None, "PyDataset": Pairs(x, y, size)}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        found["tf.data"] = tf.data.Dataset.from_tensor_slices((x, y)).batch(size)
    if BACKEND == "torch":
        from torch.utils.data import DataLoader

        rows = [
            (keras.tree.map_structure(lambda a, i=i: a[i], x), int(y[i])) for i in range(len(y))
        ]
        found["DataLoader"] = DataLoader(rows, batch_size=size)
    return found


def two_towers(sizes):
    """A functional model of several named inputs."""
    inputs = {name: keras.Input((size,), name=name) for name, size in sizes.items()}
    hidden = keras.layers.Concatenate()([inputs[name] for name in sorted(inputs)])
    hidden = keras.layers.Dense(16, "relu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


@pytest.mark.parametrize("nested", [False, True])
def test_sources_agree(nested):
    x, y = pairs(samples=20)
    if nested:
        x = {
            "teacher": {"left": x["teacher"][:, :2], "right": x["teacher"][:, 2:]},
            "student": (x["student"][:, :1], x["student"][:, 1:]),  # tf.data stacks lists
        }
        teacher = two_towers({"left": 2, "right": 4})
        inputs = [keras.Input((1,)), keras.Input((3,))]
        hidden = keras.layers.Dense(16)(keras.layers.Concatenate()(inputs))
        student = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    else:
        teacher, student = classifier(6), classifier(4)
    start = student.get_weights()
    histories = {}
    for name, data in sources(x, y, 8).items():
        keras.utils.set_random_seed(0)
        student.set_weights(start)
        distiller = FrequencyDistiller(teacher, student)
        distiller.compile("adam", loss=cross_entropy())
        arguments = {"x": data} if data is not None else {"x": x, "y": y, "batch_size": 8}
        histories[name] = distiller.fit(**arguments, epochs=2, shuffle=False, verbose=0).history
        student_alone = distiller.evaluate(x["student"], y, verbose=0, return_dict=True)
        assert set(student_alone) == {"loss", "task_loss"}
        features, labels = extract_features(distiller, (x, y) if data is None else data)
        assert features["student"].shape == features["teacher"].shape == (20, 16)
        np.testing.assert_array_equal(labels, y)
    for name, history in histories.items():
        for key, values in history.items():
            np.testing.assert_allclose(values, histories["numpy"][key], rtol=1e-5, err_msg=name)


def test_sample_weight_from_a_dataset():
    x, y = pairs(samples=16)
    weights = np.linspace(0, 1, 16).astype("float32")

    class Weighted(Pairs):
        def __getitem__(self, index):
            inputs, labels = super().__getitem__(index)
            return inputs, labels, weights[index * self.size : (index + 1) * self.size]

    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    logs = [
        distiller.fit(Weighted(x, y, 8), shuffle=False, verbose=0).history,
        distiller.fit(x, y, sample_weight=weights, batch_size=8, shuffle=False, verbose=0).history,
        distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0).history,
    ]
    for name in ("task_loss", "low_loss", "high_loss", "align_loss"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5), name
        assert logs[0][name][0] != pytest.approx(logs[2][name][0], rel=1e-3), name
