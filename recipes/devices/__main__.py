"""A distillation on several devices or in several processes, on data of a smartwatch.

The accelerometer teaches the gyroscope to recognize exercises, once, with the labels of all
training samples. Each process trains the teacher for itself; the distillation is spread.
"""

import argparse
from typing import Any

import keras
import numpy as np

from keras_fdkd import FrequencyDistiller
from keras_fdkd.data import shard
from keras_fdkd.study.batches import Batches, Pair
from recipes.devices.setup import is_first, spread, start, stop
from recipes.shared.classification import BATCH_SIZE, compile_arguments
from recipes.shared.experiment import Samples
from recipes.watch.experiment import experiment


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train teacher and student, and return their accuracies on held-out subjects."""
    parser = argparse.ArgumentParser(
        "python -m recipes.devices",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    # fmt: off
    add("--devices", type=int, default=1,
        help="to distil on, with JAX or TensorFlow; PyTorch's processes are those of torchrun")
    add("--epochs", type=int, default=30, help="of each model")
    # fmt: on
    options = parser.parse_args(arguments)
    start(options.devices)  # Before anything counts the devices.
    watch = experiment()
    teacher_side, student_side = watch.modalities
    folds = watch.folds(0)
    inputs, labels = folds["train"].inputs, folds["train"].labels
    keras.utils.set_random_seed(0)
    teacher = watch.build(teacher_side, inputs[teacher_side])
    _train(teacher, _batches(inputs[teacher_side], labels), options.epochs)
    accuracy = {"teacher": _accuracy(teacher, teacher_side, folds["test"])}
    with spread(options.devices):
        # Models know the devices that they were made on.
        copy = watch.build(teacher_side, inputs[teacher_side])
        copy.set_weights(teacher.get_weights())
        student = watch.build(student_side, inputs[student_side])
        pair = Pair({"teacher": inputs[teacher_side], "student": inputs[student_side]})
        distiller = FrequencyDistiller(copy, student)
        _train(distiller, shard(_batches(pair, labels)), options.epochs)
        accuracy["student"] = _accuracy(distiller, student_side, folds["test"])
    if is_first():
        for name, value in accuracy.items():
            print(f"{name}: {100 * value:.1f} %")
    stop()
    return accuracy


def _batches(x: Any, labels: np.ndarray) -> Batches:
    rows = np.arange(len(labels))
    return Batches(x, rows, labels, np.ones(len(labels), bool), BATCH_SIZE, seed=0)


def _train(model: keras.Model, batches: keras.utils.PyDataset, epochs: int) -> None:
    given = compile_arguments()
    optimizer = given.pop("optimizer")(epochs * len(batches))
    model.compile(optimizer, **given)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=2 if is_first() else 0)


def _accuracy(model: keras.Model, side: str, fold: Samples) -> float:
    logs = model.evaluate(
        fold.inputs[side], fold.labels, batch_size=8 * BATCH_SIZE, verbose=0, return_dict=True
    )
    return logs["accuracy"]


if __name__ == "__main__":
    main()
