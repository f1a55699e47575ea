"""A long training run: does memory stay where it is, and the pace?

Two small networks, ten thousand steps, on the backend of `KERAS_BACKEND`. A run leaves its figures
in `BACKEND.json` of the output folder and writes the table of all that are there.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.shared.markdown import table

EVERY = 100  # steps from one record to the next: an epoch
SETTLED = 500  # steps after which memory must not grow any more
LIMIT = 0.05


@dataclass(frozen=True)
class Summary:
    """What became of a run.

    Attributes:
        steps: How many there were.
        megabytes: Resident memory after the first 500 steps.
        growth: Largest resident memory after that, less that one, as a fraction of it.
        milliseconds: Median step of the second quarter.
        pace: Median step of the last quarter, as a multiple of that of the second.
    """

    steps: int
    megabytes: float
    growth: float
    milliseconds: float
    pace: float


def summarize(bytes_used: list[int], milliseconds: list[float]) -> Summary:
    """Judge a run by its records, one for every 100 steps.

    Args:
        bytes_used: Resident memory at the end of each 100 steps.
        milliseconds: Mean step of each 100.

    Raises:
        ValueError: If there are not 8 records or more of both.
    """
    count = len(bytes_used)
    if count != len(milliseconds) or count < 8:
        raise ValueError(
            "A run must have 8 records or more, of memory and time alike: run at least "
            f"{8 * EVERY} steps. Received: {count} and {len(milliseconds)}."
        )
    settled, *later = bytes_used[SETTLED // EVERY - 1 :]
    quarter = count // 4
    # The first quarter holds the compilation.
    second = float(np.median(milliseconds[quarter : 2 * quarter]))
    last = float(np.median(milliseconds[-quarter:]))
    return Summary(
        steps=count * EVERY,
        megabytes=settled / 1e6,
        growth=max(later) / settled - 1,
        milliseconds=second,
        pace=last / second,
    )


def markdown(folder: Path) -> list[str]:
    """Return the lines of the table of all runs in a folder."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        records = json.loads(file.read_text())
        found = summarize(records["bytes"], records["milliseconds"])
        cells = (f"{found.steps:,}", f"{found.megabytes:.0f}", f"{100 * found.growth:+.1f} %")
        rows.append((file.stem, *cells, f"{found.milliseconds:.2f}", f"{found.pace:.2f}"))
    head = ("backend", "steps", f"MB after {SETTLED} steps", "growth after that")
    return table((*head, "ms a step, second quarter", "last quarter to second"), rows)[:-1]


def resident_memory() -> int:
    """Return the bytes of memory that this process holds; where only a peak is known, the peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        # Pages: the first number counts reserved ones too, the second those in memory.
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kilobytes.
    return peak if sys.platform == "darwin" else 1024 * peak


def train(steps: int) -> dict[str, Any]:
    """Train for so many steps and return the records."""
    import keras

    from keras_fdkd import FrequencyDistiller

    class Records(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.bytes: list[int] = []
            self.milliseconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.milliseconds.append(1e3 * (time.perf_counter() - self._start) / EVERY)
            self.bytes.append(resident_memory())

    def mlp(size: int) -> keras.Model:
        layers = keras.layers
        hidden = [layers.Dense(64), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.2)]
        return keras.Sequential([keras.Input((size,)), *hidden, layers.Dense(5)])

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    samples = 32 * EVERY
    x = {
        "teacher": rng.normal(size=(samples, 24)).astype("float32"),
        "student": rng.normal(size=(samples, 16)).astype("float32"),
    }
    distiller = FrequencyDistiller(mlp(24), mlp(16))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss=loss, metrics=["accuracy"])
    records = Records()
    distiller.fit(
        x,
        rng.integers(5, size=samples),
        batch_size=32,
        epochs=steps // EVERY,
        callbacks=[records],
        verbose=0,
    )
    return {
        "backend": keras.config.backend(),
        "keras": keras.version(),
        "bytes": records.bytes,
        "milliseconds": [round(value, 4) for value in records.milliseconds],
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, write figures and table; exit with an error if memory grew."""
    parser = argparse.ArgumentParser("python -m recipes.performance.long_run", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="a multiple of 100, at least 800")
    parser.add_argument("--output", type=Path, default=Path("runs/long_run"), help="folder")
    options = parser.parse_args(arguments)
    if options.steps % EVERY or options.steps < 8 * EVERY:
        parser.error(f"--steps must be a multiple of {EVERY}, at least {8 * EVERY}")
    records = train(options.steps)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{records['backend']}.json"
    file.write_text(json.dumps(records) + "\n")
    lines = markdown(options.output)
    (options.output / "long_run.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    growth = summarize(records["bytes"], records["milliseconds"]).growth
    if growth > LIMIT:
        sys.exit(f"Memory grew by {growth:.1%} after {SETTLED} steps, at most {LIMIT:.0%} is well.")


if __name__ == "__main__":
    main()
