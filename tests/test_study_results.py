"""What is made of the rows of a study, where some are missing too."""

import re

import numpy as np
import pytest

from keras_fdkd.study import Gain, Results
from keras_fdkd.study.advice import decide
from recipes.shared.study_report import write_study_report


def results(rows, splits=5, seeds=(0,), methods=("kd",), **info):
    """Of rows `(method, split, score)`; a score of `None` is a failed run's."""
    found = []
    for method, split, score in rows:
        run = {"split": split, "budget": None, "method": method, "seed": 0}
        outcome = {"score": score, "validation": score, "curve": [score], "epoch": 1,
                   "seconds_per_step": 0.1, "parameters": 1}  # fmt: skip
        found.append({"run": run, **({"error": "Traceback"} if score is None else outcome)})
    split = {"train": 60, "validation": 20, "test": 20, "overlap": 0.25}
    described = {name: {"title": name.upper()} for name in methods}
    known = {"score": "accuracy", "mode": "max", "budgets": [None], "labelled": 60,
             "methods": described, "seeds": list(seeds), "trials": 1, "cv": "5",
             "splits": [split] * splits, "backend": "torch", "warnings": []}  # fmt: skip
    return Results(found, {**known, **info})


def test_a_gain_of_one_sample_in_each_split_is_not_certain():
    """The scores are float32, so that their differences are rounded by far more than themselves."""
    right = (431, 440, 447, 452, 463)
    scores = {n: float(np.float32(n) / np.float32(500)) for n in (*right, *(n + 1 for n in right))}
    rows = [
        (method, split, scores[n + one])
        for split, n in enumerate(right)
        for method, one in (("none", 0), ("kd", 1))
    ]
    gain = results(rows).gain("kd", None)
    assert len(set(gain.values)) > 1
    assert gain.mean == pytest.approx(1 / 500, rel=1e-4)
    assert np.isnan([gain.error, gain.p_value(), *gain.interval()]).all()
    assert decide({"kd": gain}, 0.0) == ("undecided", "kd")
    # Two samples in one of the splits are a spread.
    rows[-1] = ("kd", 4, float(np.float32(465) / np.float32(500)))
    assert results(rows).gain("kd", None).error > 0


def test_a_score_that_is_not_a_number_is_not_the_best():
    """Rows of earlier versions may hold some."""
    gains = {
        "broken": Gain.of([float("nan"), 0.1], 0.25),
        "kd": Gain.of([0.01, -0.01, 0.02], 0.25),
        "pkd": Gain.of([-0.01, -0.02, 0.01], 0.25),
    }
    assert decide(gains, 0.0) == ("undecided", "kd")
    assert decide({"broken": gains["broken"]}, 0.0) == ("undecided", "broken")


PARTIAL = [("none", n, 0.5 + 0.1 * n) for n in range(5)] + [
    ("kd", n, 0.5 + 0.1 * n + 0.01 * (n % 2)) if n else ("kd", 0, None) for n in range(5)
]


def test_a_mean_over_fewer_runs_is_marked(tmp_path):
    found = results(PARTIAL)
    none, kd = found.summaries()
    assert (none.is_partial, kd.is_partial, kd.runs, kd.expected) == (False, True, 4, 5)
    text = found.report(tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| KD | 0.755 ± 0.13 (4 of 5 runs) | +0.005 " in text
    assert "| no distillation | 0.7 ± 0.16 |  |" in text
    assert "A score with a number of runs in brackets" in text
    assert "these figures stand on fewer: `kd` 4 of 5." in str(found.recommend())
    assert "a gain above 0.2" in found.report(tmp_path / "r.md", margin=0.2).read_text("utf-8")
    with pytest.raises(ValueError, match="margin"):
        found.report(tmp_path / "r.md", margin=-1)
    for kind in ("budgets", "cost"):
        figure = found.plot(kind)
        points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
        inside = {round(line.get_ydata()[0], 3): line.get_markerfacecolor() for line in points}
        assert inside == {0.7: "black", 0.755: "white"}
        assert "hollow" in (figure.axes[0].get_ylabel() or figure.get_supylabel())
    whole = results([row for row in PARTIAL if row[1]], splits=4)
    assert "of 4 runs" not in whole.report(tmp_path / "whole.md").read_text(encoding="utf-8")
    assert "hollow" not in whole.plot("cost").get_supylabel()
    # A seed that is missing in a split weighs that split less.
    assert all(line.is_partial for line in results(PARTIAL, seeds=(0, 1)).summaries())


def test_the_heading_says_whether_the_teacher_is_several(tmp_path):
    rows = [*PARTIAL, *(("teacher", n, 0.9) for n in range(5))]
    for identity, said in (
        ({}, "the teacher has 0.9"),
        ({"identity": {"ensemble": 1}}, "the teacher has 0.9"),
        ({"identity": {"ensemble": 3}}, "its 3 teachers have 0.9 on average"),
    ):
        text = results(rows, **identity).report(tmp_path / "report.md").read_text(encoding="utf-8")
        [heading] = re.findall("## All labels.*", text)
        assert heading.endswith(f"; {said}")


def test_a_recipe_s_report_is_written_though_all_runs_of_a_method_failed(tmp_path):
    failed = results([(m, n, None if m == "kd" else 0.5) for m, n, _ in PARTIAL])
    path = write_study_report(tmp_path, "Title", [], {("sound", "mouth"): failed})
    text = path.read_text(encoding="utf-8")
    assert "A recommendation needs two splits or more" in text
    assert "| no distillation | 0.5 |" in text
