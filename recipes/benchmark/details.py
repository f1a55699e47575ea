"""Sections of the benchmark's report on each method by itself: cost and candidates."""

from collections.abc import Mapping

import numpy as np

from recipes.benchmark.comparison import chosen, cost
from recipes.benchmark.rows import Results
from recipes.shared.markdown import table


def cost_section(results: Results, titles: Mapping[str, str]) -> list[str]:
    """Return what a training step costs, and the sizes of the students."""
    lines = []
    for method in results.methods:
        if ratios := cost(results, method):
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            lines.append((titles.get(method, method), f"{np.median(ratios):.2f}", spread))
    sizes: dict[tuple[str, str], set[int]] = {}
    for block in results.blocks:
        for method in (*results.methods, *results.ablations):
            for row in results.runs(method, block).values():
                sizes.setdefault((block.experiment, block.student), set()).add(row["parameters"])
    return [
        "Seconds of a training step relative to no distillation in the same setting: ratio of",
        "the medians over the seeds that both have, then median and range over the settings.",
        "Runs share a machine, so small differences mean nothing. Where the teacher is frozen its",
        "outputs are computed once, before training: the ratio is of the student's step, without",
        "the teacher. A method whose teacher side learns too runs the teacher in every step.",
        "",
        *table(("method", "relative step", "range"), lines),
        *table(
            ("student", "parameters"),
            [
                (f"{experiment}: {student}", " or ".join(f"{count:,}" for count in sorted(counts)))
                for (experiment, student), counts in sorted(sizes.items())
            ],
        ),
    ]


def candidates_section(results: Results, titles: Mapping[str, str]) -> list[str]:
    """Return how often each candidate was chosen."""
    found = {method: chosen(results, method) for method in results.methods}
    lines = [
        (
            titles.get(method, method),
            "; ".join(f"{name}: {count}" for name, count in counts.items()),
        )
        for method, counts in found.items()
        if len(counts) > 1
    ]
    if not lines:
        return []
    return [
        "How often validation chose each candidate, over all settings and seeds. Where the first",
        "or the last is chosen most often, the range may be too narrow.",
        "",
        *table(("method", "candidate: times chosen"), lines, words=(0, 1)),
    ]
