"""The benchmark's statistics on known examples, and its report on made-up rows."""

import csv
import itertools

import numpy as np
import pytest

from recipes.benchmark import inference
from recipes.benchmark.comparison import chosen, cost, difference, paired, rank
from recipes.benchmark.inference import (
    bootstrap_interval,
    critical_distance,
    friedman,
    groups,
    rank_rows,
    signed_rank,
)
from recipes.benchmark.methods import ABLATIONS, METHODS
from recipes.benchmark.other_pairs import RESULTS, other_pairs
from recipes.benchmark.paper_tables import ROWS
from recipes.benchmark.plots import plot_ranks
from recipes.benchmark.protocol import row_counts
from recipes.benchmark.report import write_report
from recipes.benchmark.rows import Block, Results
from recipes.benchmark.sections import Comparison
from recipes.benchmark.short_tables import (
    gains_table,
    intervals,
    intervals_in_words,
    load_results,
    steps_table,
)

TITLES = {"none": "no distillation", "kd": "KD", "at": "AT", "published": "FD-CMKD"}
# What a method adds to no distillation, so that tables can be foreseen.
GAIN = {"none": 0.0, "kd": 0.02, "at": -0.04, "published": 0.06}
MODALITIES = {"digits": ("audio", "picture"), "watch": ("arm", "hand")}
EVERYWHERE = Block("watch", "arm", "hand", "all")


def make_row(experiment, teacher, student, budget, method, seed, **changes):
    accuracy = 0.5 + 0.1 * (experiment == "digits") + 0.01 * seed
    accuracy += GAIN.get(method, 0.01) * (1 + 0.1 * (seed % 2))
    tried = [{"weight": weight, "bands": 2} for weight in (0.3, 1.0, 3.0)]
    tried = [] if method == "none" else tried if method in TITLES else [{}]
    row = {
        "task": {
            "experiment": experiment, "teacher": teacher, "student": student, "budget": budget,
            "method": method, "seed": seed, "epochs": 0, "base": "",
        },
        "setting": tried[seed % len(tried)] if tried else {},
        "candidates": [{"setting": one, "validation_accuracy": 0.5} for one in tried],
        "validation_accuracy": accuracy + 0.1,
        "test_accuracy": accuracy,
        "epoch": 2,
        "curve": [0.1, 0.4, 0.5],
        "seconds_per_step": 0.01 if method == "none" else 0.015,
        "parameters": 1234,
        "seconds": 1.0,
        "overlap": 0.25,
    }  # fmt: skip
    return {**row, **changes}


def make_rows(seeds=3, methods=tuple(TITLES), budgets=("all", "few"), ablations=()):
    rows = []
    for (experiment, pair), budget, seed in itertools.product(
        MODALITIES.items(), budgets, range(seeds)
    ):
        rows += [make_row(experiment, "", student, budget, "none", seed) for student in pair]
        for teacher, student in (pair, pair[::-1]):
            names = [name for name in methods if name != "none"]
            if experiment == "digits" and "at" in names:
                names.remove("at")
            names += ablations if budget == "all" else ()
            rows += [make_row(experiment, teacher, student, budget, m, seed) for m in names]
    return rows


def without(rows, **task):
    kept = [row for row in rows if not task.items() <= row["task"].items()]
    assert len(kept) < len(rows)
    return kept


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(inference, "RESAMPLES", 199)


# Statistics


def test_critical_distance_of_the_source():
    # Demšar 2006, section 3.2.2: q of 2.569 and 2.291, so CD of 1.25 and 1.12.
    size = (4 * 5 / (6 * 14)) ** 0.5
    assert round(critical_distance(4, 14) / size, 3) == 2.569
    assert round(critical_distance(4, 14, 0.1) / size, 3) == 2.291
    assert round(critical_distance(4, 14), 2) == 1.25
    # With two methods it is the normal distribution's two-sided quantile.
    assert critical_distance(2, 25) == pytest.approx(1.959964 * (2 * 3 / (6 * 25)) ** 0.5)


def test_groups_of_the_source():
    ranks = [3.143, 2.000, 2.893, 1.964]
    assert groups(ranks, 1.12) == [(1.964, 2.893), (2.893, 3.143)]
    assert groups(ranks, 1.25) == [(1.964, 3.143)]
    assert groups([1.0, 2.0, 3.0], 0.5) == []


