"""The tables of the FD-CMKD paper on the benchmark's data, beside the paper's own figures."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from recipes.benchmark.comparison import difference
from recipes.benchmark.plots import plot_cutoffs
from recipes.benchmark.rows import NONE, Block, Results
from recipes.shared.markdown import interval, percent, table
from recipes.shared.paper_numbers import ABLATION, COLUMNS, FULL, METHODS

SHOWN = COLUMNS[:4]  # CREMA-D and AVE: the paper's ablation has no other columns.
LOSSES = {
    "MSE + logMSE": (FULL, 71.0),
    "MSE + MSE": ("ablation: frequency + align + scale", 70.5),
    "logMSE + logMSE": ("losses: logMSE + logMSE", 68.0),
}
CUTOFFS = {
    1 / 4: ("1/4", "cutoff: 1/4"),
    1 / 3: ("1/3", "cutoff: 1/3"),
    1 / 2: ("1/2", FULL),
    2 / 3: ("2/3", "cutoff: 2/3"),
    3 / 4: ("3/4", "cutoff: 3/4"),
}
# In the order of the tables.
ROWS = (
    *ABLATION,
    LOSSES["logMSE + logMSE"][0],
    *(name for _, name in CUTOFFS.values() if name != FULL),
)


def paper_section(results: Results, titles: Mapping[str, str], folder: Path) -> list[str]:
    """Return the lines of the section, and draw the cutoff sweep.

    Args:
        results: The rows.
        titles: Of the methods.
        folder: Where the figure goes.
    """
    context = [
        (titles.get(method, method),
         "" if method == NONE
         else interval(difference(results, method, lambda block: NONE, results.blocks)),
         *map(str, paper[: len(SHOWN)]))
        for method, paper in METHODS.items()
        if method in results.methods
    ]  # fmt: skip
    lines = [
        "The paper's own figures (top-1 %, of the best head and epoch on the test set) are context",
        "only: other data, other models. CREMA-D and AVE pair sound and video.",
        "",
        *table(("method", "ours minus no distillation, points",
                *(f"paper: {name}" for name in SHOWN)), context),
    ]  # fmt: skip
    blocks = [b for b in results.blocks if any(results.runs(m, b) for m in results.ablations)]
    if not blocks:
        return [*lines, "No rows of the ablation, the pairs of losses or the cutoff sweep.", ""]
    lines += [
        "The rows below take the package's defaults for whatever a row does not name, with one",
        "candidate each: nothing but the epoch is chosen. Test accuracy in %, all labels.",
        "",
        "### Ablation",
        "",
    ]
    named = {name.removeprefix("ablation: "): (name, paper) for name, paper in ABLATION.items()}
    lines += _table(results, blocks, named, "feature MSE", SHOWN)
    pairs = {label: (name, (paper,)) for label, (name, paper) in LOSSES.items()}
    lines += ["### Losses of the low and the high band", ""]
    lines += _table(results, blocks, pairs, "MSE + logMSE", ("CREMA-D video",))
    cutoffs = {label: (name, ()) for label, name in CUTOFFS.values()}
    lines += ["### Cutoff", "", "In the paper 1/2 is best, and 1/4 and 1/3 are worse.", ""]
    lines += _table(results, blocks, cutoffs, "1/2", ())
    _draw_cutoffs(results, blocks).savefig(folder / "cutoff.png", dpi=120)
    return [
        *lines,
        "Bars: 95% interval of the paired difference (first panel), standard deviation (others).",
        "",
        "![cutoff sweep](cutoff.png)",
        "",
    ]


def _table(
    results: Results,
    blocks: list[Block],
    rows: Mapping[str, tuple[str, tuple[float | None, ...]]],
    reference: str,
    columns: tuple[str, ...],
) -> list[str]:
    """Return the test accuracies of some rows, their mean difference to one, and the paper's."""
    base = rows[reference][0]
    lines = []
    for label, (method, paper) in rows.items():
        cells = [percent(results.values(method, b), len(results.seeds)) for b in blocks]
        pooled = difference(results, method, lambda block: base, blocks)
        change = "" if label == reference else interval(pooled)
        lines.append((label, *cells, change, *map(str, paper)))
    head = ("", *(block.title for block in blocks), f"minus {reference}, points")
    return table((*head, *(f"paper: {name}" for name in columns)), lines)


def _draw_cutoffs(results: Results, blocks: list[Block]) -> Figure:
    there = {
        cutoff: method
        for cutoff, (_, method) in CUTOFFS.items()
        if any(results.runs(method, block) for block in blocks)
    }
    pooled = {c: difference(results, m, lambda block: FULL, blocks) for c, m in there.items()}
    panels = {
        block.title: {
            c: results.values(m, block) for c, m in there.items() if results.runs(m, block)
        }
        for block in blocks
    }
    return plot_cutoffs({c: one for c, one in pooled.items() if one.pairs}, panels)
