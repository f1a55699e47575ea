"""Trial: one variant in one place, trained and measured on the validation fold alone."""

import json
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, losses
from keras_fdkd.study.batches import Pair
from recipes.shared.registry import EXPERIMENTS, load_experiment
from recipes.variants.listed import VARIANTS
from recipes.variants.parts import Scheduled, basis, cross_fitted, followed, in_basis
from recipes.variants.place import Place


@dataclass(frozen=True)
class Trial:
    """One variant on one split."""

    variant: str
    experiment: str
    teacher: str
    student: str
    budget: str
    seed: int


def task(trial: Trial) -> dict[str, Any]:
    """Return what a row is of: the trial, with the backend and the options that made it."""
    # Classes by their names, and lists for tuples, as rows hold them.
    options = json.loads(json.dumps(VARIANTS[trial.variant], default=lambda made: made.__name__))
    return {**asdict(trial), "backend": keras.config.backend(), "options": options}


def run(trial: Trial, folder: Path) -> dict[str, Any]:
    """Train the variant and return its row, from the validation fold alone."""
    place = Place(load_experiment(trial.experiment), trial.budget, trial.seed)
    inputs = place.inputs[trial.student]
    options = VARIANTS[trial.variant]
    if not options:
        student = place.new_model(trial.student)
        accuracy = place.train(student, inputs, trial.student)
        return {"task": task(trial), "validation_accuracy": accuracy}
    of_both = "basis" in options or "followed" in options
    sides = [trial.teacher, *([trial.student] if of_both else [])]
    alone = {side: place.trained_alone(side, folder) for side in sides}
    teacher = alone[trial.teacher]
    # After the models that may have to be trained: what follows draws from the same seed.
    student = place.new_model(trial.student)
    if "basis" in options:
        seen, other = (_features(alone[side], place.inputs[side]) for side in sides)
        matrix = basis(options["basis"], seen, trial.seed, other)
        teacher, student = (in_basis(model, matrix) for model in (teacher, student))
    distiller = _distiller(options, teacher, student, place.steps)
    outputs = distiller.predict_teacher(place.inputs[trial.teacher], 512)
    if options.get("cross_fitted"):
        outputs["predictions"] = cross_fitted(place, trial.teacher)
    sources = {"student": inputs}
    if "followed" in options:
        both = [
            tuple(_features(alone[side], x[side]) for x in (place.inputs, place.validation.inputs))
            for side in sides
        ]
        sources["teacher_weight"] = followed(options["followed"], *both)
    accuracy = place.train(distiller, Pair(sources, outputs), trial.student)
    return {"task": task(trial), "validation_accuracy": accuracy}


def run_safely(folder: Path, trial: Trial) -> dict[str, Any]:
    """Return the row of a trial, or one that holds the traceback if it failed."""
    try:
        return run(trial, folder)
    except Exception:
        return {"task": task(trial), "error": traceback.format_exc()}


def _features(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    tapped = keras.Model(model.input, model.get_layer("feature").output)
    return tapped.predict(inputs, batch_size=512, verbose=0)


def _distiller(
    options: dict[str, Any], teacher: keras.Model, student: keras.Model, steps: int
) -> keras.Model:
    extra = [getattr(losses, name)() for name, _ in options.get("losses", [])]
    weights = [weight for _, weight in options.get("losses", [])]
    if "bands" not in options:
        return CrossModalDistiller(teacher, student, losses=extra, loss_weights=weights)
    given = dict(options["bands"])
    if "maps" in options:
        given |= {f"{side}_features": options["maps"] for side in ("teacher", "student")}
    if "schedule" in options:
        given |= {"schedule": options["schedule"], "steps": steps}
    maker = options.get("maker", Scheduled if "schedule" in options else FrequencyDistiller)
    return maker(teacher, student, extra_losses=extra, extra_loss_weights=weights, **given)


def trials(variants: list[str], seeds: list[int]) -> list[Trial]:
    """Return all trials; digits with all labels are left out, where every variant is near 98 %."""
    found = []
    for name in EXPERIMENTS:
        directions = load_experiment(name).directions()
        budgets = ("few",) if name == "digits" else ("all", "few")
        for variant in variants:
            if VARIANTS[variant].get("maps") and name != "watch":
                continue  # The maps of the others have no axis in common.
            found += [
                Trial(variant, name, *direction, budget, seed)
                for seed in seeds
                for budget in budgets
                for direction in directions
            ]
    return found