def test_ranks_share_ties():
    scores = np.array([[0.9, 0.8, 0.8, 0.1], [0.5, 0.5, 0.5, 0.6]])
    np.testing.assert_allclose(rank_rows(scores), [[1, 2.5, 2.5, 4], [3, 3, 3, 1]])
    third = np.array([[(0.1 + 0.2) / 3, 0.3 / 3]])  # Equal but for rounding.
    np.testing.assert_allclose(rank_rows(third), [[1.5, 1.5]])


def test_means_of_float32_tie():
    half, six, seven = (float(np.float32(value)) for value in (0.5, 0.6, 0.7))
    first, second = (half + seven) / 2, (six + six) / 2
    assert abs(first - second) > 1e-9
    np.testing.assert_allclose(rank_rows(np.array([[first, second]])), [[1.5, 1.5]])
    assert np.isnan(friedman(np.array([[first, second, second]] * 3))).all()
    assert signed_rank([1, 2, 3, 4, 5, 6, first - second]) == signed_rank([1, 2, 3, 4, 5, 6])
    assert bootstrap_interval([np.array([first - second] * 2)], [1]) == (0, 0)


def test_friedman():
    # One order in all of n blocks: n (k - 1) is the largest value; chi-squared with k - 1 degrees.
    statistic, p = friedman(np.array([[0.3, 0.2, 0.1]] * 4))
    assert (statistic, p) == pytest.approx((8, np.exp(-4)))
    assert np.isnan(friedman(np.ones((4, 3)))).all()
    assert np.isnan(friedman(np.array([[0.1, 0.2]] * 4))).all()


