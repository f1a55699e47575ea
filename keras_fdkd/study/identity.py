"""What the rows of a folder depend on, so that no row of another study is taken for one of this."""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.study.rows import take
from keras_fdkd.study.splits import Split
from keras_fdkd.study.work import Work, new_model

_SOME = 8  # samples whose inputs are looked at


def identity(work: Work) -> dict[str, Any]:
    """Return by name what decides how runs end, as JSON. Code of functions is not seen."""
    protocol = work.protocol
    rows = work.splits[0].test[:_SOME]
    student = new_model(work.build_student, work.seeds[0])
    teacher: Any = repr(work.teacher)
    if work.build_teacher is not None:
        teacher = _digest(new_model(work.build_teacher, work.seeds[0]).get_weights())
    elif isinstance(work.teacher, keras.Model):
        teacher = _digest(work.teacher.get_weights())
    elif callable(work.teacher):
        teacher = "a function"
    compiled = {name: _said(value) for name, value in protocol.compile.items()}
    return {
        "labels": _digest(work.labels.values),
        "inputs": [
            "recorded" if source is None else _digest(take(source, rows))
            for source in (work.teacher_inputs, work.student_inputs)
        ],
        "build_student": _digest(student.get_weights()),
        "teacher": teacher,
        "ensemble": work.ensemble,
        "compile": compiled,
        "fit": {name: _said(value) for name, value in protocol.fit.items()},
        "score": [protocol.score, protocol.mode],
        "trials": work.trials,
        "the first of seeds": work.seeds[0],
        "backend": keras.config.backend(),
    }


def check_identity(folder: Path, new: dict[str, Any], methods: dict[str, Any]) -> None:
    """Raise if a folder holds the rows of another study. Methods may be added.

    Raises:
        ValueError: Naming what differs.
    """
    file = folder / "study.json"
    if not file.exists():
        return
    before = json.loads(file.read_text())
    same = json.loads(json.dumps(new))
    differing = [name for name, value in same.items() if before["identity"].get(name) != value]
    known = before["methods"]
    methods = json.loads(json.dumps(methods))
    differing += [
        f"method '{name}'"
        for name, one in methods.items()
        if name in known and known[name]["candidates"] != one["candidates"]
    ]
    if differing:
        raise ValueError(
            f"`folder` {str(folder)!r} holds the runs of another study, with other {differing}. "
            "Give another `folder`, or delete this one."
        )


def kept_splits(folder: Path, cv: str, new: list[Split], drawn: bool) -> list[Split]:
    """Return the splits that a folder's runs were made with, or keep new ones there.

    Splits that are drawn by splitters without a `random_state` differ each time.
    """
    file = folder / "splits.npz"
    if file.exists():
        with np.load(file, allow_pickle=False) as arrays:
            count = int(arrays["count"])
            names = ("train", "validation", "test")
            kept = [Split(*(arrays[f"{i}_{name}"] for name in names)) for i in range(count)]
            is_same = str(arrays["cv"]) == cv
            if is_same and (
                drawn or _digest(list(map(vars, kept))) == _digest(list(map(vars, new)))
            ):
                return kept
        raise ValueError(
            f"`folder` {str(folder)!r} holds the runs of a study with other splits. "
            "Give another `folder`, or delete this one."
        )
    arrays = {f"{i}_{name}": rows for i, one in enumerate(new) for name, rows in vars(one).items()}
    np.savez(file, count=len(new), cv=cv, **arrays)
    return new


def _digest(values: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for leaf in keras.tree.flatten(values):
        leaf = np.ascontiguousarray(keras.ops.convert_to_numpy(leaf))
        digest.update(f"{leaf.shape}{leaf.dtype}".encode())
        digest.update(leaf.view(np.uint8).data if leaf.size else b"")
    return digest.hexdigest()


def _said(value: Any) -> Any:
    """Return what identifies an argument of `compile` or `fit`; functions are not looked into."""
    if hasattr(value, "get_config"):
        config = {key: str(part) for key, part in value.get_config().items() if key != "name"}
        return [type(value).__name__, config]
    if isinstance(value, (list, tuple)):
        return [_said(part) for part in value]
    return getattr(value, "__name__", None) or str(value)
