"""Accelerometer and gyroscope of a smartwatch: one teaches the other to recognize exercises."""

from pathlib import Path

import keras
import numpy as np

from recipes.shared.experiment import Experiment, Samples
from recipes.shared.models import signal_classifier
from recipes.watch.data import MODALITIES, load_watch, split_by_subject

FILTERS = (16, 32, 64)


def experiment(folder: Path | None = None) -> Experiment:
    """Return the experiment; the data are read from `folder`, or from the package `seglearn`."""
    data = load_watch(folder)

    def folds(seed: int) -> dict[str, Samples]:
        return {
            name: Samples(
                {modality: signals[rows] for modality, signals in data.signals.items()},
                data.labels[rows],
            )
            for name, rows in split_by_subject(data.subjects, seed).items()
        }

    def build(modality: str, inputs: np.ndarray) -> keras.Model:
        return signal_classifier(inputs.shape[1:], len(data.exercises), FILTERS, modality)

    first, second = MODALITIES
    return Experiment(
        name="watch",
        title="Watch: exercises from accelerometer and gyroscope",
        modalities=(first, second),
        classes=data.exercises,
        few_labels=70,  # Ten an exercise, on average.
        epochs=30,
        folds=folds,
        build=build,
        maps=("stage1", "stage2", "stage3"),
        held_out="subjects: 5 train, 2 choose, 3 test",
    )
