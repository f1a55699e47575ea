"""Tables of results, for the terminal and for reports."""

import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from keras_fdkd.study.summary import Summary

if TYPE_CHECKING:
    from keras_fdkd.study.results import Results

HEAD = (
    "method", "score", "gain [95 %]", "worst", "P(gain > 0)", "p, Holm", "kept", "step", "runs",
)  # fmt: skip
_WIDTH = 120  # where no terminal says how wide it is


def cells(line: Summary) -> tuple[str, ...]:
    """Return a line of the table as text, with the columns of `HEAD`."""
    gain = line.gain
    failed = f" ({line.failed} failed)" if line.failed else ""
    spread = "" if math.isnan(line.spread) else f" ± {line.spread:.2g}"
    part = f" ({line.runs} of {line.expected} runs)" if line.is_partial else ""
    return (
        line.title,
        f"{line.score:.3g}{spread}{part}",
        str(gain),
        f"{min(gain.values):+.3g}" if gain.values else "",
        _or_nothing(gain.probability(), ".2f"),
        _or_nothing(line.adjusted_p, ".2g"),
        str(line.kept),
        _or_nothing(line.cost, ".2f"),
        f"{line.runs}{failed}",
    )


def heading(results: "Results", budget: int | None) -> str:
    """Return the heading of a table, with the teacher's score."""
    labels = "All labels" if budget is None else f"{budget} labels"
    score, _ = results.teacher(budget)
    # Studies of earlier versions do not say how many teachers they had.
    several = results.info.get("identity", {}).get("ensemble", 1)
    teacher = f"; the teacher has {score:.3g}"
    if several > 1:
        teacher = f"; its {several} teachers have {score:.3g} on average"
    if math.isnan(score):
        teacher = ""
    better = "higher" if results.info["mode"] == "max" else "lower"
    return f"{labels}: {results.info['score']} on the test folds ({better} is better){teacher}"


def print_tables(results: "Results") -> None:
    """Print a table for each label budget."""
    console = Console()
    if not console.is_terminal and not console.is_jupyter:
        console = Console(width=_WIDTH)
    for budget in results.budgets:
        table = Table(*HEAD, title=heading(results, budget), box=box.SIMPLE_HEAD)
        for line in results.summaries(budget):
            table.add_row(*cells(line))
        console.print(table)
    for warning in results.warnings():
        console.print(warning)


def _or_nothing(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
