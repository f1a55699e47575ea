"""cache_teacher: run the teacher once, and train on what it said."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.arguments import check_choice, check_integer
from keras_fdkd.data.data_sets import data_set_batches, with_outputs
from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.data.pairs import TEACHER, TEACHER_OUTPUTS, check_samples, is_pair
from keras_fdkd.fingerprints import fingerprint, row_keys


def cache_teacher(
    distiller: Any,
    data: Any,
    path: "str | Path | None" = None,
    dtype: str | None = None,
    batch_size: int = 256,
    verbose: int = 1,
) -> Any:
    """Run the frozen teacher once and return the data with its outputs in place of its inputs.

    `fit` then runs no teacher. **What augments the teacher's inputs is frozen**: each sample gets
    the outputs of the one version that was seen here.

    The outputs of a sample are found again by its `"index"`, or without one by the content of the
    student's inputs: data sets may be shuffled. If the student's inputs are augmented at random,
    or two samples have the same one, add `"index"`, the number of each sample.

    With a `path`, outputs go to files, which are read as memory maps. (Keras may load whole arrays
    that `fit` gets, on TensorFlow and of half precision: for outputs larger than memory use a data
    set, which reads batches.) They are kept apart by the teacher's configuration, the fingerprint
    of its weights, what is read of it, `dtype`, and for arrays by the teacher's inputs; so another
    teacher never gets the outputs of this one. Of a data set, the first batch is compared with what
    the teacher saw. A process that is killed goes on where it was; several may share a path.

    Args:
        distiller: `CrossModalDistiller` (or `FrequencyDistiller`), which says what is read of its
            teacher.
        data: `{"teacher": ..., "student": ...}` of arrays, or a `keras.utils.PyDataset`,
            `tf.data.Dataset` or torch `DataLoader` of batches `(x, y)` or `(x, y, sample_weight)`
            with such a dict as `x`. A data set runs once from beginning to end.
        path: Local folder. Defaults to `None`: keep the outputs in memory.
        dtype: `"float16"` or `"float32"`, how outputs are stored; half precision takes half of the
            room and is not exact. Defaults to `None`: as the teacher computes them.
        batch_size: Of the teacher over arrays. Defaults to `256`.
        verbose: 0 for no progress bar. Defaults to `1`.

    Returns:
        Data of the same kind: arrays for arrays (memory maps with a `path`), a `PyDataset` for a
        `PyDataset`, and so on.

    Raises:
        ValueError: If an argument is not as said, or two samples cannot be told apart. In training,
            if a sample comes that was not seen here.

    Example:
    >>> from keras_fdkd import FrequencyDistiller
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = FrequencyDistiller(model(6), model(4))
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> cached = cache_teacher(distiller, x, verbose=0)
    >>> sorted(cached), cached["teacher_outputs"]["features"].shape
    (['student', 'teacher_outputs'], (8, 16))
    """
    if not getattr(distiller, "_frozen_teachers", list)() or not hasattr(distiller, "teacher"):
        raise ValueError(
            "`distiller` must be a `CrossModalDistiller` whose teacher is frozen. "
            f"Received: distiller={distiller!r}."
        )
    check_choice("dtype", dtype, ("float16", "float32"), optional=True)
    check_integer("batch_size", batch_size)
    check_integer("verbose", verbose, 0)
    if path is not None and (not isinstance(path, (str, Path)) or not str(path)):
        raise ValueError(f"`path` must be a local folder or `None`. Received: path={path!r}.")
    total: int | None
    if is_pair(data) and TEACHER in data:
        try:
            check_samples(data)
        except ValueError as error:
            raise ValueError(f"`data`: {error}") from None
        batches, total, identity = _array_batches(data[TEACHER], batch_size)
    else:
        (batches, total), identity = data_set_batches(data), ""
    folder = None
    if path is not None:
        folder = Path(path) / _identity(distiller, dtype, identity)
    store = OutputStore(folder)
    with store.writing():
        if store.is_complete:
            store.open()
            _check_first(store, batches, folder)
        else:
            _fill(store, distiller, dtype, batches, total, verbose)
    if is_pair(data):
        return {**{k: v for k, v in data.items() if k != TEACHER}, TEACHER_OUTPUTS: store.arrays}
    return with_outputs(data, store)


def _identity(distiller: Any, dtype: str | None, data: str) -> str:
    """Return a name for what is stored: teacher, tap, dtype and data."""
    config = json.dumps(keras.saving.serialize_keras_object(distiller.teacher), default=str)
    config = re.sub(r'_\d+"', '"', config)  # Keras numbers the names of a process.
    what = [sorted(distiller._teacher_reads), distiller._teacher_tap.paths, dtype, data, config]
    digest = hashlib.blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()
    return f"{fingerprint(distiller.teacher)}-{digest}"


def _fill(
    store: OutputStore,
    distiller: Any,
    dtype: str | None,
    batches: Iterator[tuple[np.ndarray, Any]],
    total: int | None,
    verbose: int,
) -> None:
    seen = store.resume()
    bar = keras.utils.Progbar(total, verbose=verbose, unit_name="batch")
    number = 0
    for number, (keys, inputs) in enumerate(batches, 1):
        new = ~np.isin(keys, seen)
        if new.any():
            if not new.all():  # A killed pass may have had batches of another size.
                keys = keys[new]
                inputs = keras.tree.map_structure(lambda x, new=new: x[new], inputs)
            outputs = distiller._teacher_tap.predict_on_batch(inputs)
            rows = {name: outputs[name] for name in distiller._teacher_reads}
            if dtype is not None:
                rows = {name: _cast(name, values, dtype) for name, values in rows.items()}
            store.append(keys, row_keys(inputs), rows)
        bar.update(number, finalize=False)
    bar.update(number, finalize=True)
    store.open()
    if store.contradictory():
        raise ValueError(
            "Two samples have the same student's inputs, or the same `index`, and different inputs "
            'of the teacher: add `"index"`, a number for each sample of its own.'
        )
    store.complete()


def _cast(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if not np.isfinite(cast).all() and np.isfinite(values).all():
        raise ValueError(
            f"The teacher's output {name!r} leaves the range of `dtype`: store it in 'float32'. "
            f"Received: dtype={dtype!r}, values up to {np.abs(values).max():.3g}."
        )
    return cast


def _check_first(store: OutputStore, batches: Iterator[tuple[np.ndarray, Any]], path: Any) -> None:
    """Raise if the first batch has other inputs of the teacher than the ones that were seen."""
    for keys, inputs in batches:
        if not store.agrees(keys, row_keys(inputs)):
            raise ValueError(
                "`path` holds outputs for other inputs of the teacher: choose another `path` for "
                f"this data set, or delete what is there. Received: path='{path}'."
            )
        return


def _array_batches(inputs: Any, size: int) -> tuple[Iterator[tuple[np.ndarray, Any]], int, str]:
    arrays = keras.tree.map_structure(np.asarray, inputs)
    count = len(keras.tree.flatten(arrays)[0])
    starts = range(0, count, size)

    def cut(start: int) -> Any:
        return keras.tree.map_structure(lambda values: values[start : start + size], arrays)

    digest = hashlib.blake2b(digest_size=8)
    for start in starts:
        digest.update(row_keys(cut(start)).tobytes())
    keys = np.arange(count)
    batches = ((keys[start : start + size], cut(start)) for start in starts)
    return batches, len(starts), digest.hexdigest()
