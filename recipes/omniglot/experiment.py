"""The drawings as an experiment of the benchmark, and the training that it has in common."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from recipes.omniglot.data import (
    ALPHABETS,
    MODALITIES,
    TASKS,
    OmniglotData,
    load_omniglot,
    split_by_drawer,
)
from recipes.omniglot.models import build_model
from recipes.shared.experiment import Experiment, Samples

EPOCHS = 30
_FEW = {"character": 2, "alphabet": 12}  # labels a class


def few_labels(data: OmniglotData, task: str) -> int:
    """Return how many training drawings keep their label where labels are few."""
    return _FEW[task] * len(data.classes[task])


def experiment(
    folder: str | Path, task: str = TASKS[0], alphabets: Sequence[str] = ALPHABETS
) -> Experiment:
    """Return the experiment; the drawings are read from `folder`, see `load_omniglot`."""
    data = load_omniglot(folder, alphabets)
    classes = data.classes[task]

    def folds(seed: int) -> dict[str, Samples]:
        return {
            name: Samples(
                {modality: values[rows] for modality, values in data.inputs.items()},
                data.labels[task][rows],
            )
            for name, rows in split_by_drawer(data.drawers, seed).items()
        }

    def build(modality: str, inputs: np.ndarray) -> keras.Model:
        return build_model(modality, inputs.shape[1:], len(classes))

    return Experiment(
        name="omniglot",
        title=f"Omniglot: the {task} from the picture and the pen",
        modalities=MODALITIES,
        classes=classes,
        few_labels=few_labels(data, task),
        epochs=EPOCHS,
        folds=folds,
        build=build,
        held_out="drawers: 12 train, 3 choose, 5 test",
    )
