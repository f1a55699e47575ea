"""Accelerometer and gyroscope of a smartwatch: one teaches the other to recognize exercises."""

import argparse
import os
from pathlib import Path

# A default for `python -m recipes.watch`; KERAS_BACKEND chooses another.
os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from keras_fdkd import FrequencyDistiller
from recipes.experiment import Fold, Run, run_seed
from recipes.models import signal_classifier
from recipes.report import print_table, write_report
from recipes.watch_data import MODALITIES, load_watch, split_by_subject

TEACHER_FILTERS, STUDENT_FILTERS = (64, 128, 128), (32, 64, 128)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    first, second = MODALITIES
    parser = argparse.ArgumentParser(
        "python -m recipes.watch",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--direction", default=f"{first}-to-{second}", help="teacher-to-student modality",
        choices=[f"{first}-to-{second}", f"{second}-to-{first}"])  # fmt: skip
    add("--epochs", type=int, default=30, help="epochs of each model")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a split and a start each")
    add("--cutoff", type=float, default=0.5, help="fraction of the spectrum that is low")
    add("--low-weight", type=float, default=3.0, help="weight of the low band")
    add("--high-weight", type=float, default=1.0, help="weight of the high band")
    add("--align-weight", type=float, default=0.3, help="weight of the shared classifiers")
    add("--output", type=Path, default=Path("runs/watch"), help="folder of the report")
    add("--data-folder", type=Path, help="folder of watch_dataset.npy, if not in seglearn")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[Run]:
    """Run the experiment and write its report."""
    options = parse(arguments)
    data = load_watch(options.data_folder)
    teacher_side, student_side = options.direction.split("-to-")
    classes = len(data.exercises)

    def make_distiller(teacher: keras.Model, student: keras.Model) -> keras.Model:
        return FrequencyDistiller(
            teacher,
            student,
            cutoff=options.cutoff,
            low_weight=options.low_weight,
            high_weight=options.high_weight,
            align_weight=options.align_weight,
        )

    def make_teacher(signals: np.ndarray) -> keras.Model:
        return signal_classifier(signals, classes, TEACHER_FILTERS, "teacher")

    def make_student(signals: np.ndarray) -> keras.Model:
        return signal_classifier(signals, classes, STUDENT_FILTERS, "student")

    runs: list[Run] = []
    tests = {}
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for seed in options.seeds:
            folds = {
                name: Fold(
                    teacher=data.signals[teacher_side][rows],
                    student=data.signals[student_side][rows],
                    labels=data.labels[rows],
                )
                for name, rows in split_by_subject(data.subjects, seed).items()
            }
            tests[seed] = folds["test"]
            runs += run_seed(
                folds, seed, options.epochs, make_teacher, make_student, make_distiller, progress
            )
    title = f"Watch: {teacher_side} teacher, {student_side} student"
    settings = {name: str(value) for name, value in vars(options).items() if name != "output"}
    settings["backend"] = keras.config.backend()
    write_report(options.output, title, settings, runs, tests)
    print_table(runs, title)
    print(f"Report: {options.output / 'report.md'}")
    return runs


if __name__ == "__main__":
    main()
