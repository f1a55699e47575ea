"""Spectrograms, random parts, the paper's schedule and its tables."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_fdkd.study import Results
from recipes.crema_d.data import CremaD
from recipes.published.command import parse
from recipes.published.protocols import OURS, PAPER, folds, rate
from recipes.published.random_resized_crop import RandomResizedCrop
from recipes.published.random_slice import RandomSlice
from recipes.published.report import comparison
from recipes.published.sound import fitted, log_magnitude, log_power, resampled
from recipes.shared.paper_numbers import COLUMNS, METHODS, paper_figure


def noise(count):
    return np.random.default_rng(0).normal(size=count).astype("float32")


def test_log_power_by_hand():
    """Density of windows without their mean, Tukey with a quarter tapered, both sides of bins."""
    samples = noise(3 * 16000).astype("float64")
    taper = 0.25 * 512 / 2
    place = np.arange(512)
    rising = 0.5 * (1 - np.cos(np.pi * place / taper))
    falling = 0.5 * (1 - np.cos(np.pi * (512 - place) / taper))
    window = np.where(place < taper, rising, np.where(place > 512 - taper, falling, 1.0))
    expected = []
    for start in range(0, len(samples) - 511, 159):
        part = samples[start : start + 512]
        bins = np.abs(np.fft.rfft((part - part.mean()) * window)) ** 2
        bins[1:-1] *= 2
        expected.append(np.log(bins / (16000 * (window**2).sum()) + 1e-7))
    found = log_power(samples)
    assert found.shape == (257, 299)
    np.testing.assert_allclose(found, np.array(expected).T, rtol=1e-4, atol=1e-4)


def test_log_magnitude_by_hand():
    samples = noise(5 * 16000).astype("float64")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    padded = np.pad(samples, 128)
    starts = range(0, len(padded) - 255, 128)
    bins = [np.abs(np.fft.rfft(padded[at : at + 256] * window)) for at in starts]
    found = log_magnitude(samples)
    assert found.shape == (129, 626)
    np.testing.assert_allclose(found, np.log(np.array(bins).T + 1e-7), rtol=1e-4, atol=1e-4)


def test_sound_is_resampled_and_fitted(tmp_path):
    time = np.arange(22050) / 22050
    tone = resampled(np.sin(2 * np.pi * 440 * time).astype("float32"), 22050, 16000, tmp_path)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert tone.shape == (16000,)
    np.testing.assert_allclose(tone[200:-200], expected[200:-200], atol=2e-2)
    assert fitted(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert fitted(np.arange(3), 2).tolist() == [0, 1]


@pytest.mark.parametrize("axis", [1, 2])
def test_random_slices(axis):
    layer = RandomSlice(3, axis=axis, seed=1)
    x = np.arange(40 * 8 * 8, dtype="float32").reshape(40, 8, 8)
    middle = np.take(x, [2, 3, 4], axis)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), middle)
    drawn = ops.convert_to_numpy(layer(x, training=True))
    starts = [
        next(s for s in range(6) if np.array_equal(part, np.take(whole, range(s, s + 3), axis - 1)))
        for part, whole in zip(drawn, x, strict=True)
    ]
    assert set(starts) == set(range(6))
    with pytest.raises(ValueError, match="at least 9 steps"):
        RandomSlice(9)(x)


def test_random_crops_are_parts_of_their_pictures():
    """Of a picture whose channels are its rows and columns, a part is an even ramp inside it."""
    rows, columns = np.meshgrid(np.arange(32.0), np.arange(32.0), indexing="ij")
    pictures = np.tile(np.stack([rows, columns], -1), (64, 1, 1, 1)).astype("float32")
    layer = RandomResizedCrop(24, 16, seed=1)
    drawn = ops.convert_to_numpy(layer(pictures, training=True))
    assert drawn.shape == (64, 24, 16, 2)
    steps = np.diff(drawn[..., 0], axis=1), np.diff(drawn[..., 1], axis=2)
    for step in steps:  # The same within a part, another in each.
        flat = step[:, 1:-1, 1:-1].reshape(64, -1)
        np.testing.assert_allclose(
            flat, flat.mean(1, keepdims=True).repeat(flat.shape[1], 1), atol=1e-3
        )
    tall, wide = steps[0].mean((1, 2)) * 24, steps[1].mean((1, 2)) * 16
    area = tall * wide / 32**2
    assert 0.05 < area.min() < 0.3
    assert 0.7 < area.max() < 1.05
    assert drawn.min() >= 0
    assert drawn.max() <= 31 + 1e-4  # Interpolation rounds.
    still = ops.convert_to_numpy(layer(pictures))
    np.testing.assert_allclose(still[0], still[1])


def test_layers_are_saved(tmp_path):
    inputs = keras.Input((4, 16, 16, 3))
    x = keras.layers.Reshape((16, 16, 3))(RandomSlice(1)(inputs))
    model = keras.Model(inputs, RandomResizedCrop(8, 8)(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).random((2, 4, 16, 16, 3)).astype("float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_papers_schedule():
    assert rate(0, 100) == 1e-2
    assert rate(99, 100) == pytest.approx(1e-4 + 9.9e-3 * 0.01**0.9)
    train, chosen, test = np.arange(6), np.arange(6, 8), np.arange(8, 10)
    found = folds([(train, chosen, test)], PAPER, 10)
    [(trained, first, second)] = found.splits
    assert trained.tolist() == list(range(8))
    assert second.tolist() == [8, 9]
    assert found.samples[first].tolist() == [8, 9]
    assert not set(first) & {*trained, *second}
    [(trained, _, _)] = folds([(train, chosen, test)], PAPER, 10, is_published=True).splits
    assert trained.tolist() == list(range(6))
    arrays = {"x": np.arange(10) * 10}
    assert found.source(arrays)(np.concatenate([first, second]))["x"].tolist() == [80, 90, 80, 90]
    assert found.taken(arrays["x"])[-2:].tolist() == [80, 90]
    labels = np.arange(10)
    assert folds([(train, chosen, test)], OURS, 10).taken(labels) is labels  # Pixels are many.


def test_the_published_split_is_one(capsys):
    with pytest.raises(SystemExit):
        parse(CremaD, "", ["--data", "x", "--splits", "3"])
    assert "--splits belongs to --split group" in capsys.readouterr().err
    assert parse(CremaD, "", ["--data", "x", "--splits", "3", "--split", "group"]).splits == 3
    assert parse(CremaD, "", ["--data", "x", "--split", "group"]).splits == 5


def test_the_papers_tables():
    assert all(len(row) == len(COLUMNS) for row in METHODS.values())
    assert paper_figure("published", "CrisisMMD image") == 72.7
    assert paper_figure("kd", "NYU depth") is None
    assert paper_figure("ablation: align", "AVE audio") == 63.2
    assert paper_figure("ablation: align", "NYU RGB") is None
    assert paper_figure("losses: MSE + MSE", "CREMA-D video") == 70.5
    assert paper_figure("CIRKDv2", "NYU RGB") == 36.4
    assert paper_figure("fdcmkd", "AVE audio") is None  # Ours: the paper has no such row.


def test_gains_are_of_the_same_runs():
    """A run that failed is left out of both means."""
    rows = [
        {
            "run": {"split": 0, "budget": None, "method": method, "seed": seed},
            "score": score,
            "validation": score,
        }
        for method, seed, score in (("none", 0, 0.2), ("none", 1, 0.6), ("kd", 1, 0.65))
    ]
    info = {"score": "accuracy", "mode": "max", "budgets": [None], "methods": {"kd": {}},
            "splits": [{"overlap": 0.25}], "warnings": []}  # fmt: skip
    results = {(("video", "audio"), OURS): Results(rows, info)}
    lines = comparison(results, {"audio": "CREMA-D audio"}, {"kd": "KD"})
    assert cells(lines, "KD")[-2:] == ["65.0", "+5.0"]
    # Of what the paper has no column, its figures stay empty.
    assert cells(lines, "KD")[1] == "61.7"
    without = comparison(results, {}, {"kd": "KD"})
    assert cells(without, "KD") == ["KD", "", *cells(lines, "KD")[2:]]
    # Two rows of the paper that are one configuration: one run, beside the figure of each.
    twice = "ablation: frequency + align + scale", "losses: MSE + MSE"
    info["methods"] = {twice[0]: {}}
    ran = {**rows[2], "run": {**rows[2]["run"], "method": twice[0]}}
    of_video = {(("audio", "video"), OURS): Results([*rows[:2], ran], info)}
    lines = comparison(of_video, {"video": "CREMA-D video"}, {name: name for name in twice})
    assert [cells(lines, name)[1] for name in twice] == ["70.6", "70.5"]
    assert cells(lines, twice[0])[2:] == cells(lines, twice[1])[2:] == ["", "", "65.0", "+5.0"]
    info["methods"] = {"kd": {}}
    # What the paper has and nobody ran is there, with our cells empty.
    columns, titles = {"audio": "NYU depth"}, {"kd": "KD", "c2kd": "C2KD", "pkd": "PKD"}
    lines = comparison(results, columns, titles)
    assert cells(lines, "C2KD") == ["C2KD", "31.8", "", "", "", ""]
    assert cells(lines, "CIRKDv2 + FD-CMKD") == ["CIRKDv2 + FD-CMKD", "35.1", "", "", "", ""]
    assert not any("PKD" in line for line in lines)  # Neither ran, nor has the paper a figure.


def cells(lines, title):
    [line] = [line for line in lines if line.startswith(f"| {title}")]
    return [cell.strip() for cell in line.split("|")][1:-1]
