"""The variants of the bands: bases, and the table of what they brought."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs, whole_recipe
from keras import ops

from keras_fdkd.study.row_file import read_rows
from recipes.shared.registry import load_experiment
from recipes.variants import command, trial
from recipes.variants.listed import VARIANTS
from recipes.variants.parts import Scheduled, SoftCutoff, Turned, basis, followed
from recipes.variants.report import report
from recipes.variants.trial import Trial, task


@pytest.fixture
def chain():
    """Channels that are correlated with their neighbours in a hidden order."""
    rng = np.random.default_rng(0)
    position = rng.uniform(0, 1, size=(500, 1))
    centres = np.linspace(0, 1, 12)
    # Wide enough that correlations fall with the distance along the chain.
    features = np.exp(-((position - centres) ** 2) / 0.3)
    order = rng.permutation(12)
    return features[:, order], order


def test_seriation_finds_the_order_of_a_chain(chain):
    features, order = chain
    found = order @ basis("seriation", features, 0)
    assert found.tolist() in (list(range(12)), list(range(12))[::-1])


def test_bases(chain):
    features, _ = chain
    shuffled = basis("shuffled", features, 0)
    np.testing.assert_array_equal(shuffled @ shuffled.T, np.eye(12))
    assert not np.array_equal(shuffled, basis("shuffled", features, 1))
    turned = (features - features.mean(0)) @ basis("principal", features, 0)
    covariance = np.cov(turned.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-6)
    assert (np.diff(np.diag(covariance)) <= 1e-9).all()


def test_dead_channels_have_a_place(chain):
    features, _ = chain
    features = np.concatenate([features, np.zeros((500, 2))], axis=1)
    order = basis("seriation", features, 0)
    np.testing.assert_array_equal(order.sum(0), np.ones(14))


def test_low_frequencies_are_what_the_other_modality_sees():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(300, 3))
    axes = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    features = np.concatenate([seen, rng.normal(size=(300, 13))], axis=1) @ axes
    matrix = basis("shared", features, 0, seen)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(16), atol=1e-6)
    spectrum = np.abs(np.fft.rfft(np.concatenate([seen, np.zeros((300, 13))], 1) @ axes @ matrix))
    assert (spectrum[:, 1:3] ** 2).sum() > 0.9 * (spectrum**2).sum()
    best = basis("shared, whitened", features, 0, seen)
    assert best.shape == (16, 16)


def test_pairs_count_by_what_the_student_tells():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(400, 3))
    # Half of the variance is in the student's features; for the last hundred pairs, nothing is.
    told = np.concatenate([seen, rng.normal(size=(400, 3))], axis=1)
    told[300:] = rng.normal(size=(100, 6))
    order = rng.permutation(400)
    back = np.argsort(order)
    each = followed("samples", (5 * told[order],) * 2, (seen[order],) * 2)[back]
    assert each.shape == (400,)
    assert each.min() >= 0
    assert each.max() <= 1
    assert each[:300].mean() > each[300:].mean() + 0.2
    train, held_out = slice(0, 200), slice(200, 300)
    both = (told[train], told[held_out]), (seen[train], seen[held_out])
    assert followed("held out", *both) == pytest.approx([0.5] * 200, abs=0.08)
    unseen = rng.normal(size=(300, 3))
    nothing = followed("held out", both[0], (unseen[train], unseen[held_out]))
    np.testing.assert_array_equal(nothing, 0)


def _fit(maker, **options):
    distiller = maker(classifier(6), classifier(4), **options)
    distiller.compile("sgd", cross_entropy())
    x, y = pairs()
    return distiller, distiller.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)


def test_terms_fade():
    distiller, history = _fit(Scheduled, schedule="fade", steps=3)
    assert float(ops.convert_to_numpy(distiller.step)) == 6
    faded = {name: values[1] for name, values in history.history.items()}
    assert faded["loss"] == pytest.approx(faded["task_loss"], rel=1e-6)
    first = {name: values[0] for name, values in history.history.items()}
    assert first["loss"] > 1.1 * first["task_loss"]


@pytest.mark.parametrize("maker", [Turned, SoftCutoff])
def test_learned_splits_learn(maker):
    start = maker(classifier(6), classifier(4))
    layer = "turn" if maker is Turned else "soft_split"
    before = getattr(start, layer).get_weights()[0]
    distiller, _ = _fit(maker)
    assert not np.allclose(before, getattr(distiller, layer).get_weights()[0], atol=1e-5)


def test_report_compares_the_same_seeds():
    def row(variant, seed, accuracy, experiment="watch"):
        task = {"variant": variant, "experiment": experiment, "student": "gyroscope",
                "budget": "few", "seed": seed}  # fmt: skip
        return {"task": task, "validation_accuracy": accuracy}

    rows = [row("student alone", seed, 0.5) for seed in range(3)]
    rows += [row("no split", seed, value) for seed, value in enumerate((0.6, 0.7, 0.2))]
    rows += [row("KD", 0, 0.55), row("KD", 1, 0.55)]
    text = "\n".join(report(rows))
    first, second = text.split("## Some variants, seeds [0, 1, 2]")
    assert "## All variants, seeds [0, 1]" in first
    assert "| no split | +15.0 | +15.0 |" in first
    assert "| KD | +5.0 | +5.0 |" in first
    assert first.index("no split") < first.index("KD")
    assert "| no split | +0.0 | +0.0 |" in second
    assert "KD" not in second


def test_rows_of_other_options_or_another_backend_are_run_again(tmp_path, monkeypatch):
    chosen = [Trial(v, "emoji", "text", "image", "few", 0) for v in ("student alone", "KD")]
    monkeypatch.setattr(command, "trials", lambda variants, seeds: chosen)
    accuracy = {"student alone": 0.5, "KD": 0.6}
    ran = []

    def run(one, folder):
        ran.append(one.variant)
        return {"task": task(one), "validation_accuracy": accuracy[one.variant]}

    monkeypatch.setattr(trial, "run", run)

    def runs():
        del ran[:]
        command.main(["--processes", "1", "--output", str(tmp_path)])
        [line] = [
            line
            for line in (tmp_path / "variants.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("| KD |")
        ]
        return ran[:], line

    assert runs() == (["student alone", "KD"], "| KD | +10.0 | +10.0 |")
    assert runs() == ([], "| KD | +10.0 | +10.0 |")
    accuracy["KD"] = 0.8
    monkeypatch.setitem(VARIANTS, "KD", {"losses": [["KD", 5.0]]})
    assert runs() == (["KD"], "| KD | +30.0 | +30.0 |")
    # A class is one of the options.
    monkeypatch.setitem(VARIANTS, "KD", {"bands": {}, "maker": Turned})
    assert runs()[0] == ["KD"]
    assert runs()[0] == []
    accuracy.update({"student alone": 0.1, "KD": 0.2})
    monkeypatch.setattr(keras.config, "backend", lambda: "another")
    assert runs() == (["student alone", "KD"], "| KD | +10.0 | +10.0 |")


def test_the_committed_rows_can_be_read():
    """Those of earlier versions do not say what made them."""
    rows = read_rows(Path(command.__file__).parents[1] / "results" / "variants" / "rows.jsonl")
    committed = Path(command.__file__).parents[1] / "results" / "variants" / "variants.md"
    assert "\n".join(report(rows)) in committed.read_text(encoding="utf-8")


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Trials of one epoch, whose teachers are kept in a folder of the test."""
    experiment = dataclasses.replace(load_experiment("emoji"), epochs=1)
    monkeypatch.setattr(trial, "load_experiment", lambda name: experiment)
    monkeypatch.setattr(command, "TEACHERS", tmp_path / "teachers")
    names = ["student alone", "bands of shuffled channels", "bands + KD, cross-fitted teacher",
             "bands, each pair by how well the student tells it"]  # fmt: skip
    found = [Trial(name, "emoji", "text", "image", "few", 0) for name in names]
    monkeypatch.setattr(command, "trials", lambda variants, seeds: found)
    return found


@whole_recipe
def test_trials_train_and_are_not_run_again(short, tmp_path):
    asked = ["--processes", "1", "--output", str(tmp_path)]
    command.main(asked)
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["task"] for row in rows] == [task(one) for one in short]
    assert all(0.1 < row["validation_accuracy"] < 1 for row in rows)
    assert len({row["validation_accuracy"] for row in rows}) > 1
    command.main(asked)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    assert "| bands of shuffled channels |" in (tmp_path / "variants.md").read_text()
    [teacher] = (tmp_path / "teachers" / keras.config.backend()).glob("emoji-text-few-0*")
    time = teacher.stat().st_mtime_ns
    again = trial.run(short[1], tmp_path / "teachers")
    assert again == rows[1]
    assert teacher.stat().st_mtime_ns == time


@whole_recipe
def test_a_trial_that_fails_stops_no_other(short, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, short[1].variant, {"bands": {"cutoff": 7}})
    with pytest.raises(SystemExit, match="1 trials failed"):
        command.main(["--processes", "1", "--output", str(tmp_path)])
    rows = read_rows(tmp_path / "rows.jsonl")
    assert ["error" in row for row in rows] == [False, True, False, False]
    assert "cutoff" in rows[1]["error"]
