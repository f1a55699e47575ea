"""Intervals and tests of paired differences over splits that overlap."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Scores are float32: relative to a difference, and to the scores themselves.
_EQUAL, _ROUNDING = 1e-5, 1e-6


@dataclass(frozen=True)
class Gain:
    """The mean difference of two methods over splits, with its uncertainty.

    `Results.gain` returns it. Splits of one data set share most of their training samples, so their
    differences are not independent, and Student's interval is too narrow. The corrected resampled t
    test (Nadeau and Bengio, Machine Learning 2003, eq. 10) uses `1 / J + n_test / n_train` in place
    of `1 / J` for `J` splits. The same Student's distribution is the posterior of the mean
    difference under a flat prior (Corani and Benavoli, Machine Learning 2015), which gives the
    probability of a gain.

    Args:
        values: One difference per split.
        overlap: `n_test / n_train`.
        resolution: Differences that are closer than this differ by rounding alone. Defaults to
            `0.0`.

    Example:
    >>> gain = Gain.of([0.02, 0.03, 0.01, 0.04, 0.02], overlap=0.25)
    >>> [round(value, 4) for value in (gain.mean, *gain.interval())]
    [0.024, 0.0028, 0.0452]
    >>> round(gain.probability(above=0.01), 3)
    0.929
    """

    values: tuple[float, ...]
    overlap: float
    resolution: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float], overlap: float, scale: float = 0.0) -> "Gain":
        """Return the gain of a sequence of differences.

        Args:
            values: One difference per split.
            overlap: `n_test / n_train`.
            scale: The largest of the scores that were subtracted, which tells how far they are
                rounded. Defaults to `0.0`: not at all.
        """
        return cls(
            tuple(float(value) for value in values), float(overlap), _ROUNDING * abs(float(scale))
        )

    @property
    def mean(self) -> float:
        """The mean of the differences; NaN if there are none."""
        return float(np.mean(self.values)) if self.values else float("nan")

    @property
    def error(self) -> float:
        """The corrected standard error of the mean.

        NaN for fewer than two splits, and if all differences are equal but for rounding: the scores
        of small test sets change in few steps, and equal differences do not mean that there is no
        spread.
        """
        count = len(self.values)
        if count < 2:
            return float("nan")
        if np.ptp(self.values) <= max(_EQUAL * np.abs(self.values).max(), self.resolution):
            return float("nan")
        return float(np.sqrt((1 / count + self.overlap) * np.var(self.values, ddof=1)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval of the mean; NaN if the error is not known."""
        # With fewer than two splits the error is NaN, whatever the degrees of freedom.
        half = float(stats.t.ppf((1 + level) / 2, max(1, len(self.values) - 1))) * self.error
        return self.mean - half, self.mean + half

    def probability(self, above: float = 0.0) -> float:
        """Return the probability that the mean difference is above a margin.

        One minus this is the p value of the one-sided test against "at most the margin". NaN if the
        error is not known.
        """
        if np.isnan(self.error):
            return float("nan")
        return float(stats.t.cdf((self.mean - above) / self.error, len(self.values) - 1))

    def p_value(self, than: float = 0.0) -> float:
        """Return the p value of the two-sided test."""
        above = self.probability(than)
        return 2 * min(above, 1 - above)

    def __str__(self) -> str:
        low, high = self.interval()
        # What is closer to 0 than the scores are rounded is 0.
        shown = 0.0 if abs(self.mean) <= self.resolution else self.mean
        mean = f"{shown:+.3g}" if self.values else ""
        return mean if math.isnan(low) else f"{mean} [{low:+.3g}, {high:+.3g}]"


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted for their number (Holm, 1979); NaN stays and does not count.

    Example:
    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    known = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted = dict.fromkeys(p_values, float("nan"))
    largest = 0.0
    for place, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - place) * p))
        adjusted[name] = largest
    return adjusted
