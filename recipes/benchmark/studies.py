"""The studies of the benchmark: an experiment and a direction each, and their rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.study import Method, Study
from recipes.shared.classification import compile_arguments
from recipes.shared.experiment import BATCH_SIZE, Experiment

BUDGETS = ("all", "few")
Splits = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def gathered(
    experiment: Experiment, seeds: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray, Splits]:
    """Return the inputs of both modalities, the labels, and the rows of each seed's folds.

    A seed has rows of its own, as an experiment may pair its modalities anew for each.
    """
    inputs: dict[str, list[np.ndarray]] = {name: [] for name in experiment.modalities}
    labels: list[np.ndarray] = []
    splits = []
    count = 0
    for seed in seeds:
        folds = experiment.folds(seed)
        rows = []
        for name in ("train", "validation", "test"):
            samples = folds[name]
            rows.append(np.arange(count, count + len(samples.labels)))
            count += len(samples.labels)
            labels.append(samples.labels)
            for modality in inputs:
                inputs[modality].append(samples.inputs[modality])
        splits.append(tuple(rows))
    together = {name: np.concatenate(parts) for name, parts in inputs.items()}
    return together, np.concatenate(labels), splits


def make_study(
    experiment: Experiment,
    direction: tuple[str, str],
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
    budgets: Sequence[str],
    epochs: int,
    folder: Path,
    ensemble: int = 1,
) -> Study:
    """Return the study of one direction, whose splits are the seeds' folds.

    Args:
        experiment: Whose folds and models.
        direction: Modalities of teacher and student.
        methods: By name.
        seeds: A split each.
        budgets: `"all"` labels, `"few"`.
        epochs: Of each model.
        folder: See `keras_fdkd.study.Study`.
        ensemble: Teachers that teach together.
    """
    inputs, labels, splits = gathered(experiment, seeds)
    few = {"all": None, "few": experiment.few_labels}
    build_teacher, build_student = (
        _builder(experiment, modality, inputs[modality][:1]) for modality in direction
    )
    return Study(
        teacher_inputs=inputs[direction[0]],
        student_inputs=inputs[direction[1]],
        labels=labels,
        build_teacher=build_teacher,
        build_student=build_student,
        ensemble=ensemble,
        methods=list(methods.items()),
        cv=splits,
        label_budgets=[few[budget] for budget in budgets],
        trials=max(len(method.candidates) for method in methods.values()),
        compile=compile_arguments(),
        fit={"epochs": epochs, "batch_size": BATCH_SIZE},
        folder=folder,
    )


def benchmark_rows(
    study: Study,
    experiment: Experiment,
    direction: tuple[str, str],
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


def _builder(experiment: Experiment, modality: str, sample: np.ndarray) -> Any:
    build = experiment.build  # Not the experiment, which holds all data.
    return lambda: build(modality, sample)
