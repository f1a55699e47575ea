"""Short tables of the benchmark's committed rows, for the documentation."""

from collections.abc import Sequence

import numpy as np

from keras_fdkd.study.row_file import read_rows
from recipes.benchmark.comparison import cost, difference, gains, no_distillation
from recipes.benchmark.methods import NONE, TITLES
from recipes.benchmark.other_pairs import RESULTS
from recipes.benchmark.rows import BUDGETS, Block, Results
from recipes.benchmark.sections import points_of
from recipes.shared.markdown import table

FILE = RESULTS / "benchmark" / "rows.jsonl"


def load_results() -> Results:
    """Return the committed rows."""
    return Results(read_rows(FILE), list(TITLES))


def settings(results: Results, budget: str, digits: bool = False) -> list[Block]:
    """Return the settings of a label budget: those of watch and emoji, or those of digits."""
    return [
        block
        for block in results.blocks
        if block.budget == budget and (block.experiment == "digits") == digits
    ]


def gains_table(
    results: Results,
    methods: Sequence[str] = (),
    *,
    kept: bool = False,
    digits: bool = False,
    steps: bool = False,
) -> list[str]:
    """Return a table of the mean gain over no distillation and of the worst setting, in points.

    Args:
        results: See `load_results`.
        methods: Names of methods. Defaults to `()`: those that ran in every setting.
        kept: Whether to add the mean gain if each run keeps the student, plain or distilled, that
            its validation data prefer.
        digits: Whether to add the mean gain on digits with few labels.
        steps: Whether to add the median time of a step, relative to a student alone.
    """
    head = ["method", "all labels", "worst setting", "few labels", "worst setting"]
    head += ["better one kept, all labels", "few labels"] * kept
    head += ["digits, few labels"] * digits + ["time of a step"] * steps
    rows = []
    for name in methods or everywhere(results):
        cells = [TITLES[name]]
        for budget in BUDGETS:
            found = gains(results, name, settings(results, budget))
            cells += [points_of(np.mean, found), points_of(np.min, found)]
        for budget in BUDGETS * kept:
            found = gains(results, name, settings(results, budget), kept=True)
            cells.append(points_of(np.mean, found))
        if digits:
            found = gains(results, name, settings(results, "few", digits=True))
            cells.append(points_of(np.mean, found))
        if steps:
            cells.append(f"{np.median(cost(results, name)):.2f}")
        rows.append(cells)
    return table(head, rows)


def steps_table(results: Results) -> list[str]:
    """Return a table of what a step costs, relative to a student alone, cheap methods first."""
    ratios = {name: cost(results, name) for name in everywhere(results)}
    rows = [
        (TITLES[name], f"{np.median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}")
        for name, found in sorted(ratios.items(), key=lambda item: np.median(item[1]))
    ]
    return table(("method", "step", "range"), rows)


def everywhere(results: Results) -> list[str]:
    """Return the methods that ran in every setting."""
    names = [name for name in results.methods if name != NONE]
    return [name for name in names if all(results.runs(name, block) for block in results.blocks)]


def intervals_in_words(results: Results) -> str:
    """Return how many intervals lie wholly on a side of no distillation, by label budget."""
    words = {"all": "With all labels", "few": "With few labels"}
    found = {budget: intervals(results, budget) for budget in BUDGETS}
    parts = [
        f"{words[budget]} {below} of {total} intervals lie wholly below no distillation and "
        f"{above} above."
        for budget, (total, below, above) in found.items()
    ]
    total = found[BUDGETS[0]][0]
    by_chance = f"Chance alone would put about {0.025 * total:.0f} of {total} on each side."
    return " ".join([*parts, by_chance])


def intervals(results: Results, budget: str) -> tuple[int, int, int]:
    """Return how many intervals of a method in a setting there are, and are below and above 0."""
    found = [
        difference(results, name, no_distillation, [block])
        for name in results.methods
        if name != NONE
        for block in results.blocks
        if block.budget == budget and results.runs(name, block)
    ]
    return len(found), sum(one.high < 0 for one in found), sum(one.low > 0 for one in found)
