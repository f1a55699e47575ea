"""What the studies of other recipes found, beside the benchmark: their committed rows."""

from collections.abc import Iterator
from pathlib import Path

from keras_fdkd.study import Results
from recipes.shared.markdown import table

RESULTS = Path(__file__).parents[1] / "results"
#: By recipe: KD, the split of its axis with an order, or of the channels, and no split.
SHOWN = {
    "earth": ("kd", "space_half", "whole"),
    "grid": ("kd", "time", "whole"),
    "omniglot": ("kd", "fdcmkd", "whole"),
}


def other_pairs(folder: Path) -> list[str]:
    """Return a table with a line for each pair, direction and label budget that was measured.

    Args:
        folder: Of the recipes' results, each with the folders of its studies.
    """
    head = ("pair", "labels", "score", "no distillation", "KD", "FD-CMKD", "no split")
    rows = [row for recipe in SHOWN for row in _rows(recipe, folder / recipe)]
    if not rows:
        return []
    return [
        "Other recipes are studies of their own, with their methods and reports: the gain over no",
        "distillation with its 95% interval. `FD-CMKD` splits the axis that has an order (space,",
        "time), and the channels for `omniglot`.",
        "",
        *table(head, rows, words=(0, 1, 2)),
    ]


def _rows(recipe: str, folder: Path) -> Iterator[tuple[str, ...]]:
    for file in sorted(folder.rglob("study.json")):
        results = Results.load(file.parent)
        teacher, student = file.parent.name.split("-")[:2]
        # A recipe with several tasks has a folder for each.
        part = "" if file.parents[2] == folder else f" {file.parents[2].name}"
        for budget in results.budgets:
            lines = {line.method: line for line in results.summaries(budget)}
            if "none" in lines:
                gains = (str(lines[m].gain) if m in lines else "-" for m in SHOWN[recipe])
                yield (
                    f"{recipe}{part}: {teacher} → {student}",
                    "all" if budget is None else str(budget),
                    results.info["score"],
                    f"{lines['none'].score:.3g}",
                    *gains,
                )
