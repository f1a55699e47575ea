"""Intervals, tests and ranks: the statistics of a comparison of methods, on plain arrays."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 9999
LEVEL = 0.05
_DECIMALS = 6  # of accuracies, which are float32


def bootstrap_interval(
    strata: Sequence[np.ndarray], weights: Sequence[float]
) -> tuple[float, float]:
    """Return the 95% percentile interval of a weighted mean of means, drawn within each stratum."""
    if min(map(len, strata)) < 2:
        return np.nan, np.nan
    shares = np.array(weights) / np.sum(weights)

    def mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return sum(w * sample.mean(axis) for w, sample in zip(shares, samples, strict=True))

    # A fixed seed: the same rows give the same report.
    interval = stats.bootstrap(
        strata, mean, n_resamples=RESAMPLES, method="percentile", vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    # Sums of equal differences may miss 0 by rounding.
    return float(np.round(interval.low, _DECIMALS)), float(np.round(interval.high, _DECIMALS))


def signed_rank(values: Sequence[float]) -> float:
    """Return the p value of Wilcoxon's signed-rank test, zeros left out."""
    nonzero = np.array([value for value in np.round(values, _DECIMALS) if value])
    return float(stats.wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def rank_rows(scores: np.ndarray) -> np.ndarray:
    """Return the rank of each score in its row: 1 for the highest, ties share their mean."""
    if not scores.size:
        return np.zeros(scores.shape)
    # Rounded, so that means tie that differ by rounding alone.
    return stats.rankdata(-np.round(scores, _DECIMALS), axis=1)


def friedman(scores: np.ndarray) -> tuple[float, float]:
    """Return statistic and p value of Friedman's test, of shape `(blocks, methods)`.

    NaN for fewer than three methods or two blocks, or if all methods tie.
    """
    scores = np.round(scores, _DECIMALS)
    if scores.shape[0] < 2 or scores.shape[1] < 3 or not np.ptp(scores, axis=1).any():
        return np.nan, np.nan
    result = stats.friedmanchisquare(*scores.T)
    return float(result.statistic), float(result.pvalue)


def critical_distance(methods: int, blocks: int, level: float = LEVEL) -> float:
    """Return by how much two mean ranks must differ (Nemenyi test; Demšar, JMLR 2006)."""
    # Demšar's critical values are those of the studentized range over the root of 2.
    q = stats.studentized_range.isf(level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def groups(mean_ranks: Sequence[float], distance: float) -> list[tuple[float, float]]:
    """Return first and last rank of the largest groups in which no two differ by more."""
    ranks = sorted(mean_ranks)
    found: list[tuple[float, float]] = []
    for first in ranks:
        last = max(rank for rank in ranks if rank - first <= distance)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
