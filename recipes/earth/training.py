"""How all models are trained: the study of a direction, and its students once more for pictures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.study import Method, Study
from keras_fdkd.study.batches import Batches, InOrder, Pair
from keras_fdkd.study.labels import Labels
from keras_fdkd.study.protocol import Protocol
from keras_fdkd.study.trainer import train
from keras_fdkd.study.work import new_model
from recipes.earth.data import CLASSES, VOID, EarthData
from recipes.earth.models import segmenter
from recipes.shared.study_command import Direction

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]

# These were chosen on validation scores of the plain models, in a few tries.
EPOCHS = 20
RATE = 3e-3
BATCH_SIZE = 16
SCORE = "mean_iou"


def _adam(steps: int) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps))


def compile_arguments() -> dict[str, Any]:
    """Return what `compile` gets: neither void pixels nor unlabelled tiles count."""
    return {
        "optimizer": _adam,
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID),
        "metrics": [
            keras.metrics.MeanIoU(
                len(CLASSES),
                name=SCORE,
                ignore_class=VOID,
                # Predictions are logits, not numbers of classes.
                sparse_y_pred=False,
            )
        ],
    }


def builder(data: EarthData, modality: str) -> Callable[[], keras.Model]:
    """Return a function that makes the model of a modality."""
    shape = data.pictures[modality].shape[1:]
    return functools.partial(segmenter, shape, len(CLASSES), modality)


def make_study(
    data: EarthData,
    direction: Direction,
    methods: Mapping[str, Method],
    splits: Sequence[Rows],
    budgets: Sequence[int | None],
    seeds: Sequence[int],
    epochs: int,
    trials: int,
    folder: Path,
) -> Study:
    """Return the study of one direction.

    Args:
        data: The tiles.
        direction: Modalities of teacher and student.
        methods: By name.
        splits: Rows for training, validation and test; whole bands each.
        budgets: How many training tiles keep their labels, `None` for all.
        seeds: Of initial weights, in each split.
        epochs: Of each model.
        trials: Settings of each method that validation chooses from.
        folder: See `keras_fdkd.study.Study`.
    """
    teacher, student = direction
    return Study(
        teacher_inputs=data.pictures[teacher],
        student_inputs=data.pictures[student],
        labels=data.labels,
        build_teacher=builder(data, teacher),
        build_student=builder(data, student),
        methods=list(methods.items()),
        cv=list(splits),
        groups=data.bands,
        label_budgets=budgets,
        seeds=seeds,
        trials=trials,
        compile=compile_arguments(),
        fit={"epochs": epochs, "batch_size": BATCH_SIZE},
        score=SCORE,
        mode="max",
        folder=folder,
    )


def train_students(
    data: EarthData,
    direction: Direction,
    distil: Callable[[keras.Model, keras.Model], keras.Model],
    split: Rows,
    budget: int | None,
    seed: int,
    epochs: int,
) -> tuple[keras.Model, keras.Model]:
    """Train two students as the study does in its first split: one alone, and one with a teacher.

    Args:
        data: The tiles.
        direction: Modalities of teacher and student.
        distil: From a trained teacher and a student to their distiller.
        split: The first one.
        budget: How many training tiles keep their labels, `None` for all.
        seed: Of initial weights and batches.
        epochs: Of each model.

    Returns:
        The student alone, and the distilled one.
    """
    fit = {"epochs": epochs, "batch_size": BATCH_SIZE}
    protocol = Protocol.of(compile_arguments(), fit, SCORE, "max", missing=False)
    rows, validation, _ = split
    # A study draws the labels that stay by the number of the split: here the first.
    labels = Labels(data.labels).hidden(rows, budget, 0)
    there = Labels(labels).labelled
    of_teacher, of_student = (data.pictures[modality] for modality in direction)

    def trained(trainer: keras.Model, x: Any, pictures: np.ndarray) -> None:
        batches = Batches(x, rows, labels, there, BATCH_SIZE, seed)
        held_out = InOrder(pictures, validation, data.labels[validation], BATCH_SIZE)
        train(trainer, batches, held_out, protocol, seed)

    # The same seed for both students, so that they begin with the same weights.
    teacher, alone, student = (
        new_model(builder(data, direction[side]), seed) for side in (0, 1, 1)
    )
    trained(teacher, of_teacher, of_teacher)
    trained(alone, of_student, of_student)
    pair = Pair({"teacher": of_teacher, "student": of_student})
    trained(distil(teacher, student), pair, of_student)
    return alone, student
