"""Sections of the benchmark's report on each method by itself: cost, similarity, candidates."""

from collections.abc import Mapping

import numpy as np

from recipes.benchmark_rows import Results
from recipes.comparison import chosen, cost
from recipes.markdown import table


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


def similarity_section(results: Results, titles: Mapping[str, str]) -> list[str]:
    """Return how similar the bands of both features are, next to the controls."""
    lines, kinds = [], []
    for experiment in dict.fromkeys(block.experiment for block in results.blocks):
        for method in (*results.methods, *results.ablations):
            found = [
                row["similarity"]
                for block in results.blocks
                if block.experiment == experiment
                for row in results.runs(method, block).values()
                if row["similarity"]
            ]
            if found:
                kinds = kinds or list(found[0])
                means = [f"{np.mean([one[kind] for one in found]):.2f}" for kind in kinds]
                lines.append((experiment, titles.get(method, method), str(len(found)), *means))
    if not lines:
        return []
    return [
        "Mean cosine similarity of teacher and student features on the test fold, over all",
        "directions, budgets and seeds. `low with dc` contains the mean that non-negative features",
        "share. What is left without it, and is lost with the channels shuffled, is due to",
        "frequency; a value that shuffling does not change says nothing about frequency.",
        "",
        *table(
            ("experiment", "method", "runs", *(kind.replace("_", " ") for kind in kinds)),
            lines,
            words=(0, 1),
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
