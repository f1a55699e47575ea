"""A study of one's own pair: fair, resumable, for any task and any kind of data."""

import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import study_worker
from conftest import classifier, cross_entropy, whole_recipe
from sklearn.model_selection import GroupShuffleSplit, KFold, PredefinedSplit
from study_worker import COUNT, arguments, data

from keras_fdkd import CrossModalDistiller, Ensemble, RecordedTeacher
from keras_fdkd.losses import KD, PKD
from keras_fdkd.study import Method, Results, Study, methods
from keras_fdkd.study import runs as study_runs
from keras_fdkd.study.identity import keep_splits, kept_splits, origin
from keras_fdkd.study.labels import Labels
from keras_fdkd.study.protocol import Protocol
from keras_fdkd.study.row_file import append_row, read_rows
from keras_fdkd.study.runs import make_distiller
from keras_fdkd.study.splits import make_splits
from keras_fdkd.study.work import Run


def told(results):
    """Return what must not depend on how the runs came about."""
    rows = [
        {key: row[key] for key in ("run", "score", "validation", "curve")} for row in results.rows
    ]
    return sorted(rows, key=lambda row: json.dumps(row["run"]))


def test_a_study_on_each_backend(tmp_path, capsys):
    asked = arguments(label_budgets=(None, 12), folder=tmp_path / "study")
    results = Study(**asked).run()
    assert not results.failures
    assert len(results.rows) == 2 * 2 * 3  # splits, budgets, and teacher, none, kd
    for budget in (None, 12):
        none, kd = results.summaries(budget)
        assert (none.method, kd.method, kd.tried) == ("none", "kd", 1)
        own = [results.runs("kd", budget)[split, 0]["score"] for split in (0, 1)]
        other = [results.runs("none", budget)[split, 0]["score"] for split in (0, 1)]
        np.testing.assert_allclose(kd.gain.values, np.subtract(own, other))
    results.table()
    assert "12 labels: accuracy on the test folds" in capsys.readouterr().out
    assert "all labels" in str(results.recommend())
    report = results.report(tmp_path / "report.md").read_text()
    assert "| no distillation |" in report
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"report_{kind}.png" for kind in ("gains", "curves", "budgets", "cost")
    }
    assert results.plot()._repr_png_().startswith(b"\x89PNG")  # What a notebook shows.
    assert told(Results.load(tmp_path / "study")) == told(results)


@whole_recipe
def test_stopped_anywhere_it_ends_with_the_same_rows(tmp_path, monkeypatch):
    asked = arguments(methods=["fdcmkd"], seeds=(0, 1), trials=6, cv=1)
    whole = told(Study(**asked, folder=tmp_path / "whole").run())
    candidate = study_runs._candidate
    left = 0

    def stopping(*args):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return candidate(*args)

    monkeypatch.setattr(study_runs, "_candidate", stopping)
    stops = 0
    while True:
        left = 2
        try:
            results = Study(**asked, folder=tmp_path / "stopped").run()
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 2
    assert told(results) == whole
    assert len(results.runs("fdcmkd", None)[0, 0]["tried"]) == 6


@whole_recipe
def test_killed_at_random_it_ends_with_the_same_rows(tmp_path):
    """Nothing that has ended is lost or run again, in two processes that are killed."""
    script = Path(__file__).parent / "study_worker.py"
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    file = tmp_path / "killed" / "rows.jsonl"
    command = [sys.executable, str(script), str(file.parent)]
    rng = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        before = len(read_rows(file))
        deadline = time.monotonic() + 120
        while len(read_rows(file)) <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.random())
        ended = read_rows(file)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert len(ended) > before
    subprocess.run(command, env=environment, check=True)
    rows = read_rows(file)
    assert rows[: len(ended)] == ended
    killed = Results.load(file.parent)
    expected = Study(**study_worker.ARGUMENTS).run()
    assert len(rows) == len(killed.rows) == 3 * 4  # splits; teacher, none and two methods
    assert told(killed) == told(expected)


