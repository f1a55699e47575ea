"""What the rows of a folder depend on, so that a study never takes those of another one."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.data.teacher_identity import model_identity
from keras_fdkd.files import written_whole
from keras_fdkd.study.rows import Source
from keras_fdkd.study.splits import Split
from keras_fdkd.study.work import Work, new_model

_SPLITS = "splits.npz"
_WHOLE = 256 * 2**20  # bytes of inputs that are compared whole if they are in memory
_SOME = 64  # samples that are compared of others


def identity(work: Work) -> dict[str, Any]:
    """Return, by name and as JSON, what determines the outcome of runs. Code is not compared."""
    protocol = work.protocol
    student = new_model(work.build_student, work.seeds[0])
    teacher: Any = repr(work.teacher)
    if work.build_teacher is not None:
        teacher = _built(new_model(work.build_teacher, work.seeds[0]))
    elif isinstance(work.teacher, (keras.Model, Mapping)):
        several = work.teacher if isinstance(work.teacher, Mapping) else {"": work.teacher}
        teacher = {
            name: model_identity(one) if isinstance(one, keras.Model) else repr(one)
            for name, one in several.items()
        }
    elif callable(work.teacher):
        teacher = "a function"
    compiled = {name: _said(value) for name, value in protocol.compile.items()}
    return {
        "inputs": [
            inputs_digest(source, len(work.labels.values))
            for source in (work.teacher_inputs, work.student_inputs)
        ],
        "build_student": _built(student),
        "teacher": teacher,
        "ensemble": work.ensemble,
        "compile": compiled,
        "fit": {name: _said(value) for name, value in protocol.fit.items()},
        "score": [protocol.score, protocol.mode],
        "trials": work.trials,
        "the first of seeds": work.seeds[0],
        "backend": keras.config.backend(),
        "dtype policy": keras.config.dtype_policy().name,
        "augment": _said(work.augment),
    }


def inputs_digest(source: Source, count: int) -> str:
    """Return a digest of inputs, or of samples spread over them if they are large or on disk.

    Args:
        source: Nested arrays, memory maps, or a function.
        count: Number of samples.
    """
    some = np.unique(np.linspace(0, count - 1, _SOME).astype("int64"))
    if callable(source):
        return _digest(source(some))
    pairs = [(leaf, isinstance(leaf, np.memmap)) for leaf in keras.tree.flatten(source)]
    are_small = sum(leaf.nbytes for leaf, is_mapped in pairs if not is_mapped) <= _WHOLE
    return _digest(
        [leaf if are_small and not is_mapped else leaf[some] for leaf, is_mapped in pairs]
    )


def _built(model: keras.Model) -> str:
    # Which weights are trained is no part of what a model computes, but of what it becomes.
    return model_identity(model, [weight.trainable for weight in model.weights])


def check_identity(folder: Path, new: dict[str, Any], methods: dict[str, Any]) -> None:
    """Raise if a folder holds the rows of another study. Methods may be added.

    Raises:
        ValueError: If it does; the message names what differs.
    """
    file = folder / "study.json"
    if not file.exists():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    same = json.loads(json.dumps(new))
    # Of earlier versions, these are missing.
    then = {"dtype policy": same["dtype policy"], "augment": _said(None), **before["identity"]}
    differing = [name for name, value in same.items() if then.get(name) != value]
    known = before["methods"]
    methods = json.loads(json.dumps(methods))
    differing += [
        f"method '{name}'"
        for name, one in methods.items()
        if name in known and any(known[name][part] != one[part] for part in ("candidates", "space"))
    ]
    if differing:
        raise ValueError(
            f"`folder` {str(folder)!r} holds the runs of another study, with other {differing}. "
            "Give another `folder`, or delete this one."
        )


def with_former(folder: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Return a study's description, with methods, seeds and budgets of earlier runs."""
    file = folder / "study.json"
    if not file.exists():
        return info
    before = json.loads(file.read_text(encoding="utf-8"))
    merged: dict[str, Any] = {"methods": {**before["methods"], **info["methods"]}}
    for name in ("seeds", "budgets"):
        merged[name] = [*before[name], *(one for one in info[name] if one not in before[name])]
    return {**info, **merged}


def kept_splits(folder: Path, drawn_from: str, new: list[Split]) -> list[Split]:
    """Return the splits that a folder's runs were made with, or new ones if it has none.

    Splitters without a `random_state` draw different splits each time.

    Args:
        folder: Folder of the study.
        drawn_from: A text of all that splits depend on, except chance.
        new: The splits drawn this time.

    Raises:
        ValueError: If those of the folder were drawn from something else.
    """
    file = folder / _SPLITS
    if not file.exists():
        return new
    with np.load(file, allow_pickle=False) as arrays:
        if str(arrays["drawn_from"]) != drawn_from:
            raise ValueError(
                f"`folder` {str(folder)!r} holds the runs of a study with other splits: other "
                "labels, `cv`, `validation`, `groups` or `teacher_trained_on`. Give another "
                "`folder`, or delete this one."
            )
        names = [field.name for field in dataclasses.fields(Split)]
        return [Split(*(arrays[f"{i}_{name}"][()] for name in names)) for i in range(len(new))]


def keep_splits(folder: Path, drawn_from: str, splits: list[Split]) -> None:
    """Write splits for `kept_splits`, unless there are some."""
    arrays = {
        f"{i}_{name}": value for i, one in enumerate(splits) for name, value in vars(one).items()
    }
    if not (folder / _SPLITS).exists():
        with written_whole(folder / _SPLITS) as part:
            np.savez(part, drawn_from=drawn_from, **arrays)


def origin(cv: Any, validation: Any, splits: list[Split], again: list[Split], *arrays: Any) -> str:
    """Return what splits are drawn from, as text.

    Args:
        cv: See `Study`.
        validation: See `Study`.
        splits: The resulting splits.
        again: The splits that result a second time. If they are equal, they identify their own
            origin; otherwise the text of `cv` and `validation` does, in which splitters shorten
            long arrays.
        *arrays: Labels, groups and so on.
    """
    first, second = (_digest([vars(split) for split in drawn]) for drawn in (splits, again))
    text = _plain(f"{cv} {validation}")
    given = [None if array is None else _digest(array) for array in arrays]
    return json.dumps([first if first == second else text, len(splits), given])


def _digest(values: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for leaf in keras.tree.flatten(values):
        leaf = np.ascontiguousarray(keras.ops.convert_to_numpy(leaf))
        digest.update(f"{leaf.shape}{leaf.dtype}".encode())
        if leaf.dtype.kind in "OT":  # Texts, names of groups: their memory holds where they are.
            for value in leaf.flat:
                digest.update(f"{value!r}\0".encode())
        else:
            digest.update(leaf.view(np.uint8).data if leaf.size else b"")
    return digest.hexdigest()


def _said(value: Any) -> Any:
    """Return what identifies an argument of `compile` or `fit`; functions are not compared."""
    if hasattr(value, "get_config"):
        config = {key: str(part) for key, part in value.get_config().items() if key != "name"}
        return [type(value).__name__, config]
    if isinstance(value, (list, tuple)):
        return [_said(part) for part in value]
    return getattr(value, "__name__", None) or _plain(value)


def _plain(value: Any) -> str:
    """Return a text of an object without addresses, which differ in each process."""
    return re.sub(r" at 0x\w+", "", str(value))
