"""Study: does distillation help on a pair of modalities, and which method?"""

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.arguments import check_integer, is_integer
from keras_fdkd.files import written_whole
from keras_fdkd.study.argument_checks import (
    check_budgets,
    check_known,
    check_rows,
    check_several,
    check_splitter,
)
from keras_fdkd.study.batches import Augment
from keras_fdkd.study.description import described
from keras_fdkd.study.identity import (
    check_identity,
    keep_splits,
    kept_splits,
    origin,
    with_former,
)
from keras_fdkd.study.labels import Labels
from keras_fdkd.study.model_checks import (
    can_judge,
    check_augment,
    check_hidden,
    check_teacher_argument,
    checked_protocol,
    ignored_in,
    named_methods,
)
from keras_fdkd.study.processes import Processes, progress
from keras_fdkd.study.protocol import Protocol
from keras_fdkd.study.results import Results
from keras_fdkd.study.row_file import append_row, read_rows
from keras_fdkd.study.rows import check_source
from keras_fdkd.study.runs import run_safely
from keras_fdkd.study.splits import make_splits
from keras_fdkd.study.work import NONE, TEACHER, Run, Work

_UNKNOWN_ROWS = (
    "The teacher was given trained, and not on which rows (`teacher_trained_on=`). If it saw the "
    "test samples with their labels, every gain here is too good."
)
_UNTESTED = (
    "The teacher was not tested, since it is not one model with an output like the student's. If "
    "it is weaker than the student, it mostly harms."
)


