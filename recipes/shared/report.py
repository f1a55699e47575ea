"""What an experiment leaves behind: table, report, metrics, plots and the student."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_fdkd.analysis import (
    band_similarity,
    plot_learning_curves,
    plot_modalities,
    plot_similarity,
)
from keras_fdkd.features import FeatureTap
from recipes.shared.training import Outcome

METHODS = ("teacher", "student alone", "distilled")
COLUMNS = ("method", "test accuracy", "parameters", "milliseconds a step")


@dataclass(frozen=True)
class Run:
    """One trained model and what was measured of it."""

    method: str
    seed: int
    model: keras.Model
    outcome: Outcome

    def row(self) -> dict[str, Any]:
        """What `metrics.json` keeps."""
        return {
            "method": self.method,
            "seed": self.seed,
            "parameters": self.model.count_params(),
            **asdict(self.outcome),
        }


def summarize(runs: list[Run]) -> list[tuple[str, str, str, str]]:
    """Return a row for each method: mean ± standard deviation over the seeds."""
    rows = []
    for method in METHODS:
        mine = [run for run in runs if run.method == method]
        accuracy = 100 * np.array([run.outcome.test_accuracy for run in mine])
        seconds = np.median([run.outcome.seconds_per_step for run in mine])
        rows.append(
            (
                method,
                f"{accuracy.mean():.1f} ± {accuracy.std(ddof=len(mine) > 1):.1f} %",
                f"{mine[0].model.count_params():,}",
                f"{1e3 * seconds:.1f}",
            )
        )
    return rows


def print_table(runs: list[Run], title: str) -> None:
    """Print the summary to the terminal."""
    table = Table(*COLUMNS, title=title)
    for row in summarize(runs):
        table.add_row(*row)
    Console().print(table)


def write_report(
    folder: Path,
    title: str,
    settings: dict[str, Any],
    runs: list[Run],
    tests: dict[int, dict[str, np.ndarray]],
) -> None:
    """Write the report of finished runs.

    Args:
        folder: Made if it is missing.
        title: Heading of the report.
        settings: The arguments of the experiment.
        runs: All runs of all seeds.
        tests: Test fold of each seed, `teacher` and `student` inputs and `labels`, for the
            similarity of features on unseen data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The seed to show is chosen on validation data, as everything else is.
    best = max((run for run in runs if run.method == "distilled"), key=_validation)
    models = {run.method: run.model for run in runs if run.seed == best.seed}
    fold = tests[best.seed]
    teacher = _features(models["teacher"], fold["teacher"])
    panels = {
        name: {"teacher": teacher, "student": _features(models[name], fold["student"])}
        for name in METHODS[1:]
    }
    similarity = {
        name: band_similarity(features, labels=fold["labels"]) for name, features in panels.items()
    }
    histories = {
        name: [run.outcome.history for run in runs if run.method == name] for name in METHODS
    }
    plots = {
        "learning_curves.png": plot_learning_curves(histories, "val_accuracy"),
        "band_similarity.png": plot_similarity(similarity),
        "features.png": plot_modalities(panels, fold["labels"]),
    }
    for name, figure in plots.items():
        figure.savefig(folder / name, dpi=120)
    best.model.save(folder / "student.keras")
    metrics = {
        "settings": settings,
        "runs": [run.row() for run in runs],
        "similarity": {
            name: {"mean": report.mean, "per_class": report.per_class}
            for name, report in similarity.items()
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (folder / "report.md").write_text(_markdown(title, settings, runs, similarity, best))


def _validation(run: Run) -> float:
    return run.outcome.validation_accuracy


def _features(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return FeatureTap(model, {"features": None}, "student").predict(inputs)["features"]


def _markdown(
    title: str, settings: dict[str, Any], runs: list[Run], similarity: dict[str, Any], best: Run
) -> str:
    kinds = list(next(iter(similarity.values())).mean)
    values = [
        (name, *(f"{report.mean[kind]:.2f}" for kind in kinds))
        for name, report in similarity.items()
    ]
    differences = _paired_differences(runs)
    return "\n".join(
        [
            f"# {title}",
            "",
            *_table(COLUMNS, summarize(runs)),
            "",
            f"Distilled minus student alone, by seed: {', '.join(differences)} points.",
            "The test fold is read once, at the epoch that the validation fold chose. The teacher",
            "is not an upper bound: it sees another modality.",
            "",
            "## Settings",
            "",
            *(f"- {name}: {value}" for name, value in settings.items()),
            "",
            "## Learning curves",
            "",
            "![validation accuracy by epoch](learning_curves.png)",
            "",
            f"## Cosine similarity to the teacher's features (test fold, seed {best.seed})",
            "",
            *_table(("student", *(kind.replace("_", " ") for kind in kinds)), values),
            "",
            "`low with dc` contains the mean that non-negative features share. What is left",
            "without it, and is lost with the channels shuffled, is due to frequency.",
            "",
            "![band similarity with its controls](band_similarity.png)",
            "",
            "![teacher and student features in a plane](features.png)",
            "",
        ]
    )


def _paired_differences(runs: list[Run]) -> list[str]:
    accuracy = {(run.method, run.seed): 100 * run.outcome.test_accuracy for run in runs}
    seeds = sorted({run.seed for run in runs})
    return [
        f"{accuracy['distilled', seed] - accuracy['student alone', seed]:+.1f}" for seed in seeds
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
