"""From gains to advice, with error rates that hold for the best of several methods."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy import stats

from keras_fdkd.arguments import check_number
from keras_fdkd.study.statistics import Gain, holm

if TYPE_CHECKING:
    from keras_fdkd.study.results import Results

LEVEL = 0.05
_MOST_SPLITS = 100
USE, WITHOUT, UNDECIDED = "use", "without", "undecided"


@dataclass(frozen=True)
class Advice:
    """What to do with one label budget: one entry of a `Recommendation`.

    Attributes:
        budget: Labels kept in training, `None` for all.
        kind: `"use"` a method, train `"without"` distillation, or `"undecided"`.
        method: The method to use, or the best one so far.
        setting: Its arguments, as validation chose most often.
        gain: Gain of this method over no distillation.
        candidates: How many methods it was chosen from.
        equals: Methods that cannot be told apart from it.
        text: All of this in words.
    """

    budget: int | None
    kind: str
    method: str
    setting: Mapping[str, Any]
    gain: Gain
    candidates: int
    equals: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Recommendation:
    """Advice for each label budget, from `Results.recommend`; it prints as text.

    Attributes:
        margin: Improvement that is worth the effort.
        advice: One `Advice` for each budget.
    """

    margin: float
    advice: tuple[Advice, ...]

    def __str__(self) -> str:
        return "\n\n".join(one.text for one in self.advice)


def decide(gains: Mapping[str, Gain], margin: float) -> tuple[str, str]:
    """Return what to do, and which method this is about.

    "Use" is wrong if the method's true gain is at most the margin, "without" if any method's true
    gain is above it. Either happens in at most 5 % of studies, however many methods were compared:
    one-sided corrected resampled t tests, adjusted by Holm's method for "use", and upper bounds of
    all methods at once (Bonferroni) for "without".

    Args:
        gains: Gains over no distillation, by method, from two splits or more.
        margin: Improvement that is worth the effort.

    Example:
    >>> decide({"kd": Gain.of([0.05, 0.06, 0.04, 0.05, 0.06], overlap=0.25)}, margin=0.01)
    ('use', 'kd')
    >>> decide({"kd": Gain.of([0.001, 0.002, -0.002, 0.001, 0.0], overlap=0.25)}, margin=0.01)
    ('without', 'kd')
    >>> decide({"kd": Gain.of([0.05, -0.06, 0.04, 0.05, -0.02], overlap=0.25)}, margin=0.01)
    ('undecided', 'kd')
    """
    adjusted = holm({name: 1 - gain.probability(margin) for name, gain in gains.items()})
    better = [name for name in gains if adjusted[name] <= LEVEL]
    # NaN, which some scores are, would win against whatever follows it.
    known = [name for name in gains if not math.isnan(gains[name].mean)]
    best = max(better or known or gains, key=lambda name: gains[name].mean)
    if better:
        return USE, best
    level = 1 - 2 * LEVEL / len(gains)  # Of the two-sided interval with this upper bound.
    upper = [gain.interval(level)[1] for gain in gains.values()]
    return (WITHOUT if all(bound <= margin for bound in upper) else UNDECIDED), best


def advise(results: "Results", margin: float) -> Recommendation:
    """Return advice for each label budget, see `keras_fdkd.study.Results.recommend`."""
    check_number("margin", margin)
    return Recommendation(
        margin, tuple(_advice(results, budget, margin) for budget in results.budgets)
    )


def _advice(results: "Results", budget: int | None, margin: float) -> Advice:
    lines = {line.method: line for line in results.summaries(budget)}
    gains = {name: line.gain for name, line in lines.items() if len(line.gain.values) > 1}
    if not gains:
        raise ValueError(
            "A recommendation needs two splits or more with both no distillation and a method. "
            f"Received: {len(results.rows)} rows, {len(results.failures)} failed runs."
        )
    kind, best = decide(gains, margin)
    equals = tuple(
        name
        for name in gains
        # Not `> LEVEL`: a p value that is NaN does not tell them apart either.
        if name != best and not results.gain(best, budget, over=name).p_value() <= LEVEL
    )
    where = "With all labels" if budget is None else f"With {budget} labels"
    line = lines[best]
    over = "any gain" if not margin else f"a gain above {margin:g}"
    given = ", ".join(f"{key}={value!r}" for key, value in line.setting.items())
    sentences = {
        USE: [
            f"{where}: use {line.title} (`{best}`{', ' + given if given else ''}).",
            f"Its gain over no distillation is {line.gain}; the probability of {over} is "
            f"{_probability(line.gain, margin)}.",
            f"It was picked from {len(gains)}, so expect a little less.",
        ],
        WITHOUT: [
            f"{where}: train without distillation.",
            f"None of the {len(gains)} methods has {over}; the best, {line.title} (`{best}`), came "
            f"to {line.gain}.",
        ],
        UNDECIDED: [
            f"{where}: these cannot be told apart.",
            f"The best of {len(gains)}, {line.title} (`{best}`), came to {line.gain} over no "
            f"distillation; the probability of {over} is {_probability(line.gain, margin)}.",
            _needed(line.gain, margin, len(gains)),
        ],
    }[kind]
    if kind == USE and equals:
        named = ", ".join(f"`{name}`" for name in equals)
        sentences.append(f"Not to be told apart from it: {named}.")
    sentences.append(
        "If you keep the better of the plain and the distilled student on validation data, the "
        f"gain is {line.kept}."
    )
    if missing := [line for line in lines.values() if line.runs < line.expected]:
        counts = ", ".join(f"`{one.method}` {one.runs} of {one.expected}" for one in missing)
        sentences.append(f"Runs are missing, so these figures stand on fewer: {counts}.")
    return Advice(
        budget, kind, best, line.setting, line.gain, len(gains), equals, " ".join(sentences)
    )


def _probability(gain: Gain, margin: float) -> str:
    value = gain.probability(margin)
    return "not known" if math.isnan(value) else f"{value:.2f}"


def _needed(gain: Gain, margin: float, methods: int) -> str:
    """Say how many splits would show this gain, if it and its spread stayed as they are."""
    if gain.mean <= margin:
        return "Nothing speaks for it so far, and no distillation costs least."
    if math.isnan(gain.error):
        return "All splits gave the same difference, which says nothing of its spread."
    # The standard deviation of splits, taken back out of the corrected error.
    spread = gain.error / math.sqrt(1 / len(gain.values) + gain.overlap)
    for count in range(len(gain.values) + 1, _MOST_SPLITS + 1):
        # What Holm's method asks of the best of so many methods.
        needed = stats.t.isf(LEVEL / methods, count - 1) * spread
        if gain.mean - margin > needed * math.sqrt(1 / count + gain.overlap):
            return f"If it stays so, about {count} splits would show it."
    return (
        "More splits of these data would not show a gain of this size: only more data can. Until "
        "then no distillation costs least."
    )
