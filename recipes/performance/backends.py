"""The same initial weights and the same batches on JAX, PyTorch and TensorFlow, side by side.

Each backend runs in a fresh process (`--worker`); the first one makes the initial weights,
the others load them.
"""

import argparse
import json
import os
import subprocess  # It starts itself.  # nosec B404
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

BACKENDS = ("jax", "torch", "tensorflow")
FIRST_STEP, FINAL_WEIGHTS = 1e-5, 1e-3


def train(folder: Path, steps: int) -> None:
    """Train with the backend of this process; leave losses, weights and times in `folder`."""
    import keras

    from keras_fdkd import PUBLISHED, FrequencyDistiller
    from recipes.shared.models import signal_classifier
    from recipes.watch.data import load_watch, split_by_subject

    data = load_watch()
    rows = split_by_subject(data.subjects, seed=0)["train"]
    size = 32
    order = np.random.default_rng(0).permutation(np.resize(rows, steps * size))
    x = {
        "teacher": data.signals["accelerometer"][order],
        "student": data.signals["gyroscope"][order],
    }
    y = data.labels[order]
    keras.utils.set_random_seed(0)
    models = [
        signal_classifier(signals.shape[1:], 7, filters, name)
        for signals, filters, name in (
            (x["teacher"], (16, 32), "teacher"),
            (x["student"], (16, 32), "student"),
        )
    ]
    options: dict[str, Any] = {**PUBLISHED, "standardize": "variance"}  # every term, all of a size
    distiller = FrequencyDistiller(*models, **options)
    start = folder / "start.keras"  # with the teacher
    if not start.exists():
        distiller.save(start)
    # The one that made the file too: all begin with what it holds.
    distiller.load_weights(start)
    # At a rate of 0.01 this would measure ReLUs that flip: moving the initial weights by 1e-7, on
    # one and the same backend, changes the final ones by up to 1.3e-2 (5 trials, TensorFlow).
    distiller.compile(
        keras.optimizers.SGD(0.001, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses, times = [], []
    for step in range(steps):
        batch = slice(step * size, (step + 1) * size)
        begin = time.perf_counter()
        logs = distiller.train_on_batch(
            {side: values[batch] for side, values in x.items()}, y[batch], return_dict=True
        )
        losses.append(float(logs["loss"]))
        times.append(time.perf_counter() - begin)
        # Else the next loss is a mean over batches:
        # https://github.com/keras-team/keras/pull/22617.
        distiller.reset_metrics()
    weights = {f"w{i}": np.asarray(w) for i, w in enumerate(distiller.student.get_weights())}
    name = keras.config.backend()
    np.savez(folder / f"{name}.npz", **weights)
    # The first step compiles.
    result = {"losses": losses, "milliseconds": 1e3 * float(np.median(times[1:]))}
    (folder / f"{name}.json").write_text(json.dumps(result))


def relative(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference, relative to the largest value of the reference."""
    scale = np.abs(reference).max() or 1.0  # The counter of a Normalization layer is 0.
    return float(np.abs(value - reference).max() / scale)


def main(arguments: list[str] | None = None) -> None:
    """Run the three processes and write the table; exit with an error if they disagree."""
    parser = argparse.ArgumentParser("python -m recipes.performance.backends", description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="training steps (default: 50)")
    parser.add_argument("--output", type=Path, default=Path("runs/compare"), help="folder")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        train(options.worker, options.steps)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backend in BACKENDS:
            command = [sys.executable, "-m", "recipes.performance.backends", "--worker", name]
            command += ["--steps", str(options.steps)]
            environment = {**os.environ, "KERAS_BACKEND": backend}
            subprocess.run(command, env=environment, check=True)  # No shell.  # nosec B603
        results = {b: json.loads((folder / f"{b}.json").read_text()) for b in BACKENDS}
        weights = {b: dict(np.load(folder / f"{b}.npz", allow_pickle=False)) for b in BACKENDS}
    losses = {b: np.array(results[b]["losses"]) for b in BACKENDS}
    reference = BACKENDS[0]
    first = {b: abs(losses[b][0] / losses[reference][0] - 1) for b in BACKENDS}
    final = {
        b: max(relative(weights[b][k], weights[reference][k]) for k in weights[b]) for b in BACKENDS
    }
    rows = [(f"loss of step {s + 1}", *(f"{losses[b][s]:.6f}" for b in BACKENDS))
            for s in sorted({0, 1, 4, 9, 19, options.steps - 1}) if s < options.steps]  # fmt: skip
    rows += [
        (f"first loss, difference to {reference}", *(f"{first[b]:.1e}" for b in BACKENDS)),
        (f"final weights, difference to {reference}", *(f"{final[b]:.1e}" for b in BACKENDS)),
        ("median step, ms", *(f"{results[b]['milliseconds']:.1f}" for b in BACKENDS)),
    ]
    table = Table("", *BACKENDS, title=f"{options.steps} steps, float32")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    options.output.mkdir(parents=True, exist_ok=True)
    lines = ["| | " + " | ".join(BACKENDS) + " |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    (options.output / "compare.md").write_text("\n".join(lines) + "\n")
    every = {
        b: {**results[b], "weights_difference": final[b], "first_loss_difference": first[b]}
        for b in BACKENDS
    }
    (options.output / "compare.json").write_text(json.dumps(every, indent=1) + "\n")
    if max(first.values()) > FIRST_STEP or max(final.values()) > FINAL_WEIGHTS:
        sys.exit(
            f"The backends disagree: first loss by {max(first.values()):.1e} (at most "
            f"{FIRST_STEP}), final weights by {max(final.values()):.1e} (at most {FINAL_WEIGHTS})."
        )


if __name__ == "__main__":
    main()
