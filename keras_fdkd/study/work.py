"""What every run of a study needs, in whatever process it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.ensemble import Ensemble
from keras_fdkd.recorded_teacher import RecordedTeacher
from keras_fdkd.study.batches import Augment
from keras_fdkd.study.labels import Labels
from keras_fdkd.study.method import Method
from keras_fdkd.study.protocol import Protocol
from keras_fdkd.study.splits import Split

NONE, TEACHER = "none", "teacher"


@dataclass(frozen=True)
class Run:
    """One model to train and test.

    Attributes:
        split: Number of the split.
        budget: How many training samples keep their labels, `None` for all.
        method: Name of the method; `"none"` for no distillation, `"teacher"` for the teacher
            itself.
        seed: Seed of the initial weights and the batches.
    """

    split: int
    budget: int | None
    method: str
    seed: int

    @property
    def pair(self) -> str:
        """Name of the split and the budget in files."""
        return f"split{self.split}-{'all' if self.budget is None else self.budget}"


@dataclass(frozen=True)
class Work:
    """Data, models, methods and protocol of a study. See `keras_fdkd.study.Study`."""

    teacher_inputs: Any
    student_inputs: Any
    labels: Labels
    splits: list[Split]
    build_student: Callable[[], keras.Model]
    build_teacher: Callable[[], keras.Model] | None
    teacher: Any
    ensemble: int
    methods: Mapping[str, Method]
    protocol: Protocol
    trials: int
    seeds: tuple[int, ...]
    folder: Path
    augment: Augment | None = None
    judged: bool = False  # Whether the given teacher is tested, see `can_judge`.

    def kept_labels(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Return the training labels of a run, and which samples have some."""
        # The split is the seed, so that all methods and seeds see the same labels.
        labels = self.labels.hidden(self.splits[run.split].train, run.budget, run.split)
        return labels, Labels(labels).labelled

    def sizes(self, split: int) -> tuple[int, int]:
        """Return the number of training samples and of training steps."""
        samples = len(self.splits[split].train)
        return samples, self.protocol.epochs * max(1, samples // self.protocol.batch_size)

    @cached_property
    def given_teacher(self) -> Any:
        """The given teacher, loaded once per process if it was given as a function."""
        return made_teacher(self.teacher)

    def trained_teacher(self, run: Run) -> Any:
        """Return the given teacher, or the one trained on this split and budget."""
        if self.build_teacher is None:
            return self.given_teacher
        models = self.new_teachers()
        for number, model in enumerate(models):
            file = self.teacher_file(run, number)
            if not file.exists():
                raise RuntimeError("The teacher of this split was not trained: see its own run.")
            model.load_weights(file)
        return self.as_teacher(models)

    def new_teachers(self) -> list[keras.Model]:
        """Return untrained teachers, one or an ensemble."""
        if self.build_teacher is None:
            return []
        return [new_model(self.build_teacher, self.teacher_seed(i)) for i in range(self.ensemble)]

    def as_teacher(self, models: list[keras.Model]) -> keras.Model:
        """Return one model, or several as one."""
        return models[0] if len(models) == 1 else Ensemble(models)

    def teacher_seed(self, number: int) -> int:
        """Return the seed of a member of the ensemble."""
        return self.seeds[0] + 1000 * number

    def teacher_file(self, run: Run, number: int) -> Path:
        """Return where the weights of a trained teacher are."""
        return self.folder / "teachers" / f"{run.pair}-{number}.weights.h5"

    @property
    def is_recorded(self) -> bool:
        """Whether the teacher's inputs are its recorded outputs."""
        return self.build_teacher is None and isinstance(self.given_teacher, RecordedTeacher)


def made_teacher(teacher: Any) -> Any:
    """Return a teacher, or what the function that was given in its place returns."""
    made = isinstance(teacher, (keras.Model, RecordedTeacher, Mapping))
    return teacher if made else teacher()


def new_model(build: Callable[[], keras.Model], seed: int) -> keras.Model:
    """Return an untrained model with the initial weights of the seed."""
    keras.utils.set_random_seed(seed)
    return build()
