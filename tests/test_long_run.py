"""The long run's figures: what it says of memory and pace."""

import json

import keras
import pytest
from conftest import whole_recipe

from recipes.performance import long_run
from recipes.performance.long_run import markdown, resident_memory, summarize

MB = 1_000_000


def test_summary():
    memory = [100 * MB, 180 * MB, 190 * MB, 195 * MB, 200 * MB, *[202 * MB] * 14, 201 * MB]
    pace = [50.0, *[9.0] * 4, *[4.0] * 4, 40.0, *[7.0] * 5, *[5.0] * 4, 90.0]
    found = summarize(memory, pace)
    assert found.steps == 2000
    assert found.megabytes == 200
    assert found.growth == pytest.approx(0.01)
    assert found.milliseconds == 4
    assert found.pace == pytest.approx(1.25)


def test_memory_that_shrinks_again_has_grown():
    memory = [10 * MB] * 5 + [20 * MB] + [10 * MB] * 4
    assert summarize(memory, [1.0] * 10).growth == pytest.approx(1.0)


@pytest.mark.parametrize(("memory", "pace"), [([MB] * 7, [1.0] * 7), ([MB] * 8, [1.0] * 9)])
def test_too_few_records(memory, pace):
    with pytest.raises(ValueError, match="at least 800 steps"):
        summarize(memory, pace)


def test_table(tmp_path):
    for name, last in (("torch", 0.5), ("jax", 3.0)):
        records = {"bytes": [100 * MB] * 7 + [104 * MB], "milliseconds": [2.0] * 6 + [last] * 2}
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    lines = markdown(tmp_path)
    assert lines[2:] == [
        "| jax | 800 | 100 | +4.0 % | 2.00 | 1.50 |",
        "| torch | 800 | 100 | +4.0 % | 2.00 | 0.25 |",
    ]


def test_memory_is_that_of_this_process():
    before = resident_memory()
    kept = bytearray(b"\1") * (64 * MB)
    assert resident_memory() - before > 32 * MB
    del kept


@whole_recipe
def test_short_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(long_run, "EVERY", 2)
    monkeypatch.setattr(long_run, "SETTLED", 10)
    monkeypatch.setattr(long_run, "LIMIT", 10.0)
    long_run.main(["--steps", "16", "--output", str(tmp_path)])
    name = keras.config.backend()
    records = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(records["bytes"]) == len(records["milliseconds"]) == 8
    assert min(records["milliseconds"]) > 0
    assert (tmp_path / "long_run.md").read_text().strip() in capsys.readouterr().out
    monkeypatch.setattr(long_run, "LIMIT", -1.0)
    with pytest.raises(SystemExit, match="Memory grew by"):
        long_run.main(["--steps", "16", "--output", str(tmp_path)])


@pytest.mark.parametrize("steps", ["700", "850"])
def test_steps_that_do_not_fit(steps, capsys):
    with pytest.raises(SystemExit):
        long_run.main(["--steps", steps])
    assert "a multiple of 100, at least 800" in capsys.readouterr().err
