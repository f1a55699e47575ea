"""Variants of the bands, compared on validation folds alone: what was tried to improve them.

No test fold is read here. The table gives the best validation accuracy minus that of the student
alone, in points, mean over the seeds.
"""

import argparse
import functools
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, losses
from recipes.experiments import EXPERIMENTS, load_experiment
from recipes.markdown import table
from recipes.pool import read_rows, run_all
from recipes.tasks import TEACHERS, new_model, trained_alone
from recipes.training import train

BANDS = {"low_weight": 3.0, "high_weight": 1.0, "align_weight": 0.3}
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
    "bands along time (last maps)": {"bands": {**BANDS, "axis": 1}, "maps": True},
    "bands along channels of the last maps": {"bands": BANDS, "maps": True},
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

    @property
    def key(self) -> str:
        """Identifies the trial in the rows."""
        return json.dumps(asdict(self), sort_keys=True)


def run(trial: Trial, folder: Path) -> dict[str, Any]:
    """Train the variant and return its row, from the validation fold alone."""
    experiment = load_experiment(trial.experiment)
    folds = experiment.prepare(trial.seed, trial.budget)
    samples, validation = folds["train"], folds["validation"]
    inputs = samples.inputs[trial.student]
    student = new_model(experiment, trial.student, inputs, trial.seed)
    options = VARIANTS[trial.variant]
    trainer, x = student, inputs
    if options:
        teacher = trained_alone(
            experiment, folds, trial.teacher, trial.budget, trial.seed, 0, folder
        )
        trainer = _distiller(options, teacher, student, samples.inputs[trial.teacher], trial.seed,
                             experiment.maps[-1:])  # fmt: skip
        x = samples.pair(trial.teacher, trial.student)
        x["teacher_outputs"] = trainer.predict_teacher(x.pop("teacher"), 512)
    outcome = train(
        trainer, x, samples.labels, (validation.inputs[trial.student], validation.labels), None,
        epochs=experiment.epochs, seed=trial.seed,
    )  # fmt: skip
    return {"task": asdict(trial), "validation_accuracy": outcome.validation_accuracy}


def _distiller(
    options: dict[str, Any],
    teacher: keras.Model,
    student: keras.Model,
    teacher_inputs: np.ndarray,
    seed: int,
    maps: tuple[str, ...],
) -> keras.Model:
    extra = [getattr(losses, name)() for name, _ in options.get("losses", [])]
    weights = [weight for _, weight in options.get("losses", [])]
    if "bands" not in options:
        return CrossModalDistiller(teacher, student, losses=extra, loss_weights=weights)
    taps = {}
    if options.get("maps"):
        taps = {"teacher_features": maps[0], "student_features": maps[0]}
    if "basis" in options:
        features = keras.Model(teacher.input, teacher.get_layer("feature").output)
        matrix = basis(options["basis"], features.predict(teacher_inputs, verbose=0), seed)
        teacher, student = (_in_basis(model, matrix) for model in (teacher, student))
    return FrequencyDistiller(
        teacher, student, extra_losses=extra, extra_loss_weights=weights, **taps, **options["bands"]
    )


def basis(kind: str, features: np.ndarray, seed: int) -> np.ndarray:
    """Return a matrix whose columns are the new axes of features of shape `(samples, dim)`.

    Args:
        kind: `"shuffled"`: the axes in random order. `"seriation"`: in the order of the Fiedler
            vector of their correlations, so that neighbours are correlated (Atkins et al., 1998).
            `"principal"`: the principal components. `"whitened"`: 16 of them, of unit variance.
        features: Of the teacher.
        seed: Of the random order.
    """
    size = features.shape[1]
    if kind == "shuffled":
        return np.eye(size)[:, np.random.default_rng(seed).permutation(size)]
    centred = features - features.mean(0)
    if kind == "seriation":
        noise = np.random.default_rng(0).normal(size=features.shape)  # for channels that are dead
        similarity = (np.corrcoef((centred / (centred.std(0) + 1e-6) + 1e-9 * noise).T) + 1) / 2
        laplacian = np.diag(similarity.sum(1)) - similarity
        return np.eye(size)[:, np.argsort(np.linalg.eigh(laplacian)[1][:, 1])]
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    if kind == "principal":
        return axes.T
    return axes[:16].T / (values[:16] / len(centred) ** 0.5 + 1e-6)


def _in_basis(model: keras.Model, matrix: np.ndarray) -> keras.Model:
    """Return the model with its feature in another basis, its logits as they are."""
    change = keras.layers.Dense(matrix.shape[1], use_bias=False, trainable=False, name="basis")
    feature = change(model.get_layer("feature").output)
    change.set_weights([matrix.astype("float32")])
    return keras.Model(model.input, {"features": feature, "logits": model.output})


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
    lines.sort(key=lambda line: (np.isnan(line[0]), -line[0]))
    head = ("variant", "mean", *(f"{e} to {s}, {b}" for e, s, b in places))
    return table(
        head,
        [
            (variant, *("" if np.isnan(cell) else f"{cell:+.1f}" for cell in (mean, *cells)))
            for mean, variant, cells in lines
        ],
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the trials that are missing and write the tables of all rows that are there."""
    parser = argparse.ArgumentParser("python -m recipes.variants", description=__doc__)
    add = parser.add_argument
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="which")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="splits")
    add("--processes", type=int, default=os.cpu_count(), help="at a time")
    add("--output", type=Path, default=Path("runs/variants"), help="folder")
    options = parser.parse_args(arguments)
    file = options.output / "rows.jsonl"
    work = functools.partial(run, folder=TEACHERS)
    run_all([trials(options.variants, options.seeds)], work, file, options.processes)
    text = "\n".join([f"# {__doc__}", *report(read_rows(file))])
    (options.output / "variants.md").write_text(text)


if __name__ == "__main__":
    main()