def test_signed_rank():
    assert signed_rank([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 2**6)
    assert signed_rank([0, 1, 2, 3, 4, 5, 6, 0.1 + 0.2 - 0.3]) == pytest.approx(2 / 2**6)
    assert signed_rank([0.0, 0.0]) == 1


def test_intervals():
    # Strata are weighted, and no stratum borrows from another.
    assert bootstrap_interval([np.ones(3), 3 * np.ones(2)], [1, 3]) == (2.5, 2.5)
    assert bootstrap_interval([np.array([0.0, 1.0])], [1]) == (0, 1)
    assert np.isnan(bootstrap_interval([np.ones(3), np.ones(1)], [1, 1])).all()


def test_bootstrap_interval_agrees_with_theory(monkeypatch):
    monkeypatch.setattr(inference, "RESAMPLES", 9999)
    values = np.random.default_rng(0).normal(size=200)
    low, high = bootstrap_interval([values], [1])
    half = 1.96 * values.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


# Rows


def test_only_common_seeds_are_paired():
    rows = without(make_rows(), method="kd", seed=1)
    results = Results(rows)
    assert paired(results, "kd", "none", EVERYWHERE) == pytest.approx({0: 0.02, 2: 0.02})
    assert paired(results, "kd", "absent", EVERYWHERE) == {}
    one = difference(results, "kd", lambda block: "none", [EVERYWHERE])
    assert (one.pairs, one.mean) == (2, pytest.approx(0.02))
    # Seed 1 is 10% more; every seed counts once.
    whole = difference(Results(make_rows()), "kd", lambda block: "none", [EVERYWHERE])
    assert (whole.pairs, whole.mean) == (3, pytest.approx((0.02 + 0.022 + 0.02) / 3))


def test_a_reference_that_ran_in_one_of_two_blocks():
    rows = without(make_rows(), method="none", experiment="watch", student="hand", budget="few")
    both = [EVERYWHERE, EVERYWHERE._replace(budget="few")]
    one, alone = (
        difference(Results(rows), "kd", lambda block: "none", blocks) for blocks in (both, both[:1])
    )
    assert one == alone
    assert (one.pairs, one.mean) == (3, pytest.approx((0.02 + 0.022 + 0.02) / 3))
    assert one.low < one.mean < one.high


def test_one_sample_in_each_seed_is_no_certain_difference():
    rows = make_rows(methods=("none", "kd"))
    for row in rows:
        right = (431, 447, 463)[row["task"]["seed"]] + (row["task"]["method"] == "kd")
        row["test_accuracy"] = float(np.float32(right) / np.float32(500))
    found = difference(Results(rows), "kd", lambda block: "none", [EVERYWHERE])
    assert found.mean == pytest.approx(1 / 500, rel=1e-4)
    assert np.isnan([found.low, found.high]).all()


def test_seeds_of_an_experiment_are_drawn_together():
    rows = without(make_rows(), method="kd", seed=1, experiment="watch", budget="few")
    results = Results(rows)
    assert len(results.blocks) == 8
    pooled = difference(results, "kd", lambda block: "none", results.blocks)
    # Both budgets of the watch lose the seed; the digits keep it.
    assert pooled.pairs == 4 * 3 + 4 * 2
    assert pooled.blocks == pytest.approx([0.062 / 3] * 4 + [0.02] * 4)
    assert pooled.mean == pytest.approx(np.mean(pooled.blocks))
    assert pooled.p == pytest.approx(signed_rank([1.0] * 8))
    at = difference(results, "at", lambda block: "none", results.blocks)
    assert (at.pairs, len(at.blocks)) == (12, 4)
    nothing = difference(results, "absent", lambda block: "none", results.blocks)
    assert nothing.pairs == 0
    assert np.isnan(nothing.mean)


def test_methods_alone_serve_as_baseline_and_teacher():
    results = Results(make_rows())
    teacher = results.teacher(EVERYWHERE)[1]["task"]
    assert (teacher["method"], teacher["student"]) == ("none", "arm")
    assert results.runs("none", EVERYWHERE)[1]["task"]["student"] == "hand"
    alone = Results(make_rows(methods=("none",)))
    assert alone.blocks == results.blocks


def test_methods_with_few_seeds_take_no_part():
    rows = without(make_rows(), method="kd", seed=1)
    for seed in (0, 1):
        rows = without(rows, method="at", seed=seed)
    results = Results(rows, list(TITLES))
    assert results.shared(results.methods, EVERYWHERE) == (["none", "kd", "published"], [0, 2])
    apart = without(without(make_rows(2), method="kd", seed=0), method="none", seed=1)
    assert Results(apart).shared(["none", "kd", "at"], EVERYWHERE) == (["kd", "at"], [1])


def test_best_baseline_is_chosen_by_validation():
    rows = make_rows()
    assert Results(rows).best_baseline(EVERYWHERE) == "kd"
    for row in rows:
        if row["task"]["method"] == "at":
            row["validation_accuracy"] = 0.9  # Its test accuracy is the worst.
        if row["task"]["method"] == "published":
            row["validation_accuracy"] = 1.0  # It is no baseline.
    assert Results(rows).best_baseline(EVERYWHERE) == "at"


def test_rank():
    rows = without(make_rows(), method="kd", seed=0, experiment="watch")
    ranking = rank(Results(rows, list(TITLES)))
    assert ranking.methods == ["none", "kd", "published"]
    assert ranking.left_out == {"at": "no rows in 4 of 8 settings"}
    np.testing.assert_allclose(ranking.ranks, [[3, 2, 1]] * 8)
    # Digits first; the seed that one method lacks is left out for all.
    assert ranking.seeds == [3, 3, 2, 2, 3, 3, 2, 2]
    assert ranking.accuracy[2] == pytest.approx([0.515, 0.515 + 0.021, 0.515 + 0.063])


def test_cost_and_choices():
    results = Results(make_rows())
    assert cost(results, "kd") == pytest.approx([1.5] * 8)
    assert cost(results, "none") == [1.0] * 8
    # Seeds 0, 1 and 2 choose one each; what all candidates share is not named.
    assert chosen(results, "kd") == {"weight 0.3": 8, "weight 1.0": 8, "weight 3.0": 8}
    assert chosen(results, "none") == {}


def test_rows_that_do_not_belong_together():
    rows = make_rows(1)
    with pytest.raises(ValueError, match="one row for each setting and seed"):
        Results([*rows, rows[0]])
    other = make_row("watch", "arm", "hand", "all", "kd", 7)
    other["task"]["epochs"] = 2
    with pytest.raises(ValueError, match=r"same `epochs`.*epochs=\[0, 2\]"):
        Results([*rows, other])


def test_expected_rows():
    rows = make_rows(ablations=["cutoff: 1/4"])
    results = Results(without(rows, method="kd", seed=1, budget="few", experiment="watch"))
    there, expected = row_counts(results)
    # Two experiments, directions or modalities, and budgets; AT in one experiment.
    assert expected == {"none": 24, "kd": 24, "at": 12, "published": 24, "cutoff: 1/4": 12}
    assert there == {**expected, "kd": 22}
    _, told = row_counts(results, [row["task"] for row in rows] + [{"method": "rkd"}])
    assert told == {**expected, "rkd": 1}


def test_the_paper_s_rows_are_the_benchmark_s():
    assert sorted(ROWS) == sorted(ABLATIONS)


# Report


def sections(report):
    return {part.split("\n")[0]: part for part in report.split("\n## ")}


def test_report(tmp_path):
    rows = make_rows(ablations=list(ROWS))
    write_report(rows, tmp_path / "new", titles=TITLES)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {
        "report.md", "summary.csv", "ranks.png", "differences.png", "learning_curves.png",
        "cutoff.png",
    }  # fmt: skip
    report = (tmp_path / "new" / "report.md").read_text(encoding="utf-8")
    assert "\n228 of 228 expected rows are there.\n" in report
    assert all(f"]({name})" in report for name in names if name.endswith(".png"))
    assert "nan" not in report.lower()
    part = sections(report)
    # 0.61 of the seeds' mean, and 6 points with 10% more in one of three seeds.
    assert "| AT | -4.1 | -4.1 | -4.1 | +0.0 | +0.0 | - |" in part["In short"]
    assert "| FD-CMKD | +6.2 | +6.2 | +6.2 | +6.2 | +6.2 | +6.2 |" in part["In short"]
    assert "better than no distillation: KD, FD-CMKD; worse: no method." in part["In short"]
    assert "| *teacher by itself* | 61.0 ± 1.0 | 61.0 ± 1.0 |" in part["Test accuracy"]
    assert "| AT | - | - | 46.9 ± 1.0 | 46.9 ± 1.0 |" in part["Test accuracy"]
    none = part["Difference to no distillation"]
    assert "4 of 20 intervals, in 1 of 3 methods; wholly above: 16." in none
    assert "| AT | 4 of 8 | 12 | -4.1 [-4.4, -4.0] | 0.12 | 0.12 | 4 | 0 |" in none
    assert "| -4.1 [-4.9, -3.4] ▼ |" in none  # corrected: 0.23 * sqrt(1/3 + 1/4) * 4.30
    best = part["Difference to the best baseline"]
    assert "| best baseline | KD | KD | KD | KD |" in best
    assert "| FD-CMKD | +4.1 [+3.4, +4.9] ▲ |" in best
    ranks = part["Ranks"]
    assert "- AT: no rows in 4 of 8 settings" in ranks
    assert "| FD-CMKD | 1.00 |\n| KD | 2.00 |\n| no distillation | 3.00 |" in ranks
    assert "Friedman test: chi-squared 16.0, p 0.00034." in ranks
    assert "critical distance 1.17 " in ranks  # 2.343 * sqrt(3 * 4 / (6 * 8))
    assert "| KD | 1.50 | 1.50 to 1.50 |" in part["Cost"]
    assert "| watch: hand | 1,234 |" in part["Cost"]
    paper = part["The paper's tables on these data"]
    assert "| frequency + align | 62.0 ± 1.0 | 62.0 ± 1.0 | 52.0 ± 1.0 | 52.0 ± 1.0 |" in paper
    assert "| +0.0 [+0.0, +0.0] | 61.8 | 68.7 | 62.4 | 45.8 |" in paper
    assert paper.count("| logMSE + logMSE |") == paper.count("| 68.0 |") == 1
    assert "| KD | weight 0.3: 8; weight 1.0: 8; weight 3.0: 8 |" in part["Chosen candidates"]
    how = part["How it was done"]
    assert "Epochs: digits 3, watch 3." in how
    assert "Every distillation method has 3 candidate settings of its own; no" in how
    assert "`digits` pairs its modalities by label only" in how
    assert "| AT | 12 | 12 | digits |" in part["Rows"]


def test_summary_csv(tmp_path):
    write_report(make_rows(ablations=["cutoff: 1/4"]), tmp_path, titles=TITLES)
    with (tmp_path / "summary.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 * 3 + 4 + 4  # KD, ours, none; AT in one experiment; one budget
    (line,) = (
        line for line in lines
        if (line["method"], *(line[name] for name in Block._fields)) == ("published", *EVERYWHERE)
    )  # fmt: skip
    assert line["seeds"] == line["minus_none_pairs"] == "3"
    assert line["best_baseline"] == "kd"
    assert float(line["test_accuracy"]) == pytest.approx(0.51 + 0.062, abs=1e-6)
    assert float(line["minus_none"]) == pytest.approx(0.062, abs=1e-6)
    assert float(line["minus_best"]) == pytest.approx(0.062 - 0.062 / 3, abs=1e-6)


def test_report_of_missing_rows(tmp_path):
    rows = without(make_rows(), method="kd", seed=1, experiment="watch", budget="few")
    rows = without(rows, method="published", experiment="digits", student="audio")
    write_report(rows, tmp_path, titles=TITLES)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    part = sections(report)
    assert "\n76 of 84 expected rows are there.\n" in report
    assert "| KD | 22 | 24 |  |" in part["Rows"]
    assert "| FD-CMKD | 18 | 24 |  |" in part["Rows"]
    assert "(2) |" in part["Test accuracy"]
    assert "| FD-CMKD | +6.2 | +6.2 | +6.2 | +6.2 | +6.2 | +6.2 |" in part["In short"]
    assert "- FD-CMKD: no rows in 2 of 8 settings" in part["Ranks"]
    assert "(2 to 3 a setting)" in part["Ranks"]
    assert "| KD | 8 of 8 | 20 |" in part["Difference to no distillation"]
    assert "No rows of the ablation" in part["The paper's tables on these data"]
    assert not (tmp_path / "cutoff.png").exists()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        make_rows(1, methods=("none",)),
        make_rows(1),
        make_rows(2, methods=("none", "kd"), ablations=["cutoff: 1/4"]),
        without(make_rows(2), method="none"),
    ],
    ids=["nothing", "baseline", "one seed", "one cutoff", "no baseline"],
)
def test_report_of_little(rows, tmp_path):
    write_report(rows, tmp_path, titles=TITLES)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"\n{len(rows)} of " in report
    assert "nan" not in report.lower()
    assert len(sections(report)) == 12


