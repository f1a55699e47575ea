"""Short tables of the committed measurements of `speed`, for the documentation."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from recipes.performance.speed_report import LIMIT, OURS, PAIRS, ratio
from recipes.shared.markdown import table

FILE = Path(__file__).parents[1] / "results" / "speed" / "speed.json"
BACKENDS = {"jax": "JAX", "torch": "PyTorch", "tensorflow": "TensorFlow"}


def load_figures() -> dict[str, Any]:
    """Return the committed figures, by backend and task."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def ratios(figures: dict[str, Any], first: str, second: str) -> list[str]:
    """Return a table of median ratios of two trainers, a row for each pair of models.

    Args:
        figures: See `load_figures`.
        first: Name of a trainer, as `recipes.performance.speed_report` has it.
        second: The one that it is divided by.
    """
    rows = []
    for pair, title in PAIRS.items():
        seconds = [figures[name].get(f"steps {pair}", [{}])[0] for name in BACKENDS]
        if all(first in one and second in one for one in seconds):
            cells = [f"{ratio(one[first], one[second])[0]:.2f}" for one in seconds]
            rows.append((title, *cells))
    return table(("models", *BACKENDS.values()), rows)


def terms_and_memory(figures: dict[str, Any]) -> list[str]:
    """Return a table of what all terms take, and of the peak of a process beside the limit's."""
    terms, peaks = ["all terms"], ["peak memory / limit, small ResNets"]
    for name in BACKENDS:
        [found] = figures[name]["assembly"]
        terms.append(f"{1e3 * np.median(found['seconds']):.2f} ms")
        ours, limit = (
            np.median([run["bytes"] for run in figures[name][f"memory {trainer}"]])
            for trainer in (OURS, LIMIT)
        )
        peaks.append(f"{ours / limit:.2f}")
    return table(("", *BACKENDS.values()), [terms, peaks])
