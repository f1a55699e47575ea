"""Spoken and written digits, paired by label alone: one teaches the other.

The two modalities do not show the same sample: a spoken digit is paired with some written digit of
its fold that has the same label. Even where labels are hidden, the pairs know them.
"""

from pathlib import Path

import keras
import numpy as np

from recipes.digits.data import load_digits_pair, pair_by_label, split_by_label
from recipes.shared.experiment import Experiment, Samples
from recipes.shared.models import picture_classifier, signal_classifier

FILTERS = (16, 32, 64)


def experiment(folder: Path | None = None) -> Experiment:
    """Return the experiment; spoken digits are read from `folder`, or from their package."""
    data = load_digits_pair(folder)

    def folds(seed: int) -> dict[str, Samples]:
        spoken = split_by_label(data.spoken_labels, seed)
        written = split_by_label(data.written_labels, seed)
        samples = {}
        for name in spoken:
            rows = pair_by_label(
                spoken[name], written[name], data.spoken_labels, data.written_labels, seed
            )
            inputs = {"spoken": data.spoken[rows[0]], "written": data.written[rows[1]]}
            samples[name] = Samples(inputs, data.spoken_labels[rows[0]])
        return samples

    def build(modality: str, inputs: np.ndarray) -> keras.Model:
        build_net = signal_classifier if modality == "spoken" else picture_classifier
        return build_net(inputs.shape[1:], 10, FILTERS, modality)

    return Experiment(
        name="digits",
        title="Digits: spoken and written, paired by label alone",
        modalities=("spoken", "written"),
        classes=[str(digit) for digit in range(10)],
        few_labels=50,  # Five a digit.
        epochs=30,
        folds=folds,
        build=build,
        held_out="samples of both modalities: 40 % train, 20 % choose, 40 % test",
    )
