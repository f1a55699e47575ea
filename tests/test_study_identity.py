"""What a folder's runs depend on: whatever differs in it is another study."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Opaque, classifier
from study_worker import arguments, data

from keras_fdkd.data.teacher_identity import model_identity
from keras_fdkd.study import Study, identity
from keras_fdkd.study.identity import inputs_digest


def started(folder, **changes):
    """Write what a study is into its folder, as `run` does before the first run."""
    study = Study(**arguments(folder=folder, **changes))
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study._info))
    return study


def refused(folder, named, **changes):
    with pytest.raises(ValueError, match=rf"holds the runs of another study.*\['{named}'\]"):
        Study(**arguments(folder=folder, **changes))


@pytest.mark.parametrize("side", ["teacher_inputs", "student_inputs"])
def test_inputs_are_compared_whole(side, tmp_path):
    [split, _] = started(tmp_path)._work.splits
    for rows in (split.train, split.test, split.validation[8:]):
        changed = data()[side]
        changed[rows[-1]] += 1
        refused(tmp_path, "inputs", **{side: changed})
    Study(**arguments(folder=tmp_path, **{side: data()[side].copy()}))


def test_large_inputs_are_compared_by_samples_spread_over_them(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6400, 3)).astype("float32")
    values.tofile(tmp_path / "values")
    mapped = np.memmap(tmp_path / "values", "float32", "r", shape=values.shape)

    def digests(values):
        return (
            inputs_digest({"a": [values]}, 6400),
            inputs_digest(lambda rows: {"a": values[rows]}, 6400),
        )

    whole, some = digests(values)
    assert whole != some
    assert inputs_digest(mapped, 6400) == some
    monkeypatch.setattr(identity, "_WHOLE", values.nbytes)
    assert digests(values) == (whole, some)
    # The limit is that of all arrays together; what is on disk takes no memory.
    monkeypatch.setattr(identity, "_WHOLE", 2 * values.nbytes - 1)
    both = inputs_digest([values, values], 6400)
    assert both == inputs_digest([mapped, mapped], 6400)
    assert both != inputs_digest([values, mapped], 6400)
    monkeypatch.setattr(identity, "_WHOLE", values.nbytes - 1)
    assert digests(values) == (some, some)
    for row, is_seen in ((0, True), (1, False), (6399, True)):
        other = values.copy()
        other[row] += 1
        assert (digests(other)[0] != some) is is_seen
    # A block of a hundred rows anywhere holds a sample.
    moved = values.copy()
    moved[3000:3102] += 1
    assert digests(moved)[0] != some


@pytest.mark.parametrize("dtype", [object, str, np.dtypes.StringDType()])
def test_texts_are_compared(dtype):
    words = [f"word {'x' * (n % 9)}" for n in range(100)]
    texts = np.array([str(word) for word in words], dtype)
    again = np.array([f"word {'x' * (n % 9)}" for n in range(100)], dtype)
    assert inputs_digest({"text": texts}, 100) == inputs_digest({"text": again}, 100)
    again[50] = "other"
    assert inputs_digest({"text": texts}, 100) != inputs_digest({"text": again}, 100)


def student(activation="relu", scale=None, softmax=True, dropout=0.1, trainable=True):
    stack = [keras.layers.Rescaling(scale)] if scale else []
    stack += [
        keras.layers.Dense(8, activation=activation, trainable=trainable),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(3),
    ]
    if softmax:
        stack.append(keras.layers.Softmax())
    return keras.Sequential([keras.Input((4,)), *stack])


CHANGES = [{"activation": "tanh"}, {"scale": 0.5}, {"softmax": False}, {"dropout": 0.5}]


def test_a_builder_of_another_model_is_refused(tmp_path):
    given = {"methods": ["pkd"], "folder": tmp_path}
    started(**given, build_student=student)
    student()  # Names that Keras numbers go on.
    Study(**arguments(**given, build_student=lambda: student()))
    for change in [*CHANGES, {"trainable": False}]:
        build = functools.partial(student, **change)
        refused(**given, named="build_student", build_student=build)

    def teacher():
        model = classifier(6)
        model.get_layer("pool").activation = keras.activations.tanh
        return model

    refused(**given, named="teacher", build_student=student, build_teacher=teacher)


def test_another_given_teacher_is_refused(tmp_path):
    def teacher(function):
        keras.utils.set_random_seed(3)
        stack = [keras.Input((6,)), keras.layers.Dense(8, function), keras.layers.Dense(3)]
        return keras.Sequential(stack)

    given = {"build_teacher": None, "teacher_trained_on": []}
    started(tmp_path, teacher=teacher("relu"), **given)
    Study(**arguments(folder=tmp_path, teacher=teacher("relu"), **given))
    refused(tmp_path, "teacher", teacher=teacher("tanh"), **given)


def various(name):
    """Models that Keras describes in full, in part or not at all."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = {
        "dense": lambda: keras.layers.Dense(4, "relu")(inputs),
        "operations": lambda: keras.ops.relu(inputs) + 1.0,
        "lambda": lambda: keras.layers.Lambda(lambda x: x * 2)(inputs),
        "drawn seed": lambda: keras.layers.Flatten()(
            keras.layers.RandomCrop(1, 1)(keras.layers.Reshape((2, 3, 1))(inputs))
        ),
        "opaque": lambda: Opaque(object())(inputs),
    }[name]()
    return keras.Model(inputs, keras.layers.Dense(3)(x))


NAMES = ("dense", "operations", "lambda", "drawn seed", "opaque")


def test_the_name_of_a_model_is_the_same_in_every_process():
    names = [model_identity(various(name)) for name in NAMES]
    assert len(set(names)) == len(NAMES)
    for model in map(various, NAMES):
        model.compile("adam", "mse")
        model.trainable = False
        assert model_identity(model) in names
    code = "from test_study_identity import *; print(*map(model_identity, map(various, NAMES)))"
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert told.split()[-len(NAMES) :] == names


def test_seeds_and_code_are_no_part_of_it():
    def model(seed, function):
        keras.utils.set_random_seed(1)
        stack = [keras.layers.Lambda(function), keras.layers.Dropout(0.1, seed=seed)]
        return keras.Sequential([keras.Input((6,)), *stack, keras.layers.Dense(3)])

    first, other = model(1, lambda x: x * 2), model(2, lambda x: x + 1)
    assert model_identity(first) == model_identity(other)
    assert model_identity(first) != model_identity(first, "further")
