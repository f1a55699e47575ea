"""Kill a training process at random moments, again and again: it must end as if undisturbed.

`python tests/kill_training.py --kills 20`
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller
from keras_fdkd.callbacks import CrashSafeBackup


class Shuffled(keras.utils.PyDataset):
    """Batches whose order depends on the number of the epoch alone."""

    def __init__(self, x, y, epoch):
        super().__init__()
        self.x, self.y, self.epoch = x, y, epoch

    def __len__(self):
        return 3

    def on_epoch_end(self):
        self.epoch += 1

    def __getitem__(self, step):
        order = np.random.default_rng((7, self.epoch)).permutation(len(self.y))
        rows = order[step * 8 : step * 8 + 8]
        return {side: values[rows] for side, values in self.x.items()}, self.y[rows]


class _Ready(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("training", flush=True)


def train(folder, epochs):
    """Train, from the last backup in `folder` if there is one, and write the final weights."""
    keras.utils.set_random_seed(0)  # The teacher is the same each time, as in practice.
    student = classifier(4, batch_norm=True)
    dropout = keras.layers.Dropout(0.2, seed=3)
    student = keras.Sequential([*student.layers[:-1], dropout, student.layers[-1]])
    student.build((None, 4))
    distiller = FrequencyDistiller(classifier(6, features=20), student)
    distiller.compile(keras.optimizers.Adam(1e-3), loss=cross_entropy(), metrics=["accuracy"])
    x, y = pairs()
    backup = CrashSafeBackup(folder / "backup", keep=True)
    checkpoints = [
        keras.callbacks.ModelCheckpoint(folder / "last.keras"),
        keras.callbacks.ModelCheckpoint(folder / "last.weights.h5", save_weights_only=True),
    ]
    callbacks = [backup, *checkpoints, _Ready()]
    distiller.fit(Shuffled(x, y, backup.epoch), epochs=epochs, shuffle=False, callbacks=callbacks,
                  verbose=0)  # fmt: skip
    weights = student.get_weights() + distiller.projector.get_weights()
    np.savez(folder / "final.npz", *weights, iterations=int(distiller.optimizer.iterations))


def check_files(folder):
    """Read every finished file from end to end; return how many there were."""
    count = 0
    for path in folder.rglob("*"):
        if path.name.startswith("part-") or path.is_dir():
            continue
        if path.suffix == ".keras":
            assert zipfile.ZipFile(path).testzip() is None, path
            count += 1
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(lambda name, item: item[()] if hasattr(item, "shape") else None)
            count += 1
    return count


def run(folder, epochs, kill_after=None):
    """Start a process that trains; kill it so many seconds after its first step."""
    command = [sys.executable, __file__, "--train", str(folder), "--epochs", str(epochs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if kill_after is not None and process.stdout.readline():
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode


def disturb(folder, kills, longest, seed=0):
    """Train once in peace, once with kills; return the greatest difference and what was seen."""
    draw = random.Random(seed)
    epochs = int(12 * kills * max(longest, 0.3)) + 10
    peace, trouble = folder / "peace", folder / "trouble"
    for path in (peace, trouble):
        path.mkdir(parents=True)
    assert run(peace, epochs) == 0
    progress = []
    while len(progress) < kills:
        code = run(trouble, epochs, draw.uniform(0, longest))
        assert code == -signal.SIGKILL, f"ended after {len(progress)} kills: {code}"
        check_files(trouble)
        progress.append(CrashSafeBackup(trouble / "backup").epoch)
    assert run(trouble, epochs) == 0
    first, second = (np.load(path / "final.npz") for path in (peace, trouble))
    assert first["iterations"] == second["iterations"] == 3 * epochs
    difference = max(
        float(np.abs(first[name] - second[name]).max(initial=0)) for name in first.files
    )
    return difference, progress, epochs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds to live")
    options = parser.parse_args()
    if options.train:
        train(options.train, options.epochs)
    else:
        with tempfile.TemporaryDirectory() as folder:
            difference, progress, epochs = disturb(Path(folder), options.kills, options.longest)
        backend = os.environ.get("KERAS_BACKEND")
        print(f"{backend}: {len(progress)} kills after epochs {progress} of {epochs}; "
              f"greatest difference of the final weights {difference:.1e}")  # fmt: skip
