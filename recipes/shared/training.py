"""The one training routine of all recipes: same optimizer, schedule and choice of the epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fdkd import CrossModalDistiller
from keras_fdkd.data import shard
from keras_fdkd.study.trainer import Clock
from recipes.shared.experiment import BATCH_SIZE, UNLABELLED, Batches

RATE = 2e-3


@dataclass(frozen=True)
class Outcome:
    """What training left behind.

    Attributes:
        history: Logs by name, a value an epoch.
        epoch: The one that was kept, from 1.
        validation_accuracy: At that epoch.
        test_accuracy: At that epoch; `None` if the test fold was not read.
        seconds_per_step: Median over the epochs, without the first, validation apart.
    """

    history: dict[str, list[float]]
    epoch: int
    validation_accuracy: float
    test_accuracy: float | None
    seconds_per_step: float


def train(
    trainer: keras.Model,
    x: Any,
    labels: np.ndarray,
    validation: tuple[Any, np.ndarray],
    test: tuple[Any, np.ndarray] | None,
    *,
    epochs: int,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Outcome:
    """Train, keep the epoch that the validation fold prefers, read the test fold once.

    Args:
        trainer: A model or a distiller.
        x: Its training inputs.
        labels: -1 where there is none.
        validation: Inputs of the student, and labels.
        test: The same; `None` to leave the fold unread.
        epochs: Each of `len(labels) // 64` steps.
        seed: Of the batches and of the trainer's own draws.
        callbacks: Further ones.
    """
    batches = Batches(x, labels, seed)
    keras.utils.set_random_seed(seed)
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * len(batches))
    trainer.compile(
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=UNLABELLED),
        metrics=["accuracy"],
    )
    best = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=epochs, restore_best_weights=True
    )
    clock = Clock()
    distils = isinstance(trainer, CrossModalDistiller)
    history = trainer.fit(
        shard(batches) if distils else batches,  # Plain models train whole in each process.
        epochs=epochs,
        shuffle=False,  # They are.
        validation_data=validation,
        validation_batch_size=8 * BATCH_SIZE,
        callbacks=[best, clock, *callbacks],
        verbose=0,
    ).history
    accuracy = None
    if test is not None:
        accuracy = trainer.evaluate(*test, batch_size=8 * BATCH_SIZE, verbose=0, return_dict=True)[
            "accuracy"
        ]
    return Outcome(
        history=history,
        epoch=best.best_epoch + 1,
        validation_accuracy=max(history["val_accuracy"]),
        test_accuracy=accuracy,
        seconds_per_step=float(np.median(clock.seconds[1:] or clock.seconds)) / len(batches),
    )
