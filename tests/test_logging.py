"""Keras's loggers write what a distiller logs: its terms, its metrics and those of validation."""

import csv

import keras
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller

TERMS = {"loss", "task_loss", "low_loss", "high_loss", "align_loss", "accuracy"}


def fit(callback):
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy(), metrics=["accuracy"])
    x, y = pairs()
    validation = x["student"], y
    return distiller.fit(
        x, y, epochs=2, validation_data=validation, callbacks=[callback], verbose=0
    ).history


def test_csv(tmp_path):
    history = fit(keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) >= {*TERMS, "val_accuracy", "val_task_loss", "epoch"}
    for name in TERMS:
        assert [float(row[name]) for row in rows] == pytest.approx(history[name], rel=1e-6)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="Keras writes TensorBoard's files with it"
)
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="it is a package of its own")
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    fit(keras.callbacks.TensorBoard(tmp_path, write_graph=False))
    files = [str(path) for path in (tmp_path / "train").glob("events.*")]
    events = [Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files)]
    tags = [value.tag for event in events for value in event.summary.value]
    assert {tag: tags.count(tag) for tag in tags if tag.startswith("epoch_")}.items() >= {
        f"epoch_{name}": 2 for name in TERMS
    }.items()
