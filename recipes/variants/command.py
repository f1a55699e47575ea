"""Variants of the bands, compared on validation folds alone: what was tried to improve them.

No test fold is read here. The table gives the best validation accuracy minus that of the student
alone, in points, mean over the seeds.
"""

import argparse
import json
import os
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, losses
from keras_fdkd.study.batches import Pair
from keras_fdkd.study.processes import Processes, progress
from keras_fdkd.study.row_file import append_row, read_rows
from recipes.shared.experiments import EXPERIMENTS, load_experiment
from recipes.shared.markdown import table
from recipes.variants.parts import (
    Scheduled,
    SoftCutoff,
    Turned,
    basis,
    cross_fitted,
    followed,
    in_basis,
)
from recipes.variants.place import Place

TEACHERS = Path("runs/cache/teachers")
BANDS = {"low_weight": 3.0, "high_weight": 1.0, "align_weight": 0.3}
# As much weight as both bands have together.
WHOLE = {"cutoff": None, "low_weight": 4.0, "high_weight": 0.0, "align_weight": 0.3}
VARIANTS: dict[str, dict[str, Any]] = {
    "student alone": {},
    "KD": {"losses": [["KD", 2.0]]},
    "PKD": {"losses": [["PKD", 6.0]]},
    "DIST": {"losses": [["DIST", 2.0]]},
    "bands (the defaults)": {"bands": BANDS},
    "bands, a third of the weight": {"bands": {**BANDS, "low_weight": 1.0, "high_weight": 0.33}},
    "bands, 3 times the weight": {"bands": {**BANDS, "low_weight": 9.0, "high_weight": 3.0}},
    "bands, 10 times the weight": {"bands": {**BANDS, "low_weight": 30.0, "high_weight": 10.0}},
    "bands, 3 times the weight, no shared classifiers": {
        "bands": {"low_weight": 9.0, "high_weight": 3.0, "align_weight": 0.0},
    },
    "bands, 3 times the weight, classifiers too": {
        "bands": {"low_weight": 9.0, "high_weight": 3.0, "align_weight": 1.0},
    },
    "bands, MSE in both": {"bands": {**BANDS, "high_loss": "mse"}},
    "low band alone": {"bands": {**WHOLE, "cutoff": 0.5}},
    "bands + KD": {"bands": BANDS, "losses": [["KD", 2.0]]},
    "bands + PKD": {"bands": BANDS, "losses": [["PKD", 6.0]]},
    "bands + RKD": {"bands": BANDS, "losses": [["RKD", 0.1]]},
    "bands of shuffled channels": {"bands": BANDS, "basis": "shuffled"},
    "bands of channels in the order of the teacher's correlations": {
        "bands": BANDS, "basis": "seriation",
    },
    "bands of the teacher's principal components": {"bands": BANDS, "basis": "principal"},
    "16 leading principal components, whitened": {"bands": WHOLE, "basis": "whitened"},
    "no split": {"bands": WHOLE},
    "no split, weight 9": {"bands": {**WHOLE, "low_weight": 9.0}},
    "no split, no shared classifier": {"bands": {**WHOLE, "align_weight": 0.0}},
    "no split, shared classifier of weight 1": {"bands": {**WHOLE, "align_weight": 1.0}},
    "no split + KD": {"bands": {**WHOLE, "low_weight": 9.0}, "losses": [["KD", 2.0]]},
    "bands along time (last maps)": {"bands": {**BANDS, "axis": 1}, "maps": "stage3"},
    "bands along channels of the last maps": {"bands": BANDS, "maps": "stage3"},
    "bands along time of the second maps": {"bands": {**BANDS, "axis": 1}, "maps": "stage2"},
    "bands, low frequencies what the student's modality predicts": {
        "bands": BANDS, "basis": "shared",
    },
    "low band alone, what the student's modality predicts": {
        "bands": {**WHOLE, "cutoff": 0.5}, "basis": "shared",
    },
    "16 directions that the student's modality predicts, whitened": {
        "bands": WHOLE, "basis": "shared, whitened",
    },
    "bands after a learned orthogonal map": {"bands": BANDS, "maker": Turned},
    "bands of a learned, soft cutoff": {"bands": BANDS, "maker": SoftCutoff},
    "bands, rising over the first quarter": {"bands": BANDS, "schedule": "rise"},
    "bands, fading to 0": {"bands": BANDS, "schedule": "fade"},
    "bands, fading to 0 in the first half": {"bands": BANDS, "schedule": "fade early"},
    "no split, fading to 0": {"bands": WHOLE, "schedule": "fade"},
    "bands, a tenth of the weight, classifiers too": {
        "bands": {"low_weight": 0.3, "high_weight": 0.1, "align_weight": 0.03},
    },
    "shared classifiers alone": {"bands": {**BANDS, "low_weight": 0.0, "high_weight": 0.0}},
    "bands, each pair by how well the student tells it": {"bands": BANDS, "followed": "samples"},
    "bands, by how well the student tells held-out pairs": {"bands": BANDS, "followed": "held out"},
    "no split, each pair by how well the student tells it": {
        "bands": WHOLE, "followed": "samples",
    },
    "no split, by how well the student tells held-out pairs": {
        "bands": WHOLE, "followed": "held out",
    },
    "KD, cross-fitted teacher": {"losses": [["KD", 2.0]], "cross_fitted": True},
    "bands + KD, cross-fitted teacher": {
        "bands": BANDS, "losses": [["KD", 2.0]], "cross_fitted": True,
    },
}  # fmt: skip


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


