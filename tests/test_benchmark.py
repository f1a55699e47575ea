"""The benchmark: what it runs, that it goes on after an interruption, and what a run is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import whole_recipe
from pool_worker import Square, attempts, square

from recipes.benchmark import command as benchmark
from recipes.benchmark.command import grid, parse
from recipes.benchmark.methods import ABLATIONS, METHODS, THREE
from recipes.benchmark.studies import gathered
from recipes.shared.experiment import BATCH_SIZE, UNLABELLED, Batches, Samples, hide_labels
from recipes.shared.experiments import load_experiment
from recipes.variants.alone import new_model
from recipes.variants.pool import read_rows, run_all


def test_finished_rows_are_not_run_again(tmp_path):
    file = tmp_path / "rows.jsonl"
    tasks = [Square(number, str(tmp_path)) for number in range(4)]
    rows = run_all([tasks[:3]], square, file, 2)
    assert sorted(row["square"] for row in rows) == [0, 1, 4]
    # An interruption in the middle of writing.
    whole = file.read_text()
    lost = read_rows(file)[-1]["task"]["number"]
    file.write_text(whole[:-5])
    rows = run_all([tasks], square, file, 2)
    assert sorted(row["square"] for row in rows) == [0, 1, 4, 9]
    expected = {number: 1 + (number == lost) for number in range(4)}
    assert {number: attempts(tmp_path, number) for number in range(4)} == expected


def test_failures_stop_no_other_task(tmp_path):
    tasks = [Square(number, str(tmp_path)) for number in (12, 13, 14)]
    with pytest.raises(RuntimeError, match=r"1 tasks failed, the first: .*13"):
        run_all([tasks], square, tmp_path / "rows.jsonl", 1)
    assert sorted(row["square"] for row in read_rows(tmp_path / "rows.jsonl")) == [144, 196]


def test_killed_and_restarted(tmp_path):
    """Nothing that was finished is lost or run again, and nothing is written twice."""
    script = Path(__file__).parent / "pool_worker.py"
    root = str(script.parents[1])
    command = [sys.executable, str(script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": root}
    file = tmp_path / "rows.jsonl"
    for _ in range(3):
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        before = len(read_rows(file))
        deadline = time.monotonic() + 60
        while len(read_rows(file)) <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        finished = len(read_rows(file))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert finished > before
    subprocess.run(command, env=environment, check=True)
    numbers = [row["task"]["number"] for row in read_rows(file)]
    assert sorted(numbers) == list(range(8))
    # Each of the three kills met at most two tasks at work.
    assert sum(attempts(tmp_path, number) for number in range(8)) <= 8 + 3 * 2


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


def test_methods_start_from_the_same_weights():
    experiment = load_experiment("digits")
    folds = experiment.prepare(0, "few")
    assert (folds["train"].labels != UNLABELLED).sum() == experiment.few_labels
    assert (folds["validation"].labels != UNLABELLED).all()
    models = [
        new_model(experiment, "written", folds["train"].inputs["written"], 5) for _ in range(2)
    ]
    for first, second in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(first, second)


def test_hidden_labels_keep_the_proportions_of_the_classes():
    labels = np.repeat(np.arange(3), [50, 30, 20]).astype("int32")
    hidden = hide_labels(Samples({}, labels), 10, seed=0).labels
    assert [(hidden == label).sum() for label in (0, 1, 2, UNLABELLED)] == [5, 3, 2, 90]
    kept = hidden != UNLABELLED
    np.testing.assert_array_equal(hidden[kept], labels[kept])


def test_batches():
    labels = np.arange(200).astype("int32")
    batches = Batches({"x": labels}, labels, seed=0)
    first = [batches[step] for step in range(len(batches))]
    seen = np.concatenate([y for _, y in first])
    assert len(seen) == len(set(seen)) == 200 // BATCH_SIZE * BATCH_SIZE
    assert all((x["x"] == y).all() for x, y in first)
    batches.on_epoch_end()
    assert not np.array_equal(batches[0][1], first[0][1])
    assert np.array_equal(Batches({"x": labels}, labels, seed=0)[0][1], first[0][1])


def test_batches_mix_labelled_and_unlabelled_samples():
    labels = np.full(200, UNLABELLED, "int32")
    labels[:7] = 1
    batches = Batches(np.arange(200), labels, seed=0)
    counts = np.zeros(200, int)
    for step in range(len(batches)):
        rows, y = batches[step]
        assert (y != UNLABELLED).sum() == BATCH_SIZE // 2
        np.add.at(counts, rows, 1)
    assert counts[:7].min() >= counts[:7].max() - 1  # 96 draws of 7 samples
    assert counts[7:].max() == 1
