"""The report of the benchmark: `report.md`, `summary.csv` and the figures, from its rows."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.study.statistics import holm
from recipes.benchmark.details import candidates_section, cost_section
from recipes.benchmark.inference import LEVEL
from recipes.benchmark.other_pairs import other_pairs
from recipes.benchmark.paper_tables import ROWS, paper_section
from recipes.benchmark.protocol import protocol, row_counts, row_table
from recipes.benchmark.rows import Results, Row
from recipes.benchmark.sections import Comparison


def write_report(
    rows: Iterable[Row],
    folder: Path,
    *,
    titles: Mapping[str, str] | None = None,
    tasks: Iterable[Mapping[str, Any]] | None = None,
    others: Path | None = None,
) -> None:
    """Write the report of whatever rows there are.

    Args:
        rows: As `recipes.benchmark.studies.benchmark_rows` returns them.
        folder: Made if it is missing.
        titles: Methods in the order of the tables, with their titles. Defaults to those of
            `recipes.benchmark.methods.TITLES`.
        tasks: What was to run, each with the keys of `row["task"]`, to tell which rows are
            missing. Defaults to every method in every direction and budget of the experiments
            where it has rows at all, with every seed.
        others: Folder of the results of other recipes. Defaults to `None`: they are left out.

    Raises:
        ValueError: If rows are not comparable: see `Results`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    titles = _titles() if titles is None else titles
    results = Results(rows, (*titles, *ROWS))
    comparison = Comparison(results, titles)
    there, expected = row_counts(results, tasks)
    sections = {
        "In short": _summary(comparison),
        **({"Other pairs": other_pairs(others)} if others else {}),
        "Test accuracy": comparison.accuracy(),
        "Difference to no distillation": comparison.to_no_distillation(folder),
        "Difference to the best baseline": comparison.to_best_baseline(),
        "Ranks": comparison.ranks(folder),
        "Learning curves": comparison.curves(folder),
        "Cost": cost_section(results, titles),
        "The paper's tables on these data": paper_section(results, titles, folder),
        "Chosen candidates": candidates_section(results, titles),
        "How it was done": protocol(results),
        "Rows": row_table(results, titles, there, expected),
    }
    lines = [
        "# Benchmark",
        "",
        f"{sum(there.values())} of {sum(expected.values())} expected rows are there.",
        "A setting is an experiment, a direction from teacher to student, and a label budget.",
        "",
    ]
    for title, body in sections.items():
        lines += [f"## {title}", "", *(body or ["No rows.", ""])]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    _write_csv(comparison, folder / "summary.csv")


def _titles() -> dict[str, str]:
    from recipes.benchmark.methods import TITLES  # Keras is not needed where titles are given.

    return dict(TITLES)


def _summary(comparison: Comparison) -> list[str]:
    return [
        "Test accuracy minus that of no distillation, in points; settings have equal weight, and",
        "in brackets is how many of them a method has rows in, if not all. `digits` stand apart:",
        "their pairs are made by label, so a pair tells the label. `better one kept`: in each run",
        "the student with the better validation accuracy is kept, the plain or the distilled one.",
        "",
        *comparison.in_short(),
        _verdict(comparison),
        "",
    ]


def _verdict(comparison: Comparison) -> str:
    """Return which methods differ from no distillation over all settings."""
    pooled = comparison.pooled_none
    adjusted = holm({method: one.p for method, one in pooled.items()})
    found = [method for method, p in adjusted.items() if p < LEVEL]
    above, below = (
        ", ".join(comparison.title(m) for m in found if sign * pooled[m].mean > 0) or "no method"
        for sign in (1, -1)
    )
    return (
        f"Over the settings (signed-rank test, p after Holm below {LEVEL}) better than no "
        f"distillation: {above}; worse: {below}."
    )


def _write_csv(comparison: Comparison, file: Path) -> None:
    """Write a line for each method and setting; empty where there is no value."""
    results = comparison.results
    with file.open("w", newline="", encoding="utf-8") as stream:
        # By default lines end as on Windows.
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow((
            "method", "experiment", "teacher", "student", "budget", "seeds",
            "test_accuracy", "test_accuracy_std", "validation_accuracy",
            "minus_none", "minus_none_low", "minus_none_high", "minus_none_pairs",
            "best_baseline", "minus_best", "minus_best_low", "minus_best_high", "minus_best_pairs",
            "seconds_per_step",
        ))  # fmt: skip
        for block in results.blocks:
            for method in (*results.methods, *results.ablations):
                test = results.values(method, block)
                if not len(test):
                    continue
                to_none, to_best = (
                    found[method, block] for found in (comparison.to_none, comparison.to_best)
                )
                writer.writerow((
                    method, *block, len(test),
                    *map(_number, (
                        test.mean(),
                        test.std(ddof=1) if len(test) > 1 else np.nan,
                        results.values(method, block, "validation_accuracy").mean(),
                        to_none.mean, to_none.low, to_none.high,
                    )),
                    to_none.pairs, comparison.best[block],
                    *map(_number, (to_best.mean, to_best.low, to_best.high)), to_best.pairs,
                    _number(np.median(results.values(method, block, "seconds_per_step"))),
                ))  # fmt: skip


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