class Study:
    """Compare distillation methods with no distillation on your own pair of modalities.

    Use it to find out whether distillation helps at all, with which method, and by how much. The
    comparison is fair: within a split and a seed every method gets the same initial weights, the
    same batches and the same number of steps. Validation data choose the setting of a method and
    the epoch; the test data are read once.

    Args:
        teacher_inputs: What the teacher sees, of all samples: nested arrays or memory maps, or a
            function from row numbers to such arrays. For a `RecordedTeacher` its outputs; for a
            dict of teachers a dict by their names.
        student_inputs: What the student sees, likewise.
        labels: Classes as integers, with -1 for a sample without a label; values and independent
            labels as floats, with NaN likewise; shape `(samples, ...)`. Samples without a label are
            only used for training.
        build_student: Function without arguments that returns a new student.
        teacher: A trained teacher (a `keras.Model`, a dict of them, or a `RecordedTeacher`), or a
            function that loads it. It is tested too if it is one model with an output like the
            student's. Defaults to `None`: see `build_teacher`.
        build_teacher: Function that returns a new teacher, which is trained in each split like the
            plain student. Defaults to `None`.
        teacher_trained_on: Rows that a given `teacher` was trained on, which are then used neither
            for validation nor for testing. Pass `[]` if it saw none of these samples. Defaults to
            `None`: not known, and the results warn of it.
        ensemble: How many teachers `build_teacher` makes, with different initial weights and
            batches; they teach together, see `keras_fdkd.Ensemble`. Defaults to `1`.
        methods: Names from `keras_fdkd.study.methods`, or pairs of a name and a `Method` or a
            function `(teacher, student) -> distiller`. No distillation is always included. Defaults
            to `("kd", "pkd", "fdcmkd")`.
        cv: Number of random splits (a fifth is tested), a splitter of scikit-learn, or a list of
            splits, each `(train, test)` or `(train, validation, test)` row numbers. Defaults to
            `5`.
        validation: Fraction of what is not tested that chooses setting and epoch, or a splitter, of
            which the first split is used. Defaults to `0.2`.
        groups: Array of shape `(samples,)`: samples of one group, such as a person, stay in one
            fold. Defaults to `None`.
        label_budgets: How many training samples keep their labels, `None` for all of them. All
            pairs stay: half of each batch has labels. Defaults to `(None,)`.
        augment: Function `(sides, labels, rng) -> (sides, labels)` that changes a training batch,
            for what both modalities and the labels of pixels must share, such as crops. `sides`
            holds the batch of `"teacher"`, `"student"` or both; `rng` is a
            `numpy.random.Generator`, the same for every method, from which it draws the same
            whichever sides are there. The teacher then runs in each step.
            Defaults to `None`: none, and changes of one side alone are layers of its model.
        seeds: Seeds of initial weights and batches, in each split. Defaults to `(0,)`.
        trials: Number of settings to try for each method with the first seed, see `Method`.
            Defaults to `3`.
        compile: Arguments of `keras.Model.compile` for all models: `optimizer` is a name, an
            optimizer or a function that returns a new one (which gets the number of steps if it
            needs an argument), `loss`, `metrics` and so on.
        fit: Arguments of `keras.Model.fit` for all models: `epochs`, `batch_size` (32 by default),
            `callbacks`, a function that returns new ones.
        score: Metric that chooses and is compared, as in the logs. Defaults to `None`: the first
            metric, or the loss.
        mode: `"max"` if a higher score is better, `"min"`, or `"auto"`, as Keras infers. Defaults
            to `"auto"`.
        folder: Where rows, tuning, teachers and their outputs are kept: a study that was stopped
            resumes there, and another one is refused. Inputs are compared whole if they are arrays
            in memory of 256 MB at most, else, like memory maps and functions, by 64 samples spread
            over them. Code is not compared: choose another folder if that of your functions and
            layers changes. Defaults to `None`: a temporary folder.

    Raises:
        ValueError: If an argument is not as described, models or methods do not fit together, or
            `folder` holds another study.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(2, size=60)
    >>> sensor = (labels[:, None] + rng.normal(size=(60, 6))).astype("float32")
    >>> cheap = (labels[:, None] + rng.normal(size=(60, 4))).astype("float32")
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(8, "relu"),
    ...                              keras.layers.Dense(2)])
    >>> study = Study(
    ...     teacher_inputs=sensor, student_inputs=cheap, labels=labels,
    ...     build_teacher=lambda: model(6), build_student=lambda: model(4),
    ...     methods=["kd"], cv=2, trials=1,
    ...     compile={"optimizer": "adam", "metrics": ["accuracy"],
    ...              "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    ...     fit={"epochs": 2})
    >>> results = study.run(verbose=0)
    >>> [line.method for line in results.summaries()]
    ['none', 'kd']
    """

    def __init__(
        self,
        *,
        teacher_inputs: Any,
        student_inputs: Any,
        labels: np.ndarray,
        build_student: Callable[[], keras.Model],
        compile: Mapping[str, Any],
        fit: Mapping[str, Any],
        teacher: Any = None,
        build_teacher: Callable[[], keras.Model] | None = None,
        teacher_trained_on: Sequence[int] | np.ndarray | None = None,
        ensemble: int = 1,
        methods: Sequence[Any] = ("kd", "pkd", "fdcmkd"),
        cv: Any = 5,
        validation: Any = 0.2,
        groups: np.ndarray | None = None,
        label_budgets: Sequence[int | None] = (None,),
        augment: Augment | None = None,
        seeds: Sequence[int] = (0,),
        trials: int = 3,
        score: str | None = None,
        mode: str = "auto",
        folder: "str | Path | None" = None,
    ) -> None:
        known = Labels.of(labels)
        count = len(known.values)
        check_source("teacher_inputs", teacher_inputs, count)
        check_source("student_inputs", student_inputs, count)
        check_teacher_argument(teacher, build_teacher)
        check_integer("trials", trials)
        check_integer("ensemble", ensemble)
        check_several("seeds", seeds, lambda seed: is_integer(seed, 0), "integers >= 0")
        check_several(
            "label_budgets", label_budgets, lambda one: one is None or is_integer(one, 1),
            "integers >= 1, or `None` for all labels",
        )  # fmt: skip
        if ensemble > 1 and build_teacher is None:
            raise ValueError(
                "`ensemble` is for `build_teacher`; of trained teachers make a "
                f"`keras_fdkd.Ensemble`. Received: ensemble={ensemble}."
            )
        if teacher_trained_on is not None and build_teacher is not None:
            raise ValueError("`teacher_trained_on` is for a given `teacher`: leave it out.")
        groups = check_rows("groups", groups, count)
        seen = check_known(teacher_trained_on, count)
        check_splitter("cv", cv, "a number of splits, a list of splits", known)
        check_splitter("validation", validation, "a fraction", known)
        are_hidden = not known.labelled.all() or set(label_budgets) != {None}
        protocol = Protocol.of(
            compile, fit, score, mode, are_hidden and known.values.dtype.kind == "f"
        )
        check_hidden(known, compile["loss"], are_hidden)
        if folder is None:
            folder = tempfile.mkdtemp()
            # `Results` hold their rows in memory and outlive the folder.
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Twice, to see whether they depend on chance, see `origin`.
        splits, again = (make_splits(known, cv, validation, groups, seen) for _ in range(2))
        self._drawn_from = origin(cv, validation, splits, again, known.values, groups, seen)
        splits = kept_splits(folder, self._drawn_from, splits)
        check_budgets(label_budgets, known, splits)
        protocol = replace(protocol, ignored=ignored_in(known, compile["loss"], splits))
        work = Work(
            teacher_inputs, student_inputs, known, splits,
            build_student, build_teacher, teacher, ensemble, named_methods(methods),
            protocol, trials, tuple(seeds), folder, augment,
        )  # fmt: skip
        check_augment(work)
        work = replace(work, protocol=checked_protocol(work))
        self._work = replace(work, judged=can_judge(work))
        self.label_budgets = tuple(label_budgets)
        self.folder = folder
        warnings = [_UNKNOWN_ROWS] if teacher is not None and seen is None else []
        if teacher is not None and not self._work.judged and set(label_budgets) != {None}:
            warnings.append(_UNTESTED)
        self._info = described(self._work, label_budgets, cv, warnings)
        check_identity(folder, self._info["identity"], self._info["methods"])

    def run(self, n_jobs: int = 1, verbose: int = 1) -> Results:
        """Run what has not been run yet, and return the results of all.

        A run that fails does not stop the others: see `Results.failures`. It is tried again when
        the study is run again.

        Args:
            n_jobs: Number of processes at a time, each with its share of the processor's cores.
                Functions of scripts and notebooks are sent along. Defaults to `1`: all in this
                process.
            verbose: 0 for no progress bar. Defaults to `1`.

        Raises:
            ValueError: If an argument is not such an integer.
            RuntimeError: If models or functions cannot be sent to processes, or a process was
                killed.
        """
        check_integer("n_jobs", n_jobs)
        check_integer("verbose", verbose, 0)
        keep_splits(self.folder, self._drawn_from, self._work.splits)
        info = with_former(self.folder, self._info)
        with written_whole(self.folder / "study.json") as part:
            part.write_text(json.dumps(info, indent=1), encoding="utf-8")
        file = self.folder / "rows.jsonl"
        done = {json.dumps(row["run"]) for row in read_rows(file) if "error" not in row}
        stages = [
            [run for run in stage if json.dumps(asdict(run)) not in done]
            for stage in self._stages()
        ]
        total = sum(map(len, stages))
        if total:
            # A copy: runs cache the teacher they load in it, which must not be sent to processes.
            work = replace(self._work)
            with (
                Processes(run_safely, work, n_jobs) as processes,
                progress(total, "runs", verbose) as advance,
            ):
                for stage in stages:
                    for row in processes.run(stage):
                        append_row(file, row)
                        advance()
        return self.results()

    def results(self) -> Results:
        """Return the results of the runs that have ended so far."""
        rows = read_rows(self.folder / "rows.jsonl")
        wanted = {json.dumps(asdict(run)) for stage in self._stages() for run in stage}
        return Results([row for row in rows if json.dumps(row["run"]) in wanted], self._info)

    def _stages(self) -> list[list[Run]]:
        """Return the runs: models alone, methods with the first seed, methods with the others."""
        work = self._work
        places = [(n, budget) for n in range(len(work.splits)) for budget in self.label_budgets]
        first, *others = work.seeds
        alone = [Run(*place, NONE, seed) for place in places for seed in work.seeds]
        if work.build_teacher is not None:
            alone = [Run(*place, TEACHER, first) for place in places] + alone
        elif work.judged:  # Whatever labels the student has, the given teacher is the same.
            every = [(n, self.label_budgets[0]) for n in range(len(work.splits))]
            alone = [Run(*place, TEACHER, first) for place in every] + alone
        tuned, repeated = (
            [Run(*place, name, seed) for place in places for name in work.methods for seed in seeds]
            for seeds in ([first], others)
        )
        # Methods need the trained teachers, and further seeds the settings that were found.
        return [alone, tuned, repeated]
