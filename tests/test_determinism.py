"""`keras.utils.set_random_seed` fixes a whole run, bit for bit, on one machine and backend."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import PUBLISHED, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import CRD, KD


def small():
    x, y = pairs(samples=40)
    teacher = classifier(6, features=20, dropout=0.5)
    return teacher, classifier(4, batch_norm=True, dropout=0.5), x, y


def large():
    """Products that a backend spreads over threads."""
    x, y = pairs(samples=256, teacher=200, student=100)
    return classifier(200, 256), classifier(100, 256, batch_norm=True, dropout=0.3), x, y


def signals():
    """Convolutions over time, split along it."""

    def model(channels):
        inputs = keras.Input((20, channels))
        frames = keras.layers.Conv1D(8, 3, padding="same", name="frames")(inputs)
        hidden = keras.layers.ReLU()(keras.layers.BatchNormalization()(frames))
        hidden = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling1D()(hidden))
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    rng = np.random.default_rng(0)
    x = {
        side: rng.normal(size=(40, 20, channels)).astype("float32")
        for side, channels in (("teacher", 3), ("student", 2))
    }
    return model(3), model(2), x, rng.integers(3, size=40)


def frequency(teacher, student, x):
    return FrequencyDistiller(teacher, student, **PUBLISHED), x


def along_time(teacher, student, x):
    options = {"teacher_features": "frames", "student_features": "frames", "axis": 1}
    return FrequencyDistiller(teacher, student, **options), x


def contrastive(teacher, student, x):
    """CRD draws negatives and its first memory without a seed of its own."""
    samples = len(x["student"])
    losses = [CRD(samples, dim=8, negatives=12), KD()]
    return CrossModalDistiller(teacher, student, losses=losses), {**x, "index": np.arange(samples)}


def run(seed, models, method):
    keras.utils.set_random_seed(seed)
    teacher, student, x, y = models()
    distiller, x = method(teacher, student, x)
    distiller.compile("adam", loss=cross_entropy(), metrics=["accuracy"])
    logs = distiller.fit(x, y, batch_size=16, epochs=2, shuffle=True, verbose=0).history
    variables = [*distiller.variables, *distiller.optimizer.variables]
    return logs, [np.array(ops.convert_to_numpy(variable)) for variable in variables]


@pytest.mark.parametrize(
    ("models", "method"),
    [(small, frequency), (large, frequency), (signals, along_time), (small, contrastive)],
)
def test_a_seed_gives_the_same_bits(models, method):
    (logs, values), (same_logs, same_values) = (run(7, models, method) for _ in range(2))
    assert logs == same_logs
    assert len(values) == len(same_values) > 20
    for value, same in zip(values, same_values, strict=True):
        np.testing.assert_array_equal(value, same)
    other_logs, _ = run(8, models, method)
    assert other_logs["loss"] != logs["loss"]
