"""The study of an experiment and a direction, whose splits are the folds of its seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.study import Method, Study
from recipes.shared.classification import BATCH_SIZE, compile_arguments
from recipes.shared.experiment import Experiment
from recipes.shared.study_command import Direction

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
    direction: Direction,
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
    budgets: Sequence[str],
    epochs: int,
    trials: int,
    folder: Path,
    starts: Sequence[int] = (0,),
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
        trials: Settings of each method that validation chooses from.
        folder: See `keras_fdkd.study.Study`.
        starts: Seeds of initial weights, in each split.
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
        seeds=starts,
        trials=trials,
        compile=compile_arguments(),
        fit={"epochs": epochs, "batch_size": BATCH_SIZE},
        folder=folder,
    )


def _builder(experiment: Experiment, modality: str, sample: np.ndarray) -> Any:
    build = experiment.build  # Not the experiment, which holds all data.
    return lambda: build(modality, sample)
