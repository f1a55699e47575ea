"""Interrupted training: backups that are whole, and the same end as without interruption."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from kill_training import Shuffled, disturb

from keras_fdkd import FrequencyDistiller
from keras_fdkd.callbacks import CrashSafeBackup


def test_killed_training_ends_the_same(tmp_path):
    """Twenty kills in a row: `python tests/kill_training.py`."""
    difference, progress, _ = disturb(tmp_path, kills=2, longest=2.0)
    assert difference < 1e-5
    assert progress == sorted(progress)
    assert progress[-1] > 0


class Interrupted(keras.callbacks.Callback):
    def __init__(self, epoch, step):
        super().__init__()
        self.wanted = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.wanted:
            raise KeyboardInterrupt


def distiller(seed=0):
    keras.utils.set_random_seed(seed)
    made = FrequencyDistiller(classifier(6), classifier(4, batch_norm=True))
    made.compile("adam", loss=cross_entropy())
    return made


def fit(model, callbacks, epoch=0, epochs=4):
    x, y = pairs()
    data = Shuffled(x, y, epoch)
    return model.fit(data, epochs=epochs, shuffle=False, callbacks=callbacks, verbose=0)


@pytest.mark.parametrize("kind", [CrashSafeBackup, keras.callbacks.BackupAndRestore])
def test_training_goes_on(kind, tmp_path):
    whole = distiller()
    fit(whole, [])
    with pytest.raises(KeyboardInterrupt):
        fit(distiller(), [kind(tmp_path / "backup"), Interrupted(2, 1)])
    again = distiller()
    history = fit(again, [kind(tmp_path / "backup")], epoch=2)
    assert history.epoch == [2, 3]
    for mine, its in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)
    assert not list(tmp_path.glob("backup/*"))  # The run is over.


def test_backup_holds_no_teacher_and_knows_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(distiller(), [CrashSafeBackup(tmp_path), Interrupted(1, 0)])
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001.weights.h5"]
    with pytest.raises(ValueError, match="Build the distiller with the teacher of fingerprint"):
        fit(distiller(seed=1), [CrashSafeBackup(tmp_path)])


def test_half_a_backup_is_no_backup(tmp_path):
    fit(distiller(), [CrashSafeBackup(tmp_path, keep=True)], epochs=2)
    (tmp_path / "part-epoch-000009.weights.h5").write_bytes(b"torn")
    assert CrashSafeBackup(tmp_path).epoch == 2
    assert fit(distiller(), [CrashSafeBackup(tmp_path, keep=True)], epoch=2).epoch == [2, 3]
    assert CrashSafeBackup(tmp_path).epoch == 4
    assert fit(distiller(), [CrashSafeBackup(tmp_path, keep=True)], epoch=4).epoch == []


def test_the_next_fit_begins_anew(tmp_path):
    fit(distiller(), [CrashSafeBackup(tmp_path, keep=True)], epochs=2)
    model = distiller()
    assert fit(model, [CrashSafeBackup(tmp_path)], epoch=2).epoch == [2, 3]
    assert fit(model, []).epoch == [0, 1, 2, 3]


def test_an_interrupted_fit_leaves_no_epoch_behind(tmp_path):
    fit(distiller(), [CrashSafeBackup(tmp_path, keep=True)], epochs=2)
    model = distiller()
    with pytest.raises(KeyboardInterrupt):
        fit(model, [CrashSafeBackup(tmp_path, keep=True), Interrupted(2, 1)], epoch=2)
    assert fit(model, []).epoch == [0, 1, 2, 3]


@pytest.mark.parametrize("weights_only", [False, True])
def test_checkpoints(weights_only, tmp_path):
    name = "{epoch}" + (".weights.h5" if weights_only else ".keras")
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / name, save_weights_only=weights_only)
    model = distiller()
    fit(model, [checkpoint], epochs=2)
    path = tmp_path / name.format(epoch=2)
    if weights_only:
        loaded = distiller()
        loaded.load_weights(path)
    else:
        loaded = keras.saving.load_model(path)
    x, y = pairs()
    logs = [m.train_on_batch(x, y, return_dict=True) for m in (model, loaded)]
    for value in logs[0]:
        assert logs[0][value] == pytest.approx(logs[1][value], abs=1e-6)


@pytest.mark.parametrize("folder", ["", None, 3])
def test_folder(folder):
    with pytest.raises(ValueError, match="`folder` must be the path of a local folder"):
        CrashSafeBackup(folder)
