"""Tries models and methods once before the first run."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fdkd.distillers.labels import ignored_class
from keras_fdkd.distillers.task import kind_of_task, loss_of_output
from keras_fdkd.graphs import graph_of, runs_code_of_keras
from keras_fdkd.study.labels import UNLABELLED, Labels
from keras_fdkd.study.method import Method
from keras_fdkd.study.method_table import methods as known_methods
from keras_fdkd.study.protocol import Protocol
from keras_fdkd.study.rows import take
from keras_fdkd.study.runs import make_distiller
from keras_fdkd.study.splits import Split
from keras_fdkd.study.work import NONE, TEACHER, Work, new_model


def named_methods(given: Sequence[Any]) -> dict[str, Method]:
    """Return methods by name, each with a title.

    Args:
        given: Names from `keras_fdkd.study.methods`, or pairs of a name and a `Method` or function.

    Raises:
        ValueError: If an entry is anything else, or a name occurs twice.
    """
    found: dict[str, Method] = {}
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError(f"`methods` must be a list of methods. Received: methods={given!r}.")
    for one in given:
        name, method = (one, known_methods.get(one)) if isinstance(one, str) else _named(one)
        if method is None:
            raise ValueError(
                f"`methods` must hold names of {sorted(known_methods)}, or pairs of a name of your "
                f"own and a `Method` or a function `(teacher, student) -> distiller`. "
                f"Received: {one!r}."
            )
        if name in found or name in (NONE, TEACHER):
            raise ValueError(
                f"Each method needs a name of its own, other than '{NONE}' (which is always "
                f"there) and '{TEACHER}'. Received: {name!r}."
            )
        found[name] = method if method.title else dataclasses.replace(method, title=name)
    return found


def _named(pair: Any) -> tuple[str, Method | None]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
        return "", None
    name, made = pair
    return name, made if isinstance(made, Method) else Method(made) if callable(made) else None


def check_hidden(labels: Labels, loss: Any, are_hidden: bool) -> None:
    """Raise if a loss would learn from labels that mark missing labels.

    Args:
        labels: Labels of all samples.
        loss: As compiled.
        are_hidden: Whether some samples have no label, or only few keep theirs.
    """
    if not are_hidden:
        return
    loss = loss_of_output(loss, None)
    kind = kind_of_task(loss)
    if labels.values.dtype.kind == "i":
        if ignored_class(loss) == UNLABELLED:
            return
        raise ValueError(
            "Samples without a label have -1, which the loss must leave out: "
            "`keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)`. "
            "Values and independent labels must be floats, so that NaN can stand for what is "
            f"missing. Received: labels of {labels.values.dtype}, compile['loss']={loss!r}."
        )
    if kind not in ("values", "labels"):
        raise ValueError(
            "Where samples have no label, the loss must be one of Keras's for values or "
            "independent labels; classes must be integers, with -1 for no label. "
            f"Received: labels of {labels.values.dtype}, compile['loss']={loss!r}."
        )


def ignored_in(labels: Labels, loss: Any, splits: Sequence[Split]) -> int | None:
    """Return the class that the loss ignores, if positions of held-out samples have it."""
    ignored = ignored_class(loss_of_output(loss, None))
    if ignored is None or labels.classes is not None or labels.values.dtype.kind != "i":
        return None
    rows = np.unique(np.concatenate([[*s.validation, *s.test] for s in splits]).astype(int))
    held_out = rows[labels.labelled[rows]]
    return ignored if (labels.values[held_out] == ignored).any() else None


def check_augment(work: Work) -> None:
    """Raise unless `augment` returns batches like those it gets."""
    if work.augment is None:
        return
    if work.is_recorded:
        raise ValueError(
            "`augment` changes what the teacher sees, so it needs a teacher that runs, and no "
            "`RecordedTeacher`."
        )
    rows = work.splits[0].train[:2]
    labels = work.labels.values[rows]
    sources = {"teacher": work.teacher_inputs, "student": work.student_inputs}
    made = {}
    for asked in (("teacher", "student"), ("teacher",), ("student",)):
        # Read anew each time, as the function may work in place.
        sides = {side: take(sources[side], rows) for side in asked}
        wanted = _described((sides, labels))
        given = keras.tree.map_structure(np.array, sides), labels.copy()
        made[asked] = _tried("augment", work.augment, *given, np.random.default_rng(0))
        if _described(made[asked]) != wanted:
            raise ValueError(
                "`augment` must return `(sides, labels)` with the names, shapes and kinds of "
                f"numbers that it got, {wanted}. Received: {_described(made[asked])}."
            )
    both, both_labels = made["teacher", "student"]
    for (side, *more), (alone, its_labels) in made.items():
        same = [(alone[side], both[side]), (its_labels, both_labels)]
        if not more and not all(_equal(*pair) for pair in same):
            raise ValueError(
                "`augment` must change a side in the same way whether the other one is there or "
                f"not: draw from `rng` before looking at the sides. Received: '{side}' changed "
                "otherwise alone than beside the other."
            )


def _described(batch: Any) -> Any:
    return keras.tree.map_structure(
        lambda values: f"{np.asarray(values).dtype.kind}{np.shape(values)}", batch
    )


def _equal(first: Any, second: Any) -> bool:
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    return all(np.array_equal(one, two, equal_nan=one.dtype.kind == "f") for one, two in pairs)


def checked_protocol(work: Work) -> Protocol:
    """Try student, teacher and every method, and return the protocol with its score.

    Raises:
        ValueError: If one does not fit the data, the others or the protocol.
    """
    # Two samples are enough to show whether all parts fit together.
    rows = work.splits[0].validation[:2]
    student = new_model(work.build_student, work.seeds[0])
    _check_built("build_student", student)
    work.protocol.compile_model(student, 1)
    labels, asked = work.labels.values[rows], {"verbose": 0, "return_dict": True}
    inputs = take(work.student_inputs, rows)
    # Keras knows the names of metrics only after a batch.
    logs = _tried("build_student", student.evaluate, inputs, labels, **asked)
    score = work.protocol.score or next((name for name in logs if name != "loss"), "loss")
    if score not in logs:
        raise ValueError(
            f"`score` must be one of the metrics in the logs, {list(logs)}. "
            f"Received: score={score!r}."
        )
    if np.ndim(logs[score]):
        raise ValueError(
            f"`score` must be one number. Received: '{score}', which is {np.shape(logs[score])}."
        )
    protocol = dataclasses.replace(work.protocol, score=score)
    protocol = dataclasses.replace(protocol, mode=protocol.direction(student))
    teacher = work.given_teacher if work.build_teacher is None else _new_teacher(work, rows)
    for name, method in work.methods.items():
        given = method, teacher, student, *work.sizes(0), method.default
        distiller = _tried(f"methods: '{name}'", make_distiller, *given)
        if not hasattr(distiller, "student") or not hasattr(distiller, "predict_teacher"):
            raise ValueError(
                f"`methods`: '{name}' must make a distiller of this package, such as "
                f"`FrequencyDistiller`. Received: {type(distiller).__name__}."
            )
        _tried(f"methods: '{name}'", protocol.compile_model, distiller, 1)
    return protocol


def can_judge(work: Work) -> bool:
    """Whether a given teacher can be tested like a student: one model with such an output.

    Args:
        work: With the checked protocol.
    """
    teacher = work.given_teacher if work.build_teacher is None else None
    if not isinstance(teacher, keras.Model) or work.protocol.score == "loss":
        return False  # The student's loss may not fit the end of the teacher, as softmax.
    student = new_model(work.build_student, work.seeds[0])
    if not all(getattr(model, "outputs", None) for model in (teacher, student)):
        return False  # Without a graph.
    judge = graph_of(teacher)
    outputs: list[Any] = [judge.output, graph_of(student).output]
    if not all(isinstance(one, keras.KerasTensor) for one in outputs):
        return False
    if outputs[0].shape[1:] != outputs[1].shape[1:] or not runs_code_of_keras(teacher):
        return False
    rows = work.splits[0].validation[:2]
    work.protocol.compile_model(judge, 1)
    inputs = take(work.teacher_inputs, rows)
    _tried("teacher", judge.evaluate, inputs, work.labels.values[rows], verbose=0)
    return True


def _new_teacher(work: Work, rows: np.ndarray) -> keras.Model:
    models = work.new_teachers()
    _check_built("build_teacher", models[0])
    work.protocol.compile_model(models[0], 1)
    inputs = take(work.teacher_inputs, rows)
    _tried("build_teacher", models[0].evaluate, inputs, work.labels.values[rows], verbose=0)
    return work.as_teacher(models)


def _check_built(name: str, model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`{name}` must be a function that returns a new `keras.Model`. "
            f"Received: {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"`{name}` must return a built model: give it a `keras.Input`, or call it once. "
            f"Received: '{model.name}'."
        )


def _tried(name: str, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return action(*args, **kwargs)
    except Exception as error:  # Models of users may raise anything.
        raise ValueError(f"`{name}`: {type(error).__name__}: {error}") from error


def check_teacher_argument(teacher: Any, build_teacher: Any) -> None:
    """Raise unless there is either a teacher or a function that builds one to be trained."""
    if (teacher is None) == (build_teacher is None):
        raise ValueError(
            "Give either `teacher=`, a trained one (or a function that loads it), or "
            "`build_teacher=`, a function that makes one to be trained in each split. "
            f"Received: teacher={teacher!r}, build_teacher={build_teacher!r}."
        )
    if build_teacher is not None and (
        isinstance(build_teacher, Mapping) or not callable(build_teacher)
    ):
        raise ValueError(
            "`build_teacher` must be a function that returns a new `keras.Model`. "
            f"Received: build_teacher={build_teacher!r}."
        )