def report(rows: list[dict[str, Any]]) -> list[str]:
    """Return a table of all variants on the seeds that all have, and one of those with more."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row["task"]["variant"], set()).add(row["task"]["seed"])
    common, most = set.intersection(*seeds.values()), max(seeds.values(), key=len)
    lines = [f"## All variants, seeds {sorted(common)}", "", *_differences(rows, seeds, common)]
    if most != common:
        chosen = [variant for variant in seeds if seeds[variant] >= most]
        lines += [f"## Some variants, seeds {sorted(most)}", "", *_differences(rows, chosen, most)]
    return lines


def _differences(rows: list[dict[str, Any]], variants: Iterable[str], seeds: set[int]) -> list[str]:
    accuracy: dict[tuple, dict[str, float]] = {}
    for row in rows:
        task = row["task"]
        if task["seed"] in seeds:
            place = task["experiment"], task["student"], task["budget"]
            values = accuracy.setdefault((place, task["seed"]), {})
            values[task["variant"]] = 100 * row["validation_accuracy"]
    places = sorted({place for place, _ in accuracy})
    lines = []
    for variant in variants:
        cells = []
        for place in places:
            found = [
                values[variant] - values["student alone"]
                for (other, _), values in accuracy.items()
                if other == place and variant in values
            ]
            cells.append(float(np.mean(found)) if found else float("nan"))
        lines.append((float(np.mean(cells)), variant, cells))
    # NaN would upset the order: variants without a mean come last.
    lines.sort(key=lambda line: (np.isnan(line[0]), -line[0]))
    head = ("variant", "mean", *(f"{e} to {s}, {b}" for e, s, b in places))
    return table(
        head,
        [
            (variant, *("" if np.isnan(cell) else f"{cell:+.1f}" for cell in (mean, *cells)))
            for mean, variant, cells in lines
        ],
    )


def _current(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that did not fail and that this backend and these variants would give."""
    names = [field.name for field in fields(Trial)]
    return [
        row
        for row in rows
        if "error" not in row
        and row["task"]["variant"] in VARIANTS
        and row["task"] == task(Trial(**{name: row["task"][name] for name in names}))
    ]


def main(arguments: list[str] | None = None) -> None:
    """Run the trials that are missing and write the tables of all rows that are there."""
    parser = argparse.ArgumentParser("python -m recipes.variants", description=__doc__)
    add = parser.add_argument
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="which")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="splits")
    add("--processes", type=int, default=os.cpu_count(), help="at a time")
    add("--output", type=Path, default=Path("runs/variants"), help="folder")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "rows.jsonl"
    # Trials that failed are run again, and so are those of other options or another backend.
    done = [row["task"] for row in _current(read_rows(file))]
    todo = [one for one in trials(options.variants, options.seeds) if task(one) not in done]
    with (
        Processes(run_safely, TEACHERS, options.processes) as processes,
        progress(len(todo), "trials", 1) as advance,
    ):
        for row in processes.run(todo):
            append_row(file, row)
            advance()
    rows = _current(read_rows(file))
    text = "\n".join([f"# {__doc__}", *report(rows)])
    (options.output / "variants.md").write_text(text)
    if len(rows) < len(done) + len(todo):
        raise SystemExit(f"{len(done) + len(todo) - len(rows)} trials failed: see {file}.")
