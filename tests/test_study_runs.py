"""Single runs of a study: a kill at the worst moment, and scores that are no numbers."""

import dataclasses

import keras
import numpy as np
import pytest
from study_worker import arguments, data

from keras_fdkd.study import Study, methods
from keras_fdkd.study import runs as study_runs
from keras_fdkd.study.tuning import Tuning

TWO = dataclasses.replace(methods["kd"], candidates=({"weight": 1.0}, {"weight": 2.0}), space={})
ONE = dataclasses.replace(TWO, candidates=TWO.candidates[:1])


def linear(size):
    return lambda: keras.Sequential([keras.Input((size,)), keras.layers.Dense(3)])


def study(method, **changes):
    asked = {"cv": 1, "trials": 2, "build_teacher": None, "teacher_trained_on": []}
    return Study(**arguments(methods=[("kd", method)], **{**asked, **changes}))


def test_a_trial_that_was_never_told_is_not_evaluated(tmp_path, monkeypatch):
    """Killed after a trial was saved as the best one, which comes out worse the next time."""
    teacher = linear(6)()
    expected = study(ONE, teacher=teacher).run(verbose=0).runs("kd", None)[0, 0]
    candidate, tell = study_runs._candidate, Tuning.tell
    scores = iter((0.5, 0.9, 0.1))

    def scored(work, run, method, teacher, setting):
        student, outcome = candidate(work, run, method, teacher, setting)
        if setting["weight"] == 2.0:
            student.set_weights([np.zeros_like(weight) for weight in student.get_weights()])
        return student, dataclasses.replace(outcome, score=next(scores))

    def killed(self, setting, outcome):
        if outcome.score == 0.9:
            raise KeyboardInterrupt
        tell(self, setting, outcome)

    monkeypatch.setattr(study_runs, "_candidate", scored)
    monkeypatch.setattr(Tuning, "tell", killed)
    with pytest.raises(KeyboardInterrupt):
        study(TWO, teacher=teacher, folder=tmp_path).run(verbose=0)
    assert len(list((tmp_path / "students").iterdir())) == 2
    results = study(TWO, teacher=teacher, folder=tmp_path).run(verbose=0)
    assert not results.failures
    row = results.runs("kd", None)[0, 0]
    assert [one["validation"] for one in row["tried"]] == [0.5, 0.1]
    assert row["setting"] == {"weight": 1.0}
    assert row["metrics"] == expected["metrics"]
    assert not list((tmp_path / "students").iterdir())


def test_only_the_file_of_the_best_trial_stays(tmp_path, monkeypatch):
    candidate = study_runs._candidate
    scores, seen = iter((0.5, 0.4, 0.9, 0.7)), []

    def scored(*args):
        seen.append(sorted(path.name for path in tmp_path.glob("students/*")))
        student, outcome = candidate(*args)
        return student, dataclasses.replace(outcome, score=next(scores))

    monkeypatch.setattr(study_runs, "_candidate", scored)
    four = dataclasses.replace(TWO, candidates=tuple({"weight": float(n)} for n in range(1, 5)))
    results = study(four, teacher=linear(6)(), trials=4, folder=tmp_path).run(verbose=0)
    assert results.runs("kd", None)[0, 0]["setting"] == {"weight": 3.0}
    first, third = (f"split0-all-kd-{n}.weights.h5" for n in (0, 2))
    assert seen == [[], [first], [first], [third]]


def test_a_test_score_that_is_no_number_fails_its_run():
    """Also that of no distillation, and of the teacher."""
    inputs = {name: values for name, values in data().items() if name != "labels"}
    for values in inputs.values():
        values[-1] = np.nan
    splits = [(np.arange(30), np.arange(30, 45), np.arange(45, 60))]
    # ReLU would make 0 of it on TensorFlow.
    models = {"build_teacher": linear(6), "build_student": linear(4)}
    given = {**inputs, **models, "cv": splits, "score": "loss"}
    results = Study(**arguments(**given)).run(verbose=0)
    assert not results.rows
    errors = {row["run"]["method"]: row["error"] for row in results.failures}
    assert set(errors) == {"teacher", "none", "kd"}
    for method in ("teacher", "none"):
        assert "NotFiniteError: 'loss' is nan on the test fold" in errors[method]
    given |= {"build_teacher": None, "teacher": linear(6)()}
    failures = study(TWO, **given).run(verbose=0).failures
    assert {row["run"]["method"] for row in failures} == {"none", "kd"}
    assert all("is nan on the test fold" in row["error"] for row in failures)
