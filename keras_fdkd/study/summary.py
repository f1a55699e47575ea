"""What a study found of one method with one label budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_fdkd.study.statistics import Gain


@dataclass(frozen=True)
class Summary:
    """One line of the table of a study, from `Results.summaries`.

    Attributes:
        budget: Labels kept in training, `None` for all.
        method: Its name; `"none"` for no distillation.
        title: Its name in words.
        score: Mean score on the test folds, over splits and seeds.
        spread: Standard deviation of the splits' means.
        gain: Improvement over no distillation, one value per split (with several seeds their mean);
            above 0 is better, whichever direction the score has. Empty for `"none"`.
        adjusted_p: P value of the two-sided test of no gain, adjusted for the number of methods
            (Holm).
        kept: Gain of keeping, in each run, the student that the validation fold prefers: the plain
            or the distilled one.
        setting: The arguments that validation chose most often.
        tried: How many settings validation chose from.
        cost: Seconds per step relative to no distillation, ratio of medians.
        runs: How many runs ended.
        expected: How many there are if all end: one for each split and seed.
        failed: How many runs raised an error.
    """

    budget: int | None
    method: str
    title: str
    score: float
    spread: float
    gain: Gain
    adjusted_p: float
    kept: Gain
    setting: Mapping[str, Any]
    tried: int
    cost: float
    runs: int
    expected: int
    failed: int

    @property
    def is_partial(self) -> bool:
        """Whether runs are missing, so that `score` is not over the same ones as others."""
        return self.runs < self.expected
