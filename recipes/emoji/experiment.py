"""Names and pictures of emoji, through pretrained encoders: one teaches the other the group."""

from pathlib import Path

import keras
import numpy as np

from recipes.emoji.data import load_emoji, split_by_group
from recipes.emoji.features import load_features
from recipes.shared.experiment import Experiment, Samples
from recipes.shared.models import feature_classifier

WIDTH, DROPOUT = 128, 0.2


def experiment(folder: Path | None = None) -> Experiment:
    """Return the experiment; emoji are read from `folder`, or from their packages.

    The encoders, MiniLM for names and EfficientNet-Lite0 for pictures, stay frozen: their features
    are computed once, and the models are heads on them.
    """
    data = load_emoji(folder)
    features = load_features(data)

    def folds(seed: int) -> dict[str, Samples]:
        return {
            name: Samples(
                {modality: values[rows] for modality, values in features.items()},
                data.labels[rows],
            )
            for name, rows in split_by_group(data.labels, data.groups, seed).items()
        }

    def build(modality: str, inputs: np.ndarray) -> keras.Model:
        size, classes = inputs.shape[-1], len(data.categories)
        return feature_classifier(size, classes, WIDTH, DROPOUT, modality)

    return Experiment(
        name="emoji",
        title="Emoji: the group from name and picture",
        modalities=("text", "image"),
        classes=data.categories,
        few_labels=160,  # Twenty a group, on average.
        epochs=40,
        folds=folds,
        build=build,
        held_out="base code points: 60 % train, 20 % choose, 20 % test",
    )
