"""What an experiment is: two modalities of the same samples, folds, models and budgets."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Samples:
    """Samples of one fold: what each modality sees, and the labels."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray


@dataclass(frozen=True)
class Experiment:
    """Real samples that two modalities see.

    Attributes:
        name: As in `python -m recipes.NAME`.
        title: In words.
        modalities: Both names; each may teach the other.
        classes: Names of the classes.
        few_labels: How many training samples keep their label in the budget "few".
        epochs: Of every model.
        folds: From a seed to the folds `train`, `validation` and `test`.
        build: From a modality and inputs of its shape to a new classifier, whose layer `feature`
            is the input of the last `Dense` layer and has the same size for both modalities.
        maps: Paths of layers with maps of positions, or none, the same for both modalities.
        held_out: What the folds keep apart, in words.
    """

    name: str
    title: str
    modalities: tuple[str, str]
    classes: list[str]
    few_labels: int
    epochs: int
    folds: Callable[[int], dict[str, Samples]]
    build: Callable[[str, np.ndarray], keras.Model]
    maps: tuple[str, ...] = ()
    held_out: str = ""

    def directions(self) -> list[tuple[str, str]]:
        """Return both pairs of teacher and student modality."""
        first, second = self.modalities
        return [(first, second), (second, first)]
