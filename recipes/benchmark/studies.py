"""The rows of the benchmark's studies, as its report reads them."""

from collections.abc import Sequence
from typing import Any

from keras_fdkd.study import Study
from recipes.shared.experiment import Experiment
from recipes.shared.study_command import Direction


def benchmark_rows(
    study: Study,
    experiment: Experiment,
    direction: Direction,
    seeds: Sequence[int],
    epochs: int,
    base: str,
) -> list[dict[str, Any]]:
    """Return the rows of a study as the benchmark's report reads them.

    Args:
        study: That has run.
        experiment: Of the study.
        direction: Modalities of teacher and student.
        seeds: Of its splits.
        epochs: As asked for, 0 for the experiment's own number.
        base: The method that its methods change, for rows of an ablation, else `""`.
    """
    found = []
    results = study.results()
    for row in results.rows:
        run = row["run"]
        # In the report, the teacher is the student alone of the other direction.
        if run["method"] == "teacher":
            continue
        alone = run["method"] == "none"
        task = {
            "experiment": experiment.name,
            "teacher": "" if alone else direction[0],
            "student": direction[1],
            "budget": "all" if run["budget"] is None else "few",
            "method": run["method"],
            "seed": seeds[run["split"]],
            "epochs": epochs,
            "base": "" if alone else base,
        }
        tried = [
            {"setting": one["setting"], "validation_accuracy": one["validation"]}
            for one in row.get("tried", ())
        ]
        found.append({
            "task": task,
            "setting": row.get("setting", {}),
            "candidates": tried,
            "validation_accuracy": row["validation"],
            "test_accuracy": row["score"],
            "epoch": row["epoch"],
            "curve": [round(value, 4) for value in row["curve"]],
            "seconds_per_step": row["seconds_per_step"],
            "parameters": row["parameters"],
            "seconds": row["seconds"],
            "overlap": results.info["splits"][run["split"]]["overlap"],
        })  # fmt: skip
    return found
