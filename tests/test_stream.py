"""Training from shards on disk."""

import json

import numpy as np
import pytest
from conftest import whole_recipe

grain = pytest.importorskip("grain")

from recipes.performance import stream as recipe  # noqa: E402
from recipes.performance.stream_data import stream, write_shards  # noqa: E402
from recipes.watch.data import load_watch  # noqa: E402


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    subjects = {1, 2}
    assert write_shards(folder, subjects, step=100, shards=3) == len(windows(subjects))
    return folder


def windows(subjects):
    data = load_watch()
    rows = np.isin(data.subjects, list(subjects))
    return data.signals["gyroscope"][rows]


def epoch(batches, steps):
    iterator = iter(batches)
    return [next(iterator) for _ in range(steps)]


def test_shards_hold_the_windows_and_batches_each_once(shards):
    assert len(list(shards.iterdir())) == 3
    batches, steps = stream(shards, "accelerometer", "gyroscope", seed=0)
    expected = windows({1, 2})
    assert steps == len(expected) // 64
    seen = np.concatenate([x["student"] for x, _ in epoch(batches, steps)])
    rows = {row.tobytes() for row in seen}
    assert len(rows) == len(seen)  # No window twice.
    assert rows <= {np.ascontiguousarray(row).tobytes() for row in expected}


def test_sides_and_labels_belong_together(shards):
    data = load_watch()
    batches, _ = stream(shards, "accelerometer", "gyroscope", seed=0)
    x, y = next(iter(batches))
    assert x["teacher"].shape == x["student"].shape == (64, 200, 3)
    for teacher, student, label in zip(x["teacher"], x["student"], y, strict=True):
        [row] = np.flatnonzero((data.signals["gyroscope"] == student).all(axis=(1, 2)))
        np.testing.assert_array_equal(data.signals["accelerometer"][row], teacher)
        assert data.labels[row] == label


def test_each_epoch_has_another_order_and_a_seed_repeats_it(shards):
    batches, steps = stream(shards, None, "gyroscope", seed=0)
    both = [y for _, y in epoch(batches, 2 * steps)]
    again = [y for _, y in epoch(stream(shards, None, "gyroscope", seed=0)[0], 2 * steps)]
    np.testing.assert_array_equal(both, again)
    assert not np.array_equal(both[:steps], both[steps:])


@whole_recipe
def test_recipe_trains_from_shards_of_two_sizes(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    recipe.main(["--steps", "200", "400", "--output", str(tmp_path)])
    [runs] = json.loads((tmp_path / "stream.json").read_text()).values()
    small, large = runs  # The larger step first.
    assert small["windows"] < large["windows"] < 2.5 * small["windows"]
    assert min(small["resident"]) > 1e8
    assert f"{large['windows']:,}" in (tmp_path / "stream.md").read_text()