def test_short_tables():
    table = (
        "| method | mean | median | worst setting | better one kept: mean | its worst | digits |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| KD | +2.1 | +2.1 | +2.1 | +2.1 | +2.1 | +2.1 |\n"
    )
    expected = f"### All labels\n\n{table}\n### Few labels\n\n{table}"
    comparison = Comparison(Results(make_rows(methods=("none", "kd")), list(TITLES)), TITLES)
    assert "\n".join(comparison.in_short()).strip() + "\n" == expected


def test_without_titles_methods_have_their_own(tmp_path):
    write_report(make_rows(methods=("c2kd",)), tmp_path)
    assert f"| {METHODS['c2kd'].title} | " in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_short_tables_say_what_the_report_says():
    """Of the committed rows, as the guides show them."""
    found = load_results()
    report = sections((RESULTS / "benchmark" / "report.md").read_text(encoding="utf-8"))
    tables = report["In short"].split("### Few labels")
    for line in gains_table(found, kept=True, digits=True)[2:-1]:
        title, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for number, table in enumerate(tables):
            [row] = [row for row in table.splitlines() if row.startswith(f"| {title} |")]
            mean, _, worst, kept, _, digits = (cell.strip() for cell in row.split("|")[2:-1])
            assert [mean, worst] == cells[2 * number : 2 * number + 2]
            assert kept == cells[4 + number]
            assert number == 0 or digits == cells[6]
    for line in steps_table(found)[2:-1]:
        assert line in report["Cost"]
    for budget in ("all", "few"):
        total, below, above = intervals(found, budget)
        said = f"{budget} labels {below} of {total} intervals lie wholly below no distillation and"
        assert f"{said} {above} above." in intervals_in_words(found)
    total, below, above = np.add(intervals(found, "all"), intervals(found, "few"))
    text = report["Difference to no distillation"]
    assert f": {below} of {total} intervals" in text
    assert f"wholly above: {above}." in text


def test_rank_diagram_names_every_method():
    ranks = {"a": 1.5, "b": 1.6, "c": 4.0, "d": 2.9}
    (axis,) = plot_ranks(ranks, 1.45).axes
    texts = [text.get_text().strip() for text in axis.texts]
    assert {"a  1.50", "b  1.60", "4.00  c", "2.90  d", "CD = 1.45"} <= set(texts)
    bars = [line.get_xdata() for line in axis.lines if line.get_linewidth() == 4]
    np.testing.assert_allclose(bars, [(1.47, 2.93), (2.87, 4.03)])


def test_other_pairs_are_read_from_their_studies():
    """Of the committed rows: a line for each direction and budget, as the pair's own report has."""
    lines = other_pairs(RESULTS)
    rows = [line for line in lines if line.startswith("| omniglot character: pen → picture | all")]
    [row] = rows
    report = (RESULTS / "omniglot" / "character" / "report.md").read_text(encoding="utf-8")
    gains = [cell.strip() for cell in row.split("|")[5:8]]
    assert len(gains) == 3
    for gain in gains:
        assert gain in report
    assert any(line.startswith("| earth: satellite → relief | 20 | mean_iou") for line in lines)
    assert other_pairs(RESULTS / "speed") == []
