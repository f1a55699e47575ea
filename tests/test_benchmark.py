"""The benchmark: what it runs, and that it goes on after an interruption."""

import json

import numpy as np
import pytest
from conftest import whole_recipe

from keras_fdkd.study.row_file import read_rows
from recipes.benchmark import command as benchmark
from recipes.benchmark.command import grid, parse
from recipes.benchmark.methods import ABLATIONS, METHODS, THREE
from recipes.shared.experiment_study import gathered
from recipes.shared.registry import load_experiment


def test_grid():
    options = parse(["--experiments", "watch", "digits", "--seeds", "0", "1"])
    tasks = grid(options)
    assert len({json.dumps(task) for task in tasks}) == len(tasks)
    alone = [task for task in tasks if task["method"] == "none"]
    ablated = [task for task in tasks if task["base"]]
    assert len(alone) == 2 * 2 * 2 * 2  # seeds, experiments, budgets, modalities
    assert len(ablated) == 2 * 2 * 2 * len(ABLATIONS)
    maps = {"at", "afd"}  # The models of the digits have no maps in common.
    distilled = 2 * 2 * (2 * len({**METHODS, **THREE}) - len(maps)) * 2
    assert len(tasks) == len(alone) + len(ablated) + distilled
    assert all(task["teacher"] != task["student"] for task in tasks)
    few = grid(parse(["--experiments", "digits", "--budgets", "few", "--methods", "kd"]))
    assert {task["method"] for task in few} == {"none", "kd"}


@whole_recipe
def test_the_benchmark_goes_through_studies(tmp_path):
    """Run again it trains nothing, and the report has a row for each task."""
    asked = ["--experiments", "digits", "--seeds", "3", "--epochs", "1", "--budgets", "few",
             "--methods", "kd", "ours_three", "--processes", "1",
             "--output", str(tmp_path)]  # fmt: skip
    benchmark.main(asked)
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["task"] for row in rows] == grid(parse(asked))
    benchmark.main(asked)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    row = next(row for row in rows if row["task"]["method"] == "kd")
    assert [one["setting"] for one in row["candidates"]] == list(METHODS["kd"].candidates)
    best = max(row["candidates"], key=lambda one: one["validation_accuracy"])
    assert row["validation_accuracy"] == best["validation_accuracy"]
    assert max(row["curve"]) == pytest.approx(best["validation_accuracy"], abs=1e-4)  # rounded
    assert f"{len(rows)} of {len(rows)} expected rows" in (tmp_path / "report.md").read_text()


def test_the_rows_of_a_study_are_the_folds_of_the_seeds():
    experiment = load_experiment("digits")
    inputs, labels, splits = gathered(experiment, [0, 3])
    for seed, split in zip([0, 3], splits, strict=True):
        for rows, fold in zip(split, ("train", "validation", "test"), strict=True):
            samples = experiment.folds(seed)[fold]
            np.testing.assert_array_equal(labels[rows], samples.labels)
            for name, values in samples.inputs.items():
                np.testing.assert_array_equal(inputs[name][rows], values)
