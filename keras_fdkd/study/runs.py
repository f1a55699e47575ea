"""Run one model of a study and return its row."""

import inspect
import math
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.files import written_whole
from keras_fdkd.graphs import graph_of
from keras_fdkd.study.batches import Batches, InOrder, Pair
from keras_fdkd.study.method import Method, Setting
from keras_fdkd.study.teacher_outputs import teacher_outputs
from keras_fdkd.study.trainer import NotFiniteError, Outcome, train
from keras_fdkd.study.tuning import Tuning
from keras_fdkd.study.work import NONE, TEACHER, Run, Work, new_model

Row = dict[str, Any]


def run_safely(work: Work, run: Run) -> Row:
    """Return the row of a run, or one that holds the traceback if it failed."""
    start = time.perf_counter()
    try:
        row = _KINDS.get(run.method, _distilled)(work, run)
    except Exception:  # Not `BaseException`: Ctrl-C ends the study.
        row = {"error": traceback.format_exc()}
    return {"run": asdict(run), **row, "seconds": time.perf_counter() - start}


def _teacher(work: Work, run: Run) -> Row:
    """Train the teacher of a split, or each member of its ensemble. The scores are their means.

    A given teacher is tested only.
    """
    if work.build_teacher is None:
        return _given(work, run)
    rows = []
    for number, model in enumerate(work.new_teachers()):
        seed = work.teacher_seed(number)
        rows.append(_alone(work, run, model, TEACHER, seed))
        _save(model, work.teacher_file(run, number))
    means = {name: np.mean([row[name] for row in rows]) for name in ("score", "validation")}
    return {**rows[0], **{name: float(value) for name, value in means.items()}}


def _given(work: Work, run: Run) -> Row:
    judge = graph_of(work.given_teacher)  # To compile it leaves the teacher as it is.
    work.protocol.compile_model(judge, 1)
    split = work.splits[run.split]
    folds = (_fold(work, work.teacher_inputs, rows) for rows in (split.validation, split.test))
    validation, test = (judge.evaluate(fold, verbose=0, return_dict=True) for fold in folds)
    untrained = Outcome(float(validation[work.protocol.score]), 0, [], 0.0)
    return _row(work, judge, untrained, test)


def _student(work: Work, run: Run) -> Row:
    student = new_model(work.build_student, run.seed)
    return _alone(work, run, student, "student", run.seed)


def _alone(work: Work, run: Run, model: keras.Model, side: str, seed: int) -> Row:
    """Train and test a model of one modality by itself."""
    split = work.splits[run.split]
    source = work.teacher_inputs if side == TEACHER else work.student_inputs
    labels, labelled = work.kept_labels(run)
    size = work.protocol.batch_size
    batches = Batches(
        source, split.train, labels, labelled, size, seed,
        weighted=True, augment=work.augment, side=side,
    )  # fmt: skip
    outcome = train(model, batches, _fold(work, source, split.validation), work.protocol, seed)
    test = _fold(work, source, split.test)
    return _row(work, model, outcome, model.evaluate(test, verbose=0, return_dict=True))


