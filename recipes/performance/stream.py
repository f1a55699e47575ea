"""Distil from shards on disk: does memory stay where it is when there are ten times the data?

The recordings of the watch are cut into windows every 10 and every single time step, which makes
ten times as many, and written to shards. A run reads its batches from them with Grain, on any
backend, and never holds more than a few.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from recipes.performance.fresh_process import hand_back, run_worker
from recipes.performance.long_run import resident_memory
from recipes.shared.markdown import table

STEPS = (10, 1)
EVERY = 50  # training steps from one record of the memory to the next


def train(folder: Path, windows: int, epochs: int) -> dict[str, Any]:
    """Train a teacher and distil a student from the shards of a folder.

    Args:
        folder: With the shards.
        windows: That the shards hold.
        epochs: Of the distillation; the teacher has one.
    """
    import keras

    from keras_fdkd import FrequencyDistiller
    from recipes.performance.stream_data import stream
    from recipes.shared.models import signal_classifier
    from recipes.watch.data import load_watch, split_by_subject

    class Memory(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.bytes: list[int] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch % EVERY == EVERY - 1:
                self.bytes.append(resident_memory())

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.bytes.append(resident_memory())

    def compiled(model: keras.Model) -> keras.Model:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss=loss, metrics=["accuracy"])
        return model

    keras.utils.set_random_seed(0)
    data = load_watch()
    rows = split_by_subject(data.subjects, 0)["validation"]
    validation = {side: values[rows] for side, values in data.signals.items()}
    sides = ("accelerometer", "gyroscope")
    teacher, student = [
        signal_classifier(validation[side].shape[1:], len(data.exercises), (16, 32, 64), side)
        for side in sides
    ]
    batches, steps = stream(folder, None, sides[0], seed=0)
    compiled(teacher).fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    memory = Memory()
    start = time.perf_counter()
    distiller = compiled(FrequencyDistiller(teacher, student))
    batches, steps = stream(folder, *sides, seed=1)
    history = distiller.fit(
        batches,
        steps_per_epoch=steps,
        shuffle=False,  # It is.
        epochs=epochs,
        validation_data=(validation[sides[1]], data.labels[rows]),
        callbacks=[memory],
        verbose=0,
    ).history
    return {
        "windows": windows,
        "megabytes": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "resident": memory.bytes,
        "seconds": time.perf_counter() - start,
        "val_accuracy": history["val_accuracy"],
    }


def markdown(figures: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the lines of the table: a row for each backend and size."""
    rows = []
    for backend, runs in figures.items():
        for run in runs:
            middle, peak = np.median(run["resident"]) / 1e6, max(run["resident"]) / 1e6
            cells = (f"{run['windows']:,}", f"{run['megabytes']:,.0f}", f"{middle:,.0f}")
            rows.append((backend, *cells, f"{peak:,.0f}", f"{run['seconds']:.0f}"))
    head = ("backend", "windows", "MB on disk", "MB in memory, median", "peak", "seconds")
    return table(head, rows)[:-1]


def main(arguments: list[str] | None = None) -> None:
    """Write the shards, train from each set of them, and write the table of all runs."""
    parser = argparse.ArgumentParser("python -m recipes.performance.stream", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS,
                        help="from one window to the next, a run for each")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=1, help="of the distillation")
    parser.add_argument("--output", type=Path, default=Path("runs/stream"), help="folder")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        [windows] = options.steps
        hand_back(train(options.worker, windows, options.epochs))
        return
    file = options.output / "stream.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    figures[os.environ["KERAS_BACKEND"]] = [
        _run(step, options.epochs) for step in sorted(options.steps, reverse=True)
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures) + "\n")
    lines = markdown(figures)
    (options.output / "stream.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _run(step: int, epochs: int) -> dict[str, Any]:
    """Return the figures of a run in a fresh process, whose memory is its own."""
    from recipes.performance.stream_data import write_shards
    from recipes.watch.data import load_watch, split_by_subject

    subjects = load_watch().subjects
    trained = set(subjects[split_by_subject(subjects, 0)["train"]].tolist())
    with tempfile.TemporaryDirectory() as folder:
        windows = write_shards(Path(folder), trained, step)
        arguments = ("--worker", folder, "--steps", str(windows), "--epochs", str(epochs))
        return run_worker("recipes.performance.stream", *arguments)


if __name__ == "__main__":
    main()
