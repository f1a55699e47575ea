"""What rows of a benchmark say of methods: paired differences, ranks, costs, choices."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_fdkd.study.statistics import Gain
from recipes.benchmark.inference import bootstrap_interval, rank_rows, signed_rank
from recipes.benchmark.rows import NONE, Block, Results


@dataclass(frozen=True)
class Difference:
    """A mean paired difference of accuracies, as fractions.

    Attributes:
        mean: Over the blocks, of the mean over the seeds; NaN without pairs.
        low, high: 95% interval; NaN where there are fewer than two seeds. Of one block it is that
            of the corrected resampled t test (`keras_fdkd.study.Gain`), of several a bootstrap.
        pairs: How many pairs of runs.
        blocks: The mean difference of each block that took part.
        p: Wilcoxon's signed-rank test over the blocks; NaN for a single one.
    """

    mean: float
    low: float
    high: float
    pairs: int
    blocks: tuple[float, ...]
    p: float = np.nan


@dataclass(frozen=True)
class Ranking:
    """Methods compared over all blocks at once.

    Attributes:
        methods: That ran in every block.
        accuracy: Mean test accuracy, shape `(blocks, methods)`.
        ranks: Of the same shape, 1 for the best; ties share their mean.
        seeds: How many seeds each block's means are of.
        left_out: Why, by method.
    """

    methods: list[str]
    accuracy: np.ndarray
    ranks: np.ndarray
    seeds: list[int]
    left_out: dict[str, str]


def no_distillation(block: Block) -> str:
    """Return the reference method of differences to no distillation, for any block."""
    return NONE


def paired(
    results: Results, method: str, reference: str | None, block: Block, kept: bool = False
) -> dict[int, float]:
    """Return test accuracy minus that of the reference, for the seeds that both have.

    Args:
        results: The rows.
        method: To compare.
        reference: What it is compared with, or `None`.
        block: Where.
        kept: Whether to count, in each run, the one with the better validation accuracy.
    """
    if reference is None:
        return {}
    first, second = results.runs(method, block), results.runs(reference, block)

    def gain(seed: int) -> float:
        mine, other = first[seed], second[seed]
        if kept and mine["validation_accuracy"] <= other["validation_accuracy"]:
            return 0.0
        return mine["test_accuracy"] - other["test_accuracy"]

    return {seed: gain(seed) for seed in sorted(first.keys() & second.keys())}


def gains(
    results: Results, method: str, blocks: Sequence[Block], kept: bool = False
) -> list[float]:
    """Return the mean difference to no distillation of each block that has some.

    Args:
        results: The rows.
        method: To compare.
        blocks: Where.
        kept: See `paired`.
    """
    found = [paired(results, method, NONE, block, kept) for block in blocks]
    return [float(np.mean([*values.values()])) for values in found if values]


def difference(
    results: Results, method: str, reference: Callable[[Block], str | None], blocks: Sequence[Block]
) -> Difference:
    """Return a method's mean difference to a reference over blocks.

    Runs of one experiment and seed share their split, so they are drawn together: a pair of an
    experiment counts if its seed has pairs in all blocks of the experiment that have any.

    Args:
        results: The rows.
        method: To compare.
        reference: From a block to the method that it is compared with.
        blocks: To average over, with equal weights.
    """
    strata, weights, means, pairs = [], [], [], 0
    counted: list[Block] = []
    for experiment in dict.fromkeys(block.experiment for block in blocks):
        mine = [block for block in blocks if block.experiment == experiment]
        found = {
            block: d for block in mine if (d := paired(results, method, reference(block), block))
        }
        seeds = sorted(set.intersection(*map(set, found.values()))) if found else []
        if seeds:
            values = np.array([[d[seed] for seed in seeds] for d in found.values()])
            counted.extend(found)
            strata.append(values.mean(0))
            weights.append(len(found))
            means.extend(values.mean(1))
            pairs += values.size
    if not pairs:
        return Difference(np.nan, np.nan, np.nan, 0, ())
    if len(means) == 1:
        [block] = counted
        overlap = results.values(method, block, "overlap").mean()
        scale = max(results.values(name, block).max() for name in (method, reference(block)))
        gain = Gain.of(strata[0], overlap, scale)
        return Difference(float(means[0]), *gain.interval(), pairs, tuple(means))
    low, high = bootstrap_interval(strata, weights)
    return Difference(float(np.mean(means)), low, high, pairs, tuple(means), signed_rank(means))


def rank(results: Results) -> Ranking:
    """Rank the methods that ran in every block, by mean test accuracy over the seeds all have."""
    kept, left_out, blocks = list(results.methods), {}, results.blocks
    for block in blocks:
        here, _ = results.shared(kept, block)
        for method in set(kept) - set(here):
            missing = sum(not results.runs(method, other) for other in blocks)
            place = f"{block.title}, {block.budget} labels"
            left_out[method] = (
                f"no rows in {missing} of {len(blocks)} settings"
                if missing
                else f"too few seeds in common with the others in {place}"
            )
        kept = [method for method in kept if method in here]
    seeds = [results.shared(kept, block)[1] for block in blocks]
    # Reshaped, since without methods or blocks the array would lose an axis.
    accuracy = np.array(
        [
            [results.values(method, block, seeds=common).mean() for method in kept]
            for block, common in zip(blocks, seeds, strict=True)
        ]
    ).reshape(len(blocks), len(kept))
    return Ranking(
        methods=kept,
        accuracy=accuracy,
        ranks=rank_rows(accuracy),
        seeds=[len(common) for common in seeds],
        left_out={name: left_out[name] for name in results.methods if name in left_out},
    )


def cost(results: Results, method: str) -> list[float]:
    """Return the seconds of a step relative to no distillation, a ratio of medians a block."""
    ratios = []
    for block in results.blocks:
        seeds = results.runs(method, block).keys() & results.runs(NONE, block).keys()
        if seeds:
            # Medians, since runs share a machine and some have to wait.
            mine, base = (
                np.median(results.values(name, block, "seconds_per_step", seeds))
                for name in (method, NONE)
            )
            ratios.append(float(mine / base))
    return ratios


def chosen(results: Results, method: str) -> dict[str, int]:
    """Return how often validation chose each candidate of a method, in the candidates' order."""
    rows = [row for block in results.blocks for row in results.runs(method, block).values()]
    tried = {str(c["setting"]): c["setting"] for row in rows for c in row["candidates"]}
    settings = list(tried.values())
    differing = [
        key
        for key in dict.fromkeys(itertools.chain(*settings))
        if any(setting.get(key) != settings[0].get(key) for setting in settings)
    ]

    def label(setting: Mapping[str, Any]) -> str:
        return ", ".join(f"{key} {setting.get(key)}" for key in differing)

    counts = Counter(label(row["setting"]) for row in rows)
    return {label(setting): counts[label(setting)] for setting in settings}
