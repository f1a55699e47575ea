"""Place: an experiment, a label budget and a split, where a variant is tried.

Models are trained as in a study, but no test fold is read.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.files import written_whole
from keras_fdkd.study.batches import Batches, InOrder
from keras_fdkd.study.labels import UNLABELLED, Labels
from keras_fdkd.study.protocol import Protocol
from keras_fdkd.study.trainer import train
from keras_fdkd.study.work import new_model
from recipes.shared.classification import BATCH_SIZE, compile_arguments
from recipes.shared.experiment import Experiment


class Place:
    """The training and validation folds of a split, with the labels that a budget leaves.

    Args:
        experiment: Whose folds and models.
        budget: `"all"` labels or `"few"`.
        seed: Of the split, the initial weights and the batches.

    Attributes:
        inputs: Of the training fold, by modality.
        validation: The validation fold.
        labels: Of the training fold, -1 where hidden.
        steps: Number of training steps.
    """

    def __init__(self, experiment: Experiment, budget: str, seed: int) -> None:
        self.experiment, self.budget, self.seed = experiment, budget, seed
        folds = experiment.folds(seed)
        self.inputs, self.validation = folds["train"].inputs, folds["validation"]
        keep = experiment.few_labels if budget == "few" else None
        self._rows = np.arange(len(folds["train"].labels))
        self.labels = Labels(folds["train"].labels).hidden(self._rows, keep, seed)
        self.steps = experiment.epochs * (len(self.labels) // BATCH_SIZE)
        fit = {"epochs": experiment.epochs, "batch_size": BATCH_SIZE}
        self._protocol = Protocol.of(compile_arguments(), fit, "accuracy", "max", missing=False)

    def new_model(self, modality: str, seed: int | None = None) -> keras.Model:
        """Return an untrained model; its initial weights are the same for every variant."""
        build, inputs = self.experiment.build, self.inputs[modality]
        return new_model(lambda: build(modality, inputs), self.seed if seed is None else seed)

    def train(
        self,
        trainer: keras.Model,
        x: Any,
        modality: str,
        labels: np.ndarray | None = None,
        seed: int | None = None,
    ) -> float:
        """Train, keep the best epoch, and return its validation accuracy.

        Args:
            trainer: A model or a distiller.
            x: Its training inputs: an array, or a `keras_fdkd.study.batches.Pair`.
            modality: What it sees in validation.
            labels: Instead of those of the budget.
            seed: Instead of that of the split.
        """
        labels = self.labels if labels is None else labels
        seed = self.seed if seed is None else seed
        batches = Batches(x, self._rows, labels, labels != UNLABELLED, BATCH_SIZE, seed)
        judged = self.validation
        rows = np.arange(len(judged.labels))
        held_out = InOrder(judged.inputs[modality], rows, judged.labels, BATCH_SIZE)
        return train(trainer, batches, held_out, self._protocol, seed).score

    def trained_alone(self, modality: str, folder: Path) -> keras.Model:
        """Return the model trained by itself, from its file in `folder` if it is there."""
        name = f"{self.experiment.name}-{modality}-{self.budget}-{self.seed}.weights.h5"
        # Backends draw other initial weights from the same seed.
        file = folder / keras.config.backend() / name
        model = self.new_model(modality)
        if file.exists():
            model.load_weights(file)
            return model
        self.train(model, self.inputs[modality], modality)
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as part:  # Another process may read it.
            model.save_weights(part)
        return model
