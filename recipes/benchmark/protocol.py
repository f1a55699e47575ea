"""Sections of the benchmark's report on how it was done, and which of its rows there are."""

from collections.abc import Iterable, Mapping
from typing import Any

from recipes.benchmark.rows import NONE, Block, Results
from recipes.shared.markdown import table


def protocol(results: Results) -> list[str]:
    """Return how the rows came about and how they were compared, in plain words."""
    rows = [
        row for m in results.methods for b in results.blocks for row in results.runs(m, b).values()
    ]
    epochs: dict[str, set[int]] = {}
    for row in rows:
        epochs.setdefault(row["task"]["experiment"], set()).add(len(row["curve"]))
    counts = {len(row["candidates"]) for row in rows if row["task"]["method"] != NONE}
    budgets = {block.budget for block in results.blocks}
    number = _either(counts)
    lines = [
        "Training:",
        "",
        "- Within a setting and seed all methods have the same split, initial weights, batches, "
        "number of epochs, optimizer and schedule; the seed draws the first three anew.",
        f"- Epochs: {', '.join(f'{name} {_either(n)}' for name, n in sorted(epochs.items()))}.",
        "- The teacher is the model that was trained by itself on the other modality, with the "
        "same split, labels and routine.",
    ]
    if "few" in budgets:
        lines += [
            "- Few labels: only some samples of the training fold keep their label, in the "
            "proportions of the classes, and the teacher was trained on the same ones. All pairs "
            "stay: those without a label count in the distillation terms only. Half of each batch "
            "is labelled.",
            "- The validation fold keeps all its labels, for every method, also with few labels.",
        ]
    if any(block.experiment == "digits" for block in results.blocks):
        lines += [
            "- `digits` pairs its modalities by label only: a recording and a picture of the same "
            "digit. Its pairs without a label still tell that both sides are of one class.",
        ]
    lines += [
        "",
        "Choice:",
        "",
        f"- Every distillation method has {number} candidate settings of its own"
        f"{'' if len(counts) < 2 else ' (not the same number)'}; no distillation has nothing to "
        "choose but the epoch.",
        "- Candidates were widened once, after first runs whose validation folds preferred the "
        "edge of the range; the row without a split was added after trials on validation folds of "
        "the same splits (`recipes.variants`), and so was the row that rises. A sample that "
        "validates one split may test another, so these choices are not wholly blind to the test "
        "folds. FD-CMKD has several rows, any other method one.",
        "- Nested in each split: candidate and epoch are those with the best accuracy on that "
        "split's validation fold, then the test fold is read once.",
        "",
        "Statistics:",
        "",
        "- A difference is paired: the same setting and seed, only where both methods have a row. "
        "What is chosen or ranked among several methods uses the seeds that all of them have; a "
        "method with less than half of a setting's seeds takes no part.",
        "- Intervals of a setting are 95% intervals of the corrected resampled t test (Nadeau and "
        "Bengio, 2003): splits of one data set share training samples, for which it widens "
        "Student's interval.",
        "- The interval over all settings draws the seeds of each experiment anew, each with all "
        "its settings at once because these share the split (strata: experiments; clusters: "
        "seeds), and averages the settings with equal weight: it speaks of other splits and "
        "starts in these settings, not of other data. With three experiments of five seeds it "
        "covers about 90%.",
        "- p is Wilcoxon's signed-rank test on the mean differences of the settings, two-sided; "
        "with n settings it can't fall below 2 / 2^n. `p, Holm` is adjusted for the number of "
        "methods in the table.",
        "- Directions and budgets of an experiment share samples, which makes the tests over all "
        "settings too liberal.",
        "",
    ]
    return lines


def row_counts(
    results: Results, tasks: Iterable[Mapping[str, Any]] | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many rows each method has, and how many it should have.

    Args:
        results: The rows.
        tasks: What was to run; see `recipes.benchmark.report.write_report`.
    """
    there, expected = {}, {}
    for method in (*results.methods, *results.ablations):
        found = {block: len(results.runs(method, block)) for block in _wanted(results, method)}
        there[method] = sum(found.values())
        # Some methods need layers that an experiment's models lack; ablations have one budget.
        whole = method in results.methods
        ran = {(b.experiment, whole or b.budget) for b, count in found.items() if count}
        blocks = [block for block in found if (block.experiment, whole or block.budget) in ran]
        expected[method] = len(blocks) * len(results.seeds)
    if tasks is not None:
        expected = dict.fromkeys(there, 0)
        for task in tasks:
            expected[task["method"]] = expected.get(task["method"], 0) + 1
    return there, expected


def row_table(
    results: Results,
    titles: Mapping[str, str],
    there: Mapping[str, int],
    expected: Mapping[str, int],
) -> list[str]:
    """Return a line for each method: its rows, those expected, and where it has none."""
    lines = []
    for method, count in expected.items():
        found = {b.experiment for b in results.blocks if results.runs(method, b)}
        absent = sorted({block.experiment for block in results.blocks} - found)
        name = titles.get(method, method)
        lines.append((name, str(there.get(method, 0)), str(count), ", ".join(absent)))
    return table(("method", "rows", "expected", "no rows in"), lines, words=(0, 3))


def _wanted(results: Results, method: str) -> list[Block]:
    """Return the blocks of a method's rows; those without a teacher are of one modality each."""
    if method != NONE:
        return results.blocks
    modalities = [
        block._replace(teacher="", student=student)
        for block in results.blocks
        for student in (block.student, block.teacher)
    ]
    return list(dict.fromkeys(modalities))


def _either(counts: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(counts)))
