"""The paper's figures and ours, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.study import Results
from recipes.published.protocols import OURS, PAPER
from recipes.shared.markdown import percent, table
from recipes.shared.paper_numbers import OTHERS, SAME, paper_figure
from recipes.shared.study_command import Direction

NONE = "none"


def comparison(
    results: Mapping[tuple[Direction, str], Results],
    columns: Mapping[str, str],
    methods: Mapping[str, str],
) -> list[str]:
    """Return a table for each direction. What nobody ran, or the paper has not, stays empty.

    Args:
        results: By direction and protocol.
        columns: By the student's modality, the column of the paper's table, if it has one.
        methods: Titles by name, in the order of the tables; those that neither ran nor have a
            figure of the paper are left out.
    """
    titles = {NONE: "no distillation", **methods, **{title: title for title in OTHERS}}
    lines = []
    for direction in dict.fromkeys(direction for direction, _ in results):
        teacher, student = direction
        both = results.get((direction, PAPER)), results.get((direction, OURS))
        is_dense = any(found and found.info["score"] == "mean_iou" for found in both)
        score = "mean IoU" if is_dense else "top-1"
        head = (
            f"{score}, %", "paper", "ours, best test epoch", "minus paper",
            "ours, validation chooses", "its gain",
        )  # fmt: skip
        ran = {NONE, *(method for found in both if found for method in found.methods)}
        rows = [
            row
            for method, title in titles.items()
            if any((row := _row(method, title, columns.get(student), *both))[1:]) or method in ran
        ]
        warnings = [
            f"> {protocol}: {one}"
            for protocol, found in zip((PAPER, OURS), both, strict=True)
            for one in (found.warnings() if found else ())
        ]
        lines += [f"### {teacher} teaches {student}", "", *table(head, rows), *warnings, ""]
    return lines


def _row(
    method: str, title: str, column: str | None, best: Results | None, chosen: Results | None
) -> tuple[str, ...]:
    paper = None if column is None else paper_figure(method, column)
    method = SAME.get(method, method)  # What ran.
    # By the paper's protocol test samples validate: this is the best epoch on them.
    reached = _values(best, method, "validation")
    honest, alone = (_values(chosen, name, "score") for name in (method, NONE))
    difference = "" if paper is None or not reached else f"{100 * _mean(reached) - paper:+.1f}"
    gain = ""
    # Of runs that both have: if some are missing, the two means are of different ones.
    if chosen is not None and method != NONE and honest.keys() & alone.keys():
        gain = f"{100 * chosen.gain(method, None).mean:+.1f}"
    return (
        title,
        "" if paper is None else str(paper),
        percent(np.array([*reached.values()])) if reached else "",
        difference,
        percent(np.array([*honest.values()])) if honest else "",
        gain,
    )


def _mean(values: Mapping[Any, float]) -> float:
    return float(np.mean([*values.values()]))


def _values(results: Results | None, method: str, name: str) -> dict[Any, float]:
    """Return a figure of each run of a method, by split and seed."""
    if results is None or (method != NONE and method not in results.methods):
        return {}
    return {run: row[name] for run, row in results.runs(method, None).items()}


def write_comparison(
    folder: Path, title: str, introduction: Sequence[str], tables: Sequence[str]
) -> Path:
    """Write `report.md` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.md"
    lines = [f"# {title}", "", *introduction, "", "## The paper and ours", "", *tables]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return path
