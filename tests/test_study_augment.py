"""Augmentation that both modalities and the labels share, in a study."""

import keras
import numpy as np
import pytest
from conftest import classifier, whole_recipe
from study_worker import COUNT, arguments

from keras_fdkd import CrossModalDistiller, RecordedTeacher
from keras_fdkd.losses import KD
from keras_fdkd.study import Method, Study


def shifted(sides, labels, rng):
    """Add one random number to all that is seen."""
    number = np.float32(rng.normal())
    return {side: values + number for side, values in sides.items()}, labels


@whole_recipe
def test_teacher_and_student_see_the_same_change():
    asked = arguments(build_teacher=None, teacher=classifier(6), teacher_trained_on=[], cv=1)
    inputs = asked["teacher_inputs"][:, 0], asked["student_inputs"][:, 0]
    shifts, judged = [], []

    class Spy(CrossModalDistiller):
        def train_step(self, data):
            x, rows = data[0], keras.ops.convert_to_numpy(data[0]["index"])
            seen = [keras.ops.convert_to_numpy(x[side])[:, 0] for side in ("teacher", "student")]
            train = study._work.splits[0].train[rows]
            shifts.append([np.ptp(s - i[train]) for s, i in zip(seen, inputs, strict=True)])
            shifts[-1].append((seen[0] - inputs[0][train])[0] - (seen[1] - inputs[1][train])[0])
            return super().train_step(data)

        def test_step(self, data):
            judged.append(keras.ops.convert_to_numpy(data[0]))
            return super().test_step(data)

    def spied(teacher, student):
        return Spy(teacher, student, losses=[KD()])

    study = Study(**{**asked, "methods": [("mine", Method(spied))]}, augment=shifted)
    assert not study.run(verbose=0).failures
    assert len(shifts) == 2 * 2  # epochs, steps
    np.testing.assert_allclose(shifts, 0, atol=1e-5)
    whole = asked["student_inputs"][study._work.splits[0].validation]
    np.testing.assert_array_equal(judged[0], whole[: len(judged[0])])  # Nothing is changed here.


def test_augmentation_trains_otherwise():
    plain, changed = (
        Study(**arguments(cv=1), augment=augment).run(verbose=0) for augment in (None, shifted)
    )
    assert not changed.failures
    for one, two in zip(plain.rows, changed.rows, strict=True):
        assert one["run"] == two["run"]
        assert one["metrics"]["loss"] != two["metrics"]["loss"]


def test_folders_do_not_mix(tmp_path):
    Study(**arguments(cv=1), folder=tmp_path).run(verbose=0)
    with pytest.raises(ValueError, match="holds the runs of another study, with other .*augment"):
        Study(**arguments(cv=1), folder=tmp_path, augment=shifted)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda sides, labels, rng: sides, "must return `\\(sides, labels\\)`"),
        (lambda sides, labels, rng: (sides, labels[:1]), "must return `\\(sides, labels\\)`"),
        (lambda sides, labels, rng: ({"teacher": sides["teacher"]}, labels), "names, shapes"),
        (lambda sides, labels, rng: (sides["both"], labels), "`augment`: KeyError"),
        (lambda sides, labels, rng: ({}, labels), "must return `\\(sides, labels\\)`"),
        (3, "`augment`: TypeError"),
        (lambda sides, labels, rng: (sides, labels + 0.5), "kinds of numbers"),
        (lambda sides, labels, rng: (sides.pop("teacher", None), (sides, labels))[1], "names"),
        (
            lambda sides, labels, rng: (
                {side: values + rng.normal() for side, values in sides.items()},
                labels,
            ),
            "draw from `rng` before",
        ),
    ],
)
def test_bad_augmentation(augment, message):
    with pytest.raises(ValueError, match=message):
        Study(**arguments(), augment=augment)


def test_recorded_teachers_see_nothing():
    recorded = {"features": np.zeros((COUNT, 8), "float32"), "logits": np.zeros((COUNT, 3), "f")}
    asked = arguments(
        build_teacher=None, teacher=RecordedTeacher(features=(8,), logits=(3,)),
        teacher_inputs=recorded, teacher_trained_on=[],
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs a teacher that runs"):
        Study(**asked, augment=shifted)


class Shift:
    """An object with settings instead of a function."""

    def __init__(self, size):
        self.size = size

    def __call__(self, sides, labels, rng):
        number = np.float32(self.size * rng.normal())
        return {side: values + number for side, values in sides.items()}, labels


def test_a_study_resumes_with_a_new_object(tmp_path):
    """An address in its text would make it another study in each process."""
    first = Study(**arguments(cv=1), folder=tmp_path, augment=Shift(1.0)).run(verbose=0)
    again = Study(**arguments(cv=1), folder=tmp_path, augment=Shift(1.0)).run(verbose=0)
    assert again.rows == first.rows


def test_work_in_place_changes_no_data():
    def in_place(sides, labels, rng):
        number = rng.normal()
        for values in sides.values():
            values += number
        return sides, labels

    asked = arguments(cv=1)
    before = asked["student_inputs"].copy()
    assert not Study(**asked, augment=in_place).run(verbose=0).failures
    np.testing.assert_array_equal(asked["student_inputs"], before)