def _distilled(work: Work, run: Run) -> Row:
    """Tune a method with the first seed; further seeds use the setting that was found."""
    method = work.methods[run.method]
    name = f"{run.pair}-{run.method}"
    tuning = Tuning(
        work.folder / "tuning" / f"{name}.log", method, work.protocol.mode, work.trials, run.split
    )
    teacher = work.trained_teacher(run)
    # One for each trial: that of a trial that was never told is not taken for the best one's.
    files = [work.folder / "students" / f"{name}-{n}.weights.h5" for n in range(tuning.count)]
    first = run.seed == work.seeds[0]
    while first and (setting := tuning.next()) is not None:
        try:
            student, outcome = _candidate(work, run, method, teacher, setting)
        except NotFiniteError:
            tuning.tell(setting, None)
            continue
        # Saved before it is told: a process that is killed in between tries the setting again.
        former, is_best = tuning.best, tuning.is_best(outcome.score)
        if is_best:
            _save(student, files[len(tuning.done)])
        tuning.tell(setting, outcome)
        if is_best and former is not None:
            files[former["number"]].unlink(missing_ok=True)
    if tuning.next() is not None:
        raise RuntimeError(
            f"The tuning of '{run.method}' did not end: see its run with seed {work.seeds[0]}."
        )
    best = tuning.best
    if best is None:
        raise NotFiniteError(f"No setting of '{run.method}' came to a finite score: {tuning.done}")
    if first and files[best["number"]].exists():
        student = new_model(work.build_student, run.seed)
        student.load_weights(files[best["number"]])
        outcome = Outcome(*(best[key] for key in ("score", "epoch", "curve", "seconds_per_step")))
    else:
        student, outcome = _candidate(work, run, method, teacher, best["setting"])
    # Only to be evaluated, so the number of steps does not matter.
    work.protocol.compile_model(student, 1)
    test = _fold(work, work.student_inputs, work.splits[run.split].test)
    logs = student.evaluate(test, verbose=0, return_dict=True)
    tried = [{"setting": one["setting"], "validation": one["score"]} for one in tuning.done]
    row = {**_row(work, student, outcome, logs), "setting": best["setting"], "tried": tried}
    if first:
        for file in files:
            file.unlink(missing_ok=True)
    return row


def _candidate(
    work: Work, run: Run, method: Method, teacher: Any, setting: Setting
) -> tuple[keras.Model, Outcome]:
    """Train a student with one setting. No test fold is read here."""
    split = work.splits[run.split]
    labels, labelled = work.kept_labels(run)
    student = new_model(work.build_student, run.seed)
    distiller = make_distiller(method, teacher, student, *work.sizes(run.split), setting)
    sources = {"student": work.student_inputs}
    outputs = before = None
    if work.is_recorded:
        sources["teacher_outputs"] = work.teacher_inputs
    elif method.changes_teacher or work.augment is not None:
        sources["teacher"] = work.teacher_inputs
        # The next setting or method in this process gets the same object.
        before = teacher.get_weights() if method.changes_teacher else None
    else:
        outputs = teacher_outputs(work, run, distiller, split.train)
    pair = Pair(sources, outputs)
    size = work.protocol.batch_size
    batches = Batches(pair, split.train, labels, labelled, size, run.seed, augment=work.augment)
    validation = _fold(work, work.student_inputs, split.validation)
    try:
        return student, train(distiller, batches, validation, work.protocol, run.seed)
    finally:
        if before is not None:
            teacher.set_weights(before)


def make_distiller(
    method: Method, teacher: Any, student: keras.Model, samples: int, steps: int, setting: Setting
) -> keras.Model:
    """Return the distiller of a method, which gets the sizes of the training if it takes them."""
    asked = inspect.signature(method.make).parameters
    sizes = {"samples": samples, "steps": steps}
    given = {name: size for name, size in sizes.items() if name in asked}
    return method.make(teacher, student, **given, **setting)


def _fold(work: Work, source: Any, rows: np.ndarray) -> InOrder:
    protocol = work.protocol
    return InOrder(source, rows, work.labels.values[rows], protocol.batch_size, protocol.ignored)


def _row(work: Work, model: keras.Model, outcome: Outcome, logs: dict[str, Any]) -> Row:
    score = float(logs[work.protocol.score])
    if not math.isfinite(score):
        raise NotFiniteError(f"'{work.protocol.score}' is {score} on the test fold.")
    return {
        "score": score,
        "validation": outcome.score,
        "metrics": {name: np.asarray(value).tolist() for name, value in logs.items()},
        "epoch": outcome.epoch,
        "curve": outcome.curve,
        "seconds_per_step": outcome.seconds_per_step,
        "parameters": model.count_params(),
    }


def _save(model: keras.Model, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as part:
        model.save_weights(part)


_KINDS = {TEACHER: _teacher, NONE: _student}
