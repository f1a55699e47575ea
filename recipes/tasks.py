"""One run of the benchmark: train a method on one split, choose on validation, test once."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.analysis import band_similarity
from keras_fdkd.features import FeatureTap
from recipes.experiment import Experiment, Samples
from recipes.experiments import load_experiment
from recipes.methods import METHODS, Method, Setting
from recipes.training import Outcome, train

TEACHERS = Path("runs/cache/teachers")


@dataclass(frozen=True)
class Task:
    """What to run. Equal tasks give equal rows, so a finished one is never run again.

    Attributes:
        experiment: Its name.
        teacher, student: Modalities; `teacher` is empty if nothing is distilled.
        budget: `"all"` labels or `"few"`.
        method: A key of `METHODS`, or a name of its own with `settings`.
        seed: Of the split, the initial weights and the batches.
        epochs: 0 for the experiment's own number.
        base: The method whose maker an own name uses.
        settings: Candidates in place of the method's own.
    """

    experiment: str
    teacher: str
    student: str
    budget: str
    method: str
    seed: int
    epochs: int = 0
    base: str = ""
    settings: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        """Identifies the task in rows and file names."""
        return json.dumps(asdict(self), sort_keys=True)


def run(task: Task, folder: Path) -> dict[str, Any]:
    """Run a task and return its row.

    Args:
        task: What to run.
        folder: Where trained teachers are kept.
    """
    start = time.perf_counter()
    experiment = load_experiment(task.experiment)
    folds = experiment.prepare(task.seed, task.budget)
    epochs = task.epochs or experiment.epochs
    if task.method == "none":
        model, outcome = _train_alone(experiment, folds, task.student, task.seed, epochs)
        file = _weights_file(folder, experiment, task.student, task.budget, task.seed, task.epochs)
        _save(model, file)
        tried: list[dict[str, Any]] = []
        setting: Setting = {}
        similarity = None
    else:
        model, outcome, setting, tried, similarity = _distilled(
            task, experiment, folds, epochs, folder
        )
    return {
        "task": asdict(task),
        "setting": setting,
        "candidates": tried,
        "validation_accuracy": outcome.validation_accuracy,
        "test_accuracy": outcome.test_accuracy,
        "epoch": outcome.epoch,
        "curve": [round(value, 4) for value in outcome.history["val_accuracy"]],
        "seconds_per_step": outcome.seconds_per_step,
        "parameters": model.count_params(),
        "similarity": similarity,
        "seconds": time.perf_counter() - start,
    }


def _train_alone(
    experiment: Experiment, folds: dict[str, Samples], modality: str, seed: int, epochs: int
) -> tuple[keras.Model, Outcome]:
    """Train a model of one modality by itself: the baseline, and the other direction's teacher."""
    inputs = folds["train"].inputs[modality]
    model = new_model(experiment, modality, inputs, seed)
    outcome = train(
        model,
        inputs,
        folds["train"].labels,
        *(_side(folds[name], modality) for name in ("validation", "test")),
        epochs=epochs,
        seed=seed,
    )
    return model, outcome


def _distilled(
    task: Task, experiment: Experiment, folds: dict[str, Samples], epochs: int, folder: Path
) -> tuple[keras.Model, Outcome, Setting, list[dict[str, Any]], dict[str, float] | None]:
    """Train with every candidate setting; the validation fold chooses, the test is read once."""
    method = METHODS[task.base or task.method]
    settings = tuple(json.loads(text) for text in task.settings) or method.settings
    train_fold = folds["train"]
    sides = {name: _side(folds[name], task.student) for name in ("validation", "test")}
    best = None
    tried = []
    for setting in settings:
        teacher = trained_alone(
            experiment, folds, task.teacher, task.budget, task.seed, task.epochs, folder
        )
        student = new_model(experiment, task.student, train_fold.inputs[task.student], task.seed)
        distiller = _distiller(method, teacher, student, experiment, train_fold, setting)
        x = train_fold.pair(task.teacher, task.student)
        if method.frozen_teacher:
            x["teacher_outputs"] = distiller.predict_teacher(x.pop("teacher"), 512)
        outcome = train(
            distiller, x, train_fold.labels, sides["validation"], None,
            epochs=epochs, seed=task.seed,
        )  # fmt: skip
        tried.append({"setting": setting, "validation_accuracy": outcome.validation_accuracy})
        if best is None or outcome.validation_accuracy > best[1].validation_accuracy:
            best = distiller, outcome, setting
    distiller, outcome, setting = best
    accuracy = distiller.evaluate(*sides["test"], batch_size=512, verbose=0, return_dict=True)
    outcome = outcome.tested(accuracy["accuracy"])
    similarity = None
    if method.similarity:
        similarity = _similarity(distiller, folds["test"], task)
    return distiller.student, outcome, setting, tried, similarity


def _distiller(
    method: Method,
    teacher: keras.Model,
    student: keras.Model,
    experiment: Experiment,
    samples: Samples,
    setting: Setting,
) -> keras.Model:
    return method.make(teacher, student, experiment, len(samples.labels), **setting)


def trained_alone(
    experiment: Experiment,
    folds: dict[str, Samples],
    modality: str,
    budget: str,
    seed: int,
    epochs: int,
    folder: Path,
) -> keras.Model:
    """Return the model trained alone on a modality, from its file in `folder` if it is there."""
    file = _weights_file(folder, experiment, modality, budget, seed, epochs)
    if not file.exists():
        number = epochs or experiment.epochs
        model, _ = _train_alone(experiment, folds, modality, seed, number)
        _save(model, file)
        return model
    model = new_model(experiment, modality, folds["train"].inputs[modality], seed)
    model.load_weights(file)
    return model


def new_model(experiment: Experiment, modality: str, inputs: np.ndarray, seed: int) -> keras.Model:
    """Return an untrained model; its initial weights are the same for every method."""
    keras.utils.set_random_seed(seed)
    return experiment.build(modality, inputs)


def _side(samples: Samples, modality: str) -> tuple[np.ndarray, np.ndarray]:
    return samples.inputs[modality], samples.labels


def _weights_file(
    folder: Path, experiment: Experiment, modality: str, budget: str, seed: int, epochs: int
) -> Path:
    suffix = f"-{epochs}" if epochs else ""
    name = f"{experiment.name}-{modality}-{budget}-{seed}{suffix}.weights.h5"
    return folder / keras.config.backend() / name


def _save(model: keras.Model, file: Path) -> None:
    """Write so that no other process ever reads half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{os.getpid()}-{file.name}")
    model.save_weights(part)
    part.replace(file)


def _similarity(distiller: keras.Model, samples: Samples, task: Task) -> dict[str, float]:
    """Cosine similarity of the bands of both features on unseen samples, with its controls."""
    features = {
        role: FeatureTap(model, {"features": None}, role).predict(samples.inputs[modality], 512)[
            "features"
        ]
        for role, model, modality in (
            ("teacher", distiller.teacher, task.teacher),
            ("student", distiller.student, task.student),
        )
    }
    return {name: float(value) for name, value in band_similarity(features).mean.items()}
