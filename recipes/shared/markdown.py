"""Pieces of Markdown that reports share."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (0,)
) -> list[str]:
    """Return the lines of a table and an empty one; columns of `words` are aligned to the left."""
    rule = ["---" if column in words else "---:" for column in range(len(head))]
    lines = [head, rule, *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def tables_in(path: Path) -> list[str]:
    """Return the tables of a report, for a page that shows some of them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    groups = itertools.groupby(lines, key=lambda line: line.startswith("|"))
    return ["\n".join(group) for is_table, group in groups if is_table]


def percent(values: np.ndarray, expected: int = 0) -> str:
    """Return mean ± standard deviation of fractions in percent, and how many if they are fewer."""
    if not len(values):
        return "-"
    spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
    count = f" ({len(values)})" if len(values) < expected else ""
    return f"{100 * values.mean():.1f}{spread}{count}"


def points(value: float) -> str:
    """Return a difference of fractions in signed percentage points."""
    return f"{100 * value:+.1f}"


def interval(difference: Any) -> str:
    """Return a `recipes.benchmark.comparison.Difference` as its mean with the interval."""
    if not difference.pairs:
        return "-"
    if np.isnan(difference.low):
        return points(difference.mean)
    return f"{points(difference.mean)} [{points(difference.low)}, {points(difference.high)}]"


def p_value(value: float) -> str:
    """Return a p value with two significant digits."""
    if np.isnan(value):
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
