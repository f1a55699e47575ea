"""The recipes on their real data, shortened."""

import json
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import whole_recipe

from recipes.digits import __main__ as digits
from recipes.emoji import demo
from recipes.emoji import experiment as emoji
from recipes.emoji.wrong_pairs import with_wrong_pairs
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


@whole_recipe
def test_watch_writes_its_report(tmp_path, capsys):
    runs = watch.main(["--epochs", "2", "--seeds", "0", "--output", str(tmp_path / "out")])
    assert "student alone" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "report.md", "metrics.json", "student.keras",
        "learning_curves.png", "band_similarity.png", "features.png",
    }  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["method"] for row in metrics["runs"]] == ["teacher", "student alone", "distilled"]
    assert [row["test_accuracy"] for row in metrics["runs"]] == [
        run.outcome.test_accuracy for run in runs
    ]
    report = (tmp_path / "out" / "report.md").read_text()
    assert f"{100 * runs[2].outcome.test_accuracy:.1f} ±" in report

    # The student loads and predicts where Keras alone is imported.
    code = (
        "import sys, numpy, keras; "
        f"model = keras.saving.load_model({str(tmp_path / 'out' / 'student.keras')!r}); "
        "print(model.predict(numpy.ones((2, 200, 3)), verbose=0).shape, "
        "any('fdkd' in name for name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.strip().endswith("(2, 7) False")


@whole_recipe
def test_digits_with_few_labels(tmp_path):
    arguments = ["--epochs", "1", "--seeds", "0", "--labels", "few", "--reverse"]
    runs = digits.main([*arguments, "--output", str(tmp_path)])
    assert [run.method for run in runs] == ["teacher", "student alone", "distilled"]
    report = (tmp_path / "report.md").read_text()
    assert "written teaches spoken" in report
    assert "labels: 50" in report


def test_emoji_folds():
    experiment = emoji.experiment()
    folds = experiment.prepare(0, "few")
    assert sum(len(fold.labels) for fold in folds.values()) == 1629
    assert (folds["train"].labels >= 0).sum() == experiment.few_labels
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
