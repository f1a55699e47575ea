"""Samples as the lists of a published data set name them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recipes.published.findings import Findings

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Item:
    """One sample.

    Attributes:
        name: Names the sample once in the data set.
        label: Number of its class; -1 if it has labels of pixels.
        split: `"train"`, `"validation"` or `"test"`.
        group: Who or what it shows, such as an actor; `""` if nothing is known.
        details: What else is needed to read it: plain numbers and strings.
    """

    name: str
    label: int
    split: str
    group: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """What the lists say.

    Attributes:
        items: All samples that can be used, none twice.
        classes: Names, in the order of the labels.
        findings: What was left out, and why.
    """

    items: Sequence[Item]
    classes: Sequence[str]
    findings: Findings

    def counts(self) -> dict[str, int]:
        """Return the number of samples in each split."""
        found = Counter(item.split for item in self.items)
        return {split: found[split] for split in SPLITS if found[split]}