@whole_recipe
def test_processes_end_with_the_same_rows(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Own(keras.layers.Layer):  # Unknown to other processes, and it comes from a function.
        def call(self, x):
            return x * 1.0

    def teacher():
        stack = [keras.Input((6,)), Own(), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
        return keras.Sequential(stack)

    given = {"build_teacher": None, "teacher": teacher(), "teacher_trained_on": []}

    def mine(teacher, student):
        return CrossModalDistiller(teacher, student, losses=[PKD()])

    asked = arguments(methods=["kd", ("mine", mine)], **given)
    one = Study(**asked, folder=tmp_path / "one").run()
    two = Study(**asked, folder=tmp_path / "two").run(n_jobs=2)
    assert not one.failures + two.failures
    assert told(one) == told(two)


@whole_recipe
def test_every_method_starts_from_the_same_weights_and_batches(monkeypatch):
    starts, seen = [], []

    def student():
        model = classifier(4)
        starts.append(model.get_weights()[0].sum())
        return model

    class Spy(CrossModalDistiller):
        def train_step(self, data):
            seen.append(keras.ops.convert_to_numpy(data[0]["student"]).sum())
            return super().train_step(data)

    def spied(teacher, student, weight):
        return Spy(teacher, student, losses=[KD()], loss_weights=[weight])

    one, two = Method(spied, ({"weight": 1.0},)), Method(spied, ({"weight": 5.0},))
    study = Study(**arguments(build_student=student, methods=[("one", one), ("two", two)], cv=1))
    del starts[:]
    results = study.run()
    assert not results.failures
    assert len(set(starts)) == 1
    half = len(seen) // 2
    assert half == 2 * 2  # epochs, steps
    assert seen[:half] == seen[half:]


@whole_recipe
def test_the_test_fold_is_read_once_and_chooses_nothing(monkeypatch):
    study = Study(**arguments(methods=["fdcmkd"], trials=4, cv=1, build_teacher=None,
                              teacher=classifier(6), teacher_trained_on=[]))  # fmt: skip
    (split,) = study._work.splits
    assert not set(split.test) & {*split.train, *split.validation}
    assert not set(split.train) & set(split.validation)
    read = []
    fold = study_runs._fold

    def folds(work, source, rows):
        read.append(tuple(rows))
        return fold(work, source, rows)

    monkeypatch.setattr(study_runs, "_fold", folds)
    results = study.run()
    assert not results.failures
    assert read.count(tuple(split.test)) == 3  # The teacher, no distillation, the method.
    assert read.count(tuple(split.validation)) == 2 + 4


@whole_recipe
def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    def broken(teacher, student, at_once):
        distiller = CrossModalDistiller(teacher, student, losses=[KD()])
        if at_once:
            distiller.fit = lambda *args, **kwargs: 1 / 0
        return distiller

    method = Method(broken, ({"at_once": 1},))
    asked = arguments(methods=[("broken", method), "kd"], folder=tmp_path)
    results = Study(**asked).run()
    assert len(results.failures) == 2
    assert "ZeroDivisionError" in results.failures[0]["error"]
    assert "`broken` 2" in " ".join(results.warnings())
    assert [line.method for line in results.summaries()] == ["none", "kd"]


@whole_recipe
def test_a_setting_that_diverges_is_not_chosen():
    def wild(teacher, student, weight):
        return CrossModalDistiller(teacher, student, losses=[PKD()], loss_weights=[weight])

    method = Method(wild, ({"weight": 1e38}, {"weight": 1.0}))
    asked = arguments(methods=[("wild", method)], trials=2, cv=1, score="loss")
    results = Study(**asked).run()
    (line,) = results.summaries()[1:]
    assert line.setting == {"weight": 1.0}
    assert line.tried == 2


@whole_recipe
@pytest.mark.parametrize("kind", ["values", "independent labels", "unlabelled values"])
def test_other_tasks(kind):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(COUNT, 2)).astype("float32")
    loss, metric, methods = "mse", "mae", ["pkd", "fdcmkd"]
    if kind == "independent labels":
        values = (values > 0).astype("float32")
        loss, metric = keras.losses.BinaryCrossentropy(from_logits=True), "binary_accuracy"
        methods = ["binary_kd", "fdcmkd"]
    asked = arguments(
        labels=values, methods=methods,
        build_teacher=lambda: classifier(6, classes=2),
        build_student=lambda: classifier(4, classes=2),
        compile={"optimizer": "adam", "loss": loss, "metrics": [metric]},
        label_budgets=[None] if kind == "values" else [12], cv=KFold(2),
    )  # fmt: skip
    study = Study(**asked)
    results = study.run()
    assert not results.failures
    assert results.info["mode"] == ("max" if kind == "independent labels" else "min")
    for line in results.summaries(asked["label_budgets"][0])[1:]:
        rows = [results.runs(name, line.budget) for name in ("none", line.method)]
        lower = np.mean([rows[0][place]["score"] - rows[1][place]["score"] for place in rows[0]])
        assert line.gain.mean == pytest.approx(lower * (1 if results.info["mode"] == "min" else -1))


@whole_recipe
def test_inputs_from_functions_and_memory_maps_are_those_of_arrays(tmp_path):
    arrays = data()
    np.save(tmp_path / "teacher.npy", arrays["teacher_inputs"])
    mapped = np.load(tmp_path / "teacher.npy", mmap_mode="r")
    lazily = {
        "teacher_inputs": mapped,
        "student_inputs": lambda rows: arrays["student_inputs"][rows],
    }
    one, two = (Study(**arguments(cv=1, **given)).run() for given in ({}, lazily))
    assert not two.failures
    assert told(one) == told(two)


@whole_recipe
def test_recorded_and_several_teachers():
    arrays = data()
    teacher = classifier(6)
    logits = teacher.predict(arrays["teacher_inputs"], verbose=0)
    given = {"build_teacher": None, "teacher_trained_on": [], "cv": 1}
    live = Study(**arguments(teacher=teacher, **given)).run()
    recorded = Study(
        **arguments(
            teacher=RecordedTeacher(logits=(3,)), teacher_inputs={"logits": logits}, **given
        )
    ).run()
    assert not live.failures + recorded.failures
    for place, row in live.runs("kd", None).items():
        assert recorded.runs("kd", None)[place]["validation"] == pytest.approx(row["validation"])
    several = Study(**arguments(cv=1, ensemble=2, methods=["fdcmkd"]))
    results = several.run()
    assert not results.failures
    (teacher,) = (row["run"] for row in results.runs("teacher", None).values())
    assert isinstance(several._work.trained_teacher(Run(**teacher)), Ensemble)


def test_unlabelled_samples_of_groups_that_are_held_out_are_not_trained_on():
    arrays = data()
    groups = np.repeat(np.arange(10), COUNT // 10)
    arrays["labels"][::3] = -1
    study = Study(**arguments(**arrays, groups=groups, cv=GroupShuffleSplit(3, random_state=0)))
    for split in study._work.splits:
        folds = [set(groups[rows]) for rows in (split.train, split.validation, split.test)]
        assert sum(map(len, folds)) == len(set.union(*folds))
        assert (arrays["labels"][split.train] == -1).any()
        assert not (arrays["labels"][[*split.validation, *split.test]] == -1).any()


def test_rows_that_a_teacher_knows_are_not_evaluated():
    known = np.arange(0, COUNT, 2)
    given = {"build_teacher": None, "teacher": classifier(6)}
    study = Study(**arguments(**given, teacher_trained_on=known))
    for split in study._work.splits:
        assert not set(known) & {*split.validation, *split.test}
    assert not study.results().warnings()
    (warning,) = Study(**arguments(**given)).results().warnings()
    assert "teacher_trained_on" in warning


def test_a_folder_of_another_study_is_refused(tmp_path):
    study = Study(**arguments(folder=tmp_path))
    (tmp_path / "study.json").write_text(json.dumps(study._info))
    Study(**arguments(folder=tmp_path, methods=["kd", "pkd"], seeds=(0, 5)))  # May be added.
    for change, named in [
        ({"build_student": lambda: classifier(4, features=8)}, "build_student"),
        ({"fit": {"epochs": 3, "batch_size": 16}}, "fit"),
        ({"trials": 2}, "trials"),
        (
            {"methods": [("kd", dataclasses.replace(methods["kd"], candidates=({"weight": 7},)))]},
            "method 'kd'",
        ),
    ]:
        with pytest.raises(ValueError, match=f"holds the runs of another study.*{named}"):
            Study(**arguments(folder=tmp_path, **change))


def test_a_folder_with_other_splits_is_refused(tmp_path):
    """What splits are drawn from decides what may be tested, so it is no detail."""
    given = {"build_teacher": None, "teacher": classifier(6), "folder": tmp_path, "cv": 1}
    Study(**arguments(**given)).run(verbose=0)
    for change in (
        {"teacher_trained_on": range(40)},
        {"groups": np.arange(COUNT) // 2},
        {"validation": 0.5},
        {"labels": np.roll(data()["labels"], 1)},
        {"cv": [(np.arange(40), np.arange(40, 60))]},
    ):
        with pytest.raises(ValueError, match="a study with other splits"):
            Study(**arguments(**{**given, **change}))


def test_long_splitters_are_told_apart(tmp_path):
    """Their text leaves the middle of an array out."""
    folds = np.zeros(2000, int)
    folds[1000:] = 1
    other = folds.copy()
    other[[700, 1300]] = 1, 0
    assert str(PredefinedSplit(folds)) == str(PredefinedSplit(other))
    splits = [kept(PredefinedSplit(one), tmp_path) for one in (folds, folds)]
    np.testing.assert_array_equal(*(split.test for split, _ in splits))
    with pytest.raises(ValueError, match="a study with other splits"):
        kept(PredefinedSplit(other), tmp_path)


def kept(splitter, folder):
    labels = Labels(np.arange(2000) % 2)
    drawn, again = (make_splits(labels, splitter, 0.2, None, None) for _ in range(2))
    text = origin(splitter, 0.2, drawn, again, labels.values)
    splits = kept_splits(folder, text, drawn)
    keep_splits(folder, text, splits)
    return splits


def test_a_constructor_that_fails_leaves_no_splits(tmp_path):
    with pytest.raises(ValueError, match="`score` must be"):
        Study(**arguments(folder=tmp_path, score="f1"))
    Study(**arguments(folder=tmp_path, labels=np.roll(data()["labels"], 1)))


def test_methods_of_former_runs_stay_known(tmp_path):
    asked = {"folder": tmp_path, "cv": 1, "fit": {"epochs": 1, "batch_size": 16}}
    Study(**arguments(**asked)).run(verbose=0)
    Study(**arguments(**asked, methods=["pkd"])).run(verbose=0)
    assert Results.load(tmp_path).methods == ["kd", "pkd"]
    other = dataclasses.replace(methods["kd"], space={})
    with pytest.raises(ValueError, match="method 'kd'"):
        Study(**arguments(**asked, methods=[("kd", other)]))


def test_groups_in_several_folds_are_refused():
    groups = np.arange(COUNT) % 7
    with pytest.raises(ValueError, match="Samples of a group must stay in one fold"):
        Study(**arguments(groups=groups, cv=[(np.arange(40), np.arange(40, 60))]))


def test_a_given_teacher_is_tested():
    asked = arguments(cv=2, methods=["kd"], build_teacher=None, teacher_trained_on=[])
    teacher = classifier(6)
    teacher.compile("sgd", "mse")
    results = Study(**{**asked, "teacher": teacher}).run(verbose=0)
    assert not results.failures
    assert teacher.loss == "mse"
    labels, seen = asked["labels"], asked["teacher_inputs"]
    splits = Study(**{**asked, "teacher": teacher})._work.splits
    answers = teacher.predict(seen, verbose=0).argmax(-1)
    shares = [
        np.mean([(answers == labels)[getattr(split, fold)].mean() for split in splits])
        for fold in ("test", "validation")
    ]
    assert results.teacher() == pytest.approx(tuple(shares))
    # Once in a split, however many label budgets there are.
    several = Study(**{**asked, "teacher": teacher, "label_budgets": [None, 12]}).run(verbose=0)
    assert sum(row["run"]["method"] == "teacher" for row in several.rows) == 2
    assert several.teacher(12) == several.teacher() == results.teacher()


def test_weak_given_teachers_are_told_of():
    asked = arguments(cv=2, methods=["kd"], build_teacher=None, label_budgets=[30],
                      fit={"epochs": 20, "batch_size": 8})  # fmt: skip
    asked |= {"teacher_trained_on": [], "teacher": classifier(6)}
    wrong = np.zeros(3, "float32")
    wrong[0] = 9.0  # Always the first class.
    asked["teacher"].layers[-1].set_weights([np.zeros((16, 3)), wrong])
    compile = {**asked["compile"], "optimizer": keras.optimizers.Adam(0.05)}
    results = Study(**{**asked, "compile": compile}).run(verbose=0)
    assert any("so weak a teacher mostly harms" in one for one in results.warnings())
    # Features alone, of whatever kind: nothing says how good the teacher is.
    recorded = {"teacher": RecordedTeacher(features=(6,)), "methods": ["pkd"]}
    outputs = {"features": asked["teacher_inputs"]}
    untested = Study(**{**asked, **recorded, "teacher_inputs": outputs})
    assert any("The teacher was not tested" in one for one in untested.results().warnings())


def test_splits_share_what_a_given_teacher_said(tmp_path):
    """Later splits train on samples that the first one only tests, in as many small batches."""
    given = {"build_teacher": None, "teacher": classifier(6), "teacher_trained_on": []}
    asked = arguments(**given, cv=4, fit={"epochs": 1, "batch_size": 4}, folder=tmp_path)
    results = Study(**asked).run(verbose=0)
    assert not results.failures
    assert len(results.rows) == 4 * 3


def test_given_splits_validate_on_labelled_samples():
    labels = data()["labels"]
    labels[:30] = -1
    splits = [(np.arange(50), np.arange(50, 60))]
    (split,) = Study(**arguments(labels=labels, cv=splits))._work.splits
    assert (labels[split.validation] >= 0).all()
    assert set(range(30)) <= set(split.train)
    assert split.overlap == pytest.approx(10 / 20)  # Unlabelled samples are never tested.


@pytest.mark.parametrize(("shape", "ignored"), [((5,), -1), ((5, 1), 255), ((4, 5), 255)])
def test_metrics_leave_out_positions_that_the_loss_ignores(shape, ignored):
    """Padding of sequences and void pixels are no mistakes."""
    rng = np.random.default_rng(0)
    seen = rng.integers(3, size=(COUNT, *shape))
    labels = np.where(rng.random(seen.shape) < 0.3, (seen + 1) % 3, seen)
    labels[rng.random(seen.shape) < 0.4] = ignored
    places = shape[:-1] if shape[-1] == 1 else shape
    inputs = 3 * np.eye(3, dtype="float32")[seen.reshape(COUNT, *places)]

    def model():
        layer = keras.layers.Dense(3, kernel_initializer="identity", name="hidden")
        return keras.Sequential([keras.Input((*places, 3)), layer, keras.layers.Dense(
            3, kernel_initializer="identity")])  # fmt: skip

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
    results = Study(
        **arguments(
            teacher_inputs=inputs, student_inputs=inputs, labels=labels, cv=1, methods=["kd"],
            build_teacher=model, build_student=model, fit={"epochs": 1},
            compile={"optimizer": keras.optimizers.SGD(0.0), "loss": loss, "metrics": ["accuracy"]},
        )
    )  # fmt: skip
    test = results._work.splits[0].test
    there = labels[test] != ignored
    expected = (labels[test] == seen[test])[there].mean()
    assert expected > 0.5
    found = results.run(verbose=0)
    assert not found.failures
    for method in ("none", "kd"):
        assert found.runs(method, None)[0, 0]["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 2), (5,)])
def test_labels_of_positions_count_alike_with_and_without_a_teacher(shape):
    """A method whose terms weigh nothing is no distillation, where few labels are left too."""
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(COUNT, *shape)).astype("float32")

    def model(size):
        units = int(np.prod(shape))
        layers = [keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(units)]
        return keras.Sequential([keras.Input((size,)), *layers, keras.layers.Reshape(shape)])

    def nothing(teacher, student):
        loss = PKD(teacher_layer_name="hidden", student_layer_name="hidden")
        return CrossModalDistiller(teacher, student, losses=[loss], loss_weights=[1e-20])

    results = Study(
        **arguments(
            labels=labels, build_teacher=lambda: model(6), build_student=lambda: model(4), cv=1,
            methods=[("nothing", nothing)], label_budgets=[12],
            compile={"optimizer": "adam", "loss": "mse", "metrics": ["mae"]},
            fit={"epochs": 2, "batch_size": 5},
        )
    ).run(verbose=0)  # fmt: skip
    assert not results.failures
    (none, other) = (results.runs(name, 12)[0, 0]["curve"] for name in ("none", "nothing"))
    np.testing.assert_allclose(none, other, rtol=1e-5)


def test_optimizers_and_metrics_are_made_anew():
    def protocol(**changes):
        given = {"optimizer": "adam", "loss": "mse", **changes}
        return Protocol.of(given, {"epochs": 1}, None, "auto", missing=False)

    def with_default(learning_rate=0.5):
        return keras.optimizers.SGD(learning_rate)

    for optimizer, rate in (
        (keras.optimizers.Adam, 1e-3), (functools.partial(keras.optimizers.Adam, 0.2), 0.2),
        (functools.partial(keras.optimizers.Adam, learning_rate=0.3), 0.3), (with_default, 0.5),
        (lambda steps: keras.optimizers.SGD(steps / 10), 0.7), (keras.optimizers.SGD(0.6), 0.6),
    ):  # fmt: skip
        model = classifier(4)
        protocol(optimizer=optimizer).compile_model(model, 7)
        assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(
            rate
        )
        assert model.optimizer is not optimizer
    keras.metrics.AUC()
    x, y = np.zeros((2, 4), "float32"), np.array([[1, 0, 0.0]] * 2)
    for metric, name in (
        (keras.metrics.AUC(), "auc"),
        (keras.metrics.AUC(name="mine_1"), "mine_1"),
    ):
        model = classifier(4)
        model.layers[-1].activation = keras.activations.softmax
        protocol(metrics=[metric]).compile_model(model, 1)
        assert name in model.evaluate(x, y, verbose=0, return_dict=True)


@whole_recipe
def test_a_search_keeps_what_it_does_not_search():
    def made(teacher, student, weight, temperature=1.0):
        assert temperature == 8.0
        losses = [KD(temperature=temperature)]
        return CrossModalDistiller(teacher, student, losses=losses, loss_weights=[weight])

    space = {"weight": methods["kd"].space["weight"]}
    method = Method(made, ({"weight": 1.0, "temperature": 8.0},), space)
    results = Study(**arguments(methods=[("made", method)], trials=3, cv=1)).run(verbose=0)
    assert not results.failures
    assert len(results.runs("made", None)[0, 0]["tried"]) == 3


@whole_recipe
def test_other_seeds_wait_for_the_tuning_of_the_first(monkeypatch):
    candidate = study_runs._candidate

    def failing(work, run, method, teacher, setting):
        if setting["weight"] != method.default["weight"]:
            raise OSError("no space left")
        return candidate(work, run, method, teacher, setting)

    monkeypatch.setattr(study_runs, "_candidate", failing)
    study = Study(**arguments(seeds=(0, 1), trials=2, cv=1))
    results = study.run(verbose=0)
    assert [failure["run"]["seed"] for failure in results.failures] == [0, 1]
    assert "did not end" in results.failures[1]["error"]


def test_splitters_without_a_state_draw_the_same_splits_again(tmp_path):
    asked = arguments(folder=tmp_path, cv=GroupShuffleSplit(2), groups=np.arange(COUNT) // 3)
    first, second = (Study(**asked)._work.splits for _ in range(2))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.test, two.test)


def test_a_torn_row_is_left_out(tmp_path):
    file = tmp_path / "rows.jsonl"
    append_row(file, {"run": 1})
    with file.open("a") as stream:
        stream.write('{"run": 2')
    assert read_rows(file) == [{"run": 1}]
    append_row(file, {"run": 3})
    assert read_rows(file) == [{"run": 1}, {"run": 3}]


BAD = [
    ({"labels": [1, 2]}, "`labels` must be one NumPy array"),
    ({"labels": np.array(["a"] * COUNT)}, "LabelEncoder"),
    ({"labels": np.full(COUNT, -1)}, "none of the samples has one"),
    ({"student_inputs": np.zeros((3, 4), "float32")}, "`student_inputs` must hold arrays"),
    ({"teacher_inputs": lambda rows: np.zeros((1, 6))}, "asked for 2"),
    ({"teacher": classifier}, "Give either `teacher=`"),
    ({"build_teacher": None}, "Give either `teacher=`"),
    ({"teacher_trained_on": [0]}, "is for a given `teacher`"),
    ({"build_student": lambda: 3}, "`build_student` must be a function"),
    ({"build_teacher": lambda: 3}, "`build_teacher` must be a function"),
    ({"compile": {"optimizer": "adam", "loss": "mse", "metrics": "mae"}}, "list of metrics"),
    ({"build_student": lambda: classifier(5)}, "`build_student`: "),
    ({"methods": ["kdd"]}, "'kdd'"),
    ({"methods": ["kd", "kd"]}, "a name of its own"),
    ({"methods": [("none", CrossModalDistiller)]}, "a name of its own"),
    ({"methods": ["binary_kd"]}, "methods: 'binary_kd'"),
    ({"methods": [("mine", lambda teacher, student: student)]}, "must make a distiller"),
    ({"cv": 0}, "`cv` must be"),
    ({"validation": 1.5}, "`validation` must be"),
    ({"groups": np.zeros(3)}, "`groups` must have shape"),
    ({"seeds": (0, 0)}, "`seeds` must be"),
    ({"label_budgets": (0,)}, "`label_budgets` must be"),
    ({"label_budgets": (1000,)}, "labels in training"),
    ({"trials": 0}, "`trials` must be"),
    ({"ensemble": 0}, "`ensemble` must be"),
    ({"score": "f1"}, r"one of the metrics in the logs, \['accuracy', 'loss'\]"),
    ({"mode": "up"}, "`mode` must be"),
    ({"fit": {"epochs": 2, "verbose": 1}}, r"\['verbose'\]"),
    ({"fit": {"epochs": 2, "callbacks": []}}, "function that returns new callbacks"),
    ({"compile": {"optimizer": "adam"}}, "`compile` must be a dict"),
    ({"build_student": lambda: keras.Sequential([keras.layers.Dense(3)])}, "a built model"),
    ({"build_teacher": lambda: keras.Sequential([keras.layers.Dense(3)])}, "a built model"),
    ({"cv": [(np.arange(3), np.arange(2, 5))]}, "twice in a split"),
    ({"cv": [(np.arange(3), np.arange(70, 75))]}, "row numbers in 0..59"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_bad_arguments(change, said):
    with pytest.raises(ValueError, match=said):
        Study(**arguments(**change))


def test_hidden_labels_need_a_loss_that_leaves_them_out():
    plain = {"optimizer": "adam", "loss": cross_entropy(), "metrics": ["accuracy"]}
    with pytest.raises(ValueError, match="ignore_class=-1"):
        Study(**arguments(compile=plain, label_budgets=(12,)))
    whole = {"optimizer": "adam", "loss": "mse"}
    with pytest.raises(ValueError, match="must be floats"):
        Study(**arguments(compile=whole, label_budgets=(12,), methods=["pkd"]))
    hinge = {"optimizer": "adam", "loss": "hinge"}
    signs = np.where(np.arange(COUNT) % 2, 1, -1)
    with pytest.raises(ValueError, match="which the loss must leave out"):
        Study(**arguments(compile=hinge, labels=signs, methods=["pkd"]))
    one_hot = {"optimizer": "adam", "loss": keras.losses.CategoricalCrossentropy(from_logits=True)}
    labels = np.eye(3, dtype="float32")[data()["labels"]]
    with pytest.raises(ValueError, match="classes must be integers"):
        Study(**arguments(compile=one_hot, labels=labels, label_budgets=(12,)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"make": 3}, "`make` must be a function"),
        ({"candidates": ()}, "at least one"),
        ({"candidates": ({"loss": KD()},)}, "numbers, strings"),
        ({"space": {"weight": (0, 1)}}, "optuna.distributions"),
    ],
)
def test_bad_methods(given, said):
    with pytest.raises(ValueError, match=said):
        Method(**{"make": CrossModalDistiller, **given})


@whole_recipe
@pytest.mark.parametrize("name", sorted(methods))
def test_every_known_method_trains(name):
    """On the task it is for; the settings that Optuna may draw are settings too."""
    method = methods[name]
    assert {*method.space} <= {*method.default}
    loss = cross_entropy()
    labels = np.zeros((8, 3), "float32") if name == "binary_kd" else np.zeros(8, "int32")
    if name == "binary_kd":
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    # Features of other sizes too.
    teacher, student = classifier(6, features=12), classifier(4)
    distiller = make_distiller(method, teacher, student, 8, 1, method.default)
    distiller.compile("adam", loss)
    x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    history = distiller.fit({**x, "index": np.arange(8)}, labels, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert method.title
    assert method.when
    assert method.source
