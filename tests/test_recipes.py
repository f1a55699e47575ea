"""The recipes on their real data, shortened."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import whole_recipe

from recipes.devices import __main__ as devices
from recipes.digits import __main__ as digits
from recipes.emoji import __main__ as emoji_study
from recipes.emoji import demo
from recipes.emoji import experiment as emoji
from recipes.emoji.wrong_pairs import with_wrong_pairs
from recipes.shared.study_methods import METHODS
from recipes.watch import __main__ as watch
from recipes.watch.data import FILE, load_watch, split_by_subject


@pytest.fixture(scope="module")
def data():
    return load_watch()


def test_data(data):
    assert data.signals["gyroscope"].shape == data.signals["accelerometer"].shape == (2229, 200, 3)
    assert len(data.exercises) == 7
    assert set(data.labels) == set(range(7))
    assert len(set(data.subjects)) == 10


@pytest.mark.parametrize("seed", range(5))
def test_whole_subjects_are_held_out(data, seed):
    folds = split_by_subject(data.subjects, seed)
    subjects = {name: set(data.subjects[rows]) for name, rows in folds.items()}
    assert {name: len(found) for name, found in subjects.items()} == {
        "train": 5, "validation": 2, "test": 3,
    }  # fmt: skip
    assert not subjects["train"] & subjects["validation"]
    assert not subjects["test"] & (subjects["train"] | subjects["validation"])
    assert sum(len(rows) for rows in folds.values()) == len(data.labels)


def test_data_files_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("owned",)

    with (tmp_path / FILE).open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(np.array(Evil(), dtype=object), file)
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print: refused"):
        load_watch(tmp_path)


def test_missing_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip install --no-deps seglearn"):
        load_watch(tmp_path)


def test_no_split_has_the_weight_of_both_bands():
    """The first settings, which a single trial runs, differ in the split alone."""
    bands, whole = METHODS["fdcmkd"], METHODS["whole"]
    assert {**bands.default, "cutoff": None} == whole.default
    models = [
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(3)])
        for _ in range(2)
    ]
    made = [method.make(*models, **method.default) for method in (bands, whole)]
    sums = [distiller.low_weight + distiller.high_weight for distiller in made]
    assert sums == [4.0, 4.0]


@whole_recipe
def test_watch_writes_its_report(tmp_path, capsys):
    asked = ["--epochs", "2", "--splits", "2", "--budgets", "all", "--methods", "fdcmkd",
             "--trials", "1", "--processes", "1", "--output", str(tmp_path)]  # fmt: skip
    results = watch.main(asked)
    assert f"The report is {tmp_path / 'report.md'}" in capsys.readouterr().out
    assert list(results) == [("accelerometer", "gyroscope"), ("gyroscope", "accelerometer")]
    report = (tmp_path / "report.md").read_text()
    for (teacher, student), found in results.items():
        assert not found.failures
        assert [line.method for line in found.summaries()] == ["none", "fdcmkd"]
        assert f"## {teacher} teaches {student}" in report
        assert (tmp_path / f"{teacher}-{student}_gains.png").stat().st_size > 5000
    assert "5 train, 2 choose, 3 test" in report


@whole_recipe
def test_digits_with_few_labels_in_one_direction(tmp_path):
    asked = ["--epochs", "1", "--splits", "1", "--budgets", "few", "--methods", "kd",
             "--trials", "1", "--processes", "1", "--direction", "reverse"]  # fmt: skip
    results = digits.main([*asked, "--output", str(tmp_path)])
    assert list(results) == [("written", "spoken")]
    assert results["written", "spoken"].budgets == [50]
    assert "written teaches spoken" in (tmp_path / "report.md").read_text()


@whole_recipe
def test_precision(tmp_path):
    """Rows of another precision are never taken for those of this one."""
    asked = ["--epochs", "1", "--splits", "1", "--budgets", "few", "--methods", "kd",
             "--trials", "1", "--processes", "1", "--direction", "forward",
             "--output", str(tmp_path)]  # fmt: skip
    before = keras.config.dtype_policy()
    try:
        emoji_study.main([*asked, "--precision", "mixed_bfloat16"])
        assert "in mixed_bfloat16" in (tmp_path / "report.md").read_text()
        with pytest.raises(ValueError, match="other .*dtype policy"):
            emoji_study.main(asked)
    finally:
        keras.config.set_dtype_policy(before)


@whole_recipe
def test_one_device(capsys):
    accuracy = devices.main(["--epochs", "4"])
    # Of seven exercises; the student's BatchNorm lags, and the teacher's too.
    assert accuracy["teacher"] > 3 / 7
    assert accuracy["student"] > 1.4 / 7
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [f"{name}: {100 * value:.1f} %" for name, value in accuracy.items()]


def test_two_devices(tmp_path):
    """Two devices of the processor, or two processes, as the guide says to start them."""
    two = keras.config.backend() == "torch"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] * two
    command = [sys.executable, *launch, "-m", "recipes.devices", "--epochs", "1"]
    command += [] if two else ["--devices", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=env
    )
    lines = [line for line in result.stdout.splitlines() if line.endswith(" %")]
    assert [line.split(":")[0] for line in lines] == ["teacher", "student"]  # One process reports.


def test_emoji_folds():
    experiment = emoji.experiment()
    folds = experiment.folds(0)
    assert sum(len(fold.labels) for fold in folds.values()) == 1629
    for side in experiment.modalities:
        model = experiment.build(side, folds["train"].inputs[side])
        assert model.output_shape == (None, 8)
        assert model.get_layer("feature").output.shape == (None, 128)


@whole_recipe
def test_the_demo(tmp_path, capsys):
    results = demo.main(
        ["--seeds", "10", "11", "--epochs", "2", "--processes", "1", "--output", str(tmp_path)]
    )
    assert not results.failures
    assert (tmp_path / "demo.png").stat().st_size > 50_000
    student = keras.saving.load_model(tmp_path / "student.keras")
    assert student.output_shape == (None, 8)
    # It loads and predicts where Keras alone is imported.
    code = (
        "import sys, numpy, keras; "
        f"model = keras.saving.load_model({str(tmp_path / 'student.keras')!r}); "
        "inputs = numpy.ones((2, *model.input_shape[1:])); "
        "print(model.predict(inputs, verbose=0).shape, any('fdkd' in name for name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.strip().endswith("(2, 8) False")
    said = capsys.readouterr().out
    lines = {line.method: line for line in results.summaries(160)}
    assert set(lines) == {"none", "distilled", "control"}
    assert f"alone the student gets {100 * lines['none'].score:.1f} %" in said
    assert demo.points(lines["control"].gain) in said
    splits = results.info["splits"]
    assert all(split["train"] > 900 and split["test"] > 300 for split in splits)


def test_wrong_pairs():
    inputs = keras.Input((3,))
    feature = keras.layers.Dense(4, name="feature")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(2)(feature))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    outputs = with_wrong_pairs(teacher).predict_on_batch(x)
    expected = teacher.predict_on_batch(np.roll(x, -1, axis=0))
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-5, atol=1e-6)
    moved = keras.Model(inputs, feature).predict_on_batch(np.roll(x, -1, axis=0))
    np.testing.assert_allclose(outputs["features"], moved, rtol=1e-5, atol=1e-6)
