"""Teacher, student alone and distilled student, over several seeds, by one training routine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from rich.progress import Progress

METHODS = ("teacher", "student alone", "distilled")
BATCH_SIZE = 64


@dataclass
class Fold:
    """One fold of an experiment: what the teacher sees, what the student sees, the labels."""

    teacher: np.ndarray
    student: np.ndarray
    labels: np.ndarray

    @property
    def pair(self) -> dict[str, np.ndarray]:
        """The inputs of a distiller."""
        return {"teacher": self.teacher, "student": self.student}


@dataclass
class Run:
    """One trained model and what was measured of it."""

    method: str
    seed: int
    model: keras.Model
    history: dict[str, list[float]]
    epoch: int
    validation_accuracy: float
    test_accuracy: float
    parameters: int
    seconds: float

    def row(self) -> dict[str, Any]:
        """What `metrics.json` keeps."""
        names = ("method", "seed", "epoch", "validation_accuracy", "test_accuracy", "parameters")
        return {
            **{name: getattr(self, name) for name in names},
            "seconds": round(self.seconds, 2),
            "history": self.history,
        }


def run_seed(
    folds: dict[str, Fold],
    seed: int,
    epochs: int,
    make_teacher: Callable[[np.ndarray], keras.Model],
    make_student: Callable[[np.ndarray], keras.Model],
    make_distiller: Callable[[keras.Model, keras.Model], keras.Model],
    progress: Progress,
) -> list[Run]:
    """Train the three methods on one split; both students start from the same weights."""
    train, validation, test = (folds[name] for name in ("train", "validation", "test"))
    keras.utils.set_random_seed(seed)
    teacher = make_teacher(train.teacher)
    alone = make_student(train.student)
    student = make_student(train.student)
    student.set_weights(alone.get_weights())

    runs = []
    for method, model, side in (
        ("teacher", teacher, "teacher"),
        ("student alone", alone, "student"),
    ):
        task = progress.add_task(f"seed {seed}: {method}", total=epochs)
        x = [getattr(fold, side) for fold in (train, validation, test)]
        runs.append(_run(method, model, model, seed, epochs, x, folds, progress, task))
    task = progress.add_task(f"seed {seed}: distilled", total=epochs)
    distiller = make_distiller(teacher, student)
    x = [train.pair, validation.student, test.student]
    runs.append(_run("distilled", distiller, student, seed, epochs, x, folds, progress, task))
    return runs


def _run(
    method: str,
    trainer: keras.Model,
    model: keras.Model,
    seed: int,
    epochs: int,
    x: list[Any],
    folds: dict[str, Fold],
    progress: Progress,
    task: Any,
) -> Run:
    """Train for `epochs`, keep the epoch that the validation fold prefers, read the test once."""
    keras.utils.set_random_seed(seed)  # The same batches for every method.
    y = [folds[name].labels for name in ("train", "validation", "test")]
    steps = -(-len(y[0]) // BATCH_SIZE)
    trainer.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, epochs * steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    best = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=epochs, restore_best_weights=True
    )
    bar = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress.advance(task))
    start = time.perf_counter()
    history = trainer.fit(
        x[0],
        y[0],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(x[1], y[1]),
        callbacks=[best, bar],
        verbose=0,
    ).history
    seconds = time.perf_counter() - start
    accuracy = trainer.evaluate(x[2], y[2], verbose=0, return_dict=True)["accuracy"]
    return Run(
        method=method,
        seed=seed,
        model=model,
        history=history,
        epoch=best.best_epoch + 1,
        validation_accuracy=max(history["val_accuracy"]),
        test_accuracy=accuracy,
        parameters=model.count_params(),
        seconds=seconds,
    )
