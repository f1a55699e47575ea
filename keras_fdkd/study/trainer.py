"""Train one model: the validation fold chooses the epoch."""

import math
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fdkd.best_epoch import BestEpoch
from keras_fdkd.study.batches import Batches
from keras_fdkd.study.protocol import Protocol


class NotFiniteError(ValueError):
    """Raised if the score of a training is not a number."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of training.

    Attributes:
        score: Score on the validation fold, at the epoch that was kept.
        epoch: That epoch, from 1.
        curve: The score on the validation fold, one per epoch.
        seconds_per_step: Median over the epochs, without the first if there are several, and
            without validation.
    """

    score: float
    epoch: int
    curve: list[float]
    seconds_per_step: float


def train(
    trainer: keras.Model, batches: Batches, validation: Any, protocol: Protocol, seed: int
) -> Outcome:
    """Train a model or a distiller and keep the weights of its best epoch.

    Args:
        trainer: Model or distiller to compile and fit.
        batches: Batches of the training fold.
        validation: Batches of the student's inputs and labels.
        protocol: Protocol of the study; its mode is not `"auto"`.
        seed: Seed of the trainer's own draws.

    Raises:
        NotFiniteError: If the score of the best epoch is not a finite number.
    """
    keras.utils.set_random_seed(seed)
    protocol.compile_model(trainer, protocol.epochs * len(batches))
    given = protocol.fit_arguments()
    best = BestEpoch(f"val_{protocol.score}", protocol.mode, protocol.epochs)
    clock = Clock()
    history = trainer.fit(
        batches,
        shuffle=False,  # The batches are shuffled.
        validation_data=validation,
        verbose=0,
        **{**given, "callbacks": [*given["callbacks"], best, clock]},
    ).history
    curve = [float(value) for value in history[f"val_{protocol.score}"]]
    score = curve[best.best_epoch]
    if not math.isfinite(score):
        raise NotFiniteError(
            f"'val_{protocol.score}' is not finite. Its first values: {curve[:5]}."
        )
    # The first epoch includes the compilation.
    seconds = clock.seconds[1:] or clock.seconds
    return Outcome(score, best.best_epoch + 1, curve, float(np.median(seconds)) / len(batches))


class Clock(keras.callbacks.Callback):
    """Seconds from the first to the last batch of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(self._end - self._start)
