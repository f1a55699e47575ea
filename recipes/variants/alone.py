"""Models of one modality, trained by themselves and kept in files: the teachers of variants."""

from pathlib import Path

import keras
import numpy as np

from keras_fdkd.files import written_whole
from recipes.shared.experiment import Experiment, Samples
from recipes.shared.training import train

TEACHERS = Path("runs/cache/teachers")


def trained_alone(
    experiment: Experiment,
    folds: dict[str, Samples],
    modality: str,
    budget: str,
    seed: int,
    epochs: int,
    folder: Path,
) -> keras.Model:
    """Return the model trained alone on a modality, from its file in `folder` if it is there."""
    file = _weights_file(folder, experiment, modality, budget, seed, epochs)
    if not file.exists():
        number = epochs or experiment.epochs
        model = _train_alone(experiment, folds, modality, seed, number)
        _save(model, file)
        return model
    model = new_model(experiment, modality, folds["train"].inputs[modality], seed)
    model.load_weights(file)
    return model


def new_model(experiment: Experiment, modality: str, inputs: np.ndarray, seed: int) -> keras.Model:
    """Return an untrained model; its initial weights are the same for every method."""
    keras.utils.set_random_seed(seed)
    return experiment.build(modality, inputs)


def _train_alone(
    experiment: Experiment, folds: dict[str, Samples], modality: str, seed: int, epochs: int
) -> keras.Model:
    """Train a model of one modality by itself: the test fold stays unread."""
    inputs = folds["train"].inputs[modality]
    model = new_model(experiment, modality, inputs, seed)
    train(
        model,
        inputs,
        folds["train"].labels,
        (folds["validation"].inputs[modality], folds["validation"].labels),
        None,
        epochs=epochs,
        seed=seed,
    )
    return model


def _weights_file(
    folder: Path, experiment: Experiment, modality: str, budget: str, seed: int, epochs: int
) -> Path:
    suffix = f"-{epochs}" if epochs else ""
    name = f"{experiment.name}-{modality}-{budget}-{seed}{suffix}.weights.h5"
    return folder / keras.config.backend() / name


def _save(model: keras.Model, file: Path) -> None:
    """Write so that no other process ever reads half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as part:
        model.save_weights(part)
