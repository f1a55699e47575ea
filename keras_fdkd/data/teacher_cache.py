"""cache_teacher: run the teacher once, and train from its saved outputs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_fdkd.arguments import check_boolean, check_choice, check_integer
from keras_fdkd.data.filling import fill
from keras_fdkd.data.join import with_outputs, without_inputs
from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.data.pairs import (
    INDEX,
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    TEACHER_WEIGHT,
    check_samples,
    is_pair,
)
from keras_fdkd.data.reading import keys_of, read_arrays, read_data_set
from keras_fdkd.data.teacher_identity import teacher_identity


def cache_teacher(
    distiller: Any,
    data: Any,
    path: "str | Path | None" = None,
    dtype: str | None = None,
    batch_size: int = 256,
    verbose: int = 1,
    key: str | None = None,
    augmented: bool = False,
) -> Any:
    """Run the frozen teacher once, and return the data with its outputs in place of its inputs.

    Use it if the teacher is slow and its inputs are not augmented: `fit` then does not run the
    teacher. **Augmentation of the teacher's inputs is frozen**: each sample keeps the outputs of
    the one version that was seen here.

    The outputs of a sample are found again by its `"index"`, or without one by the content of the
    student's inputs, so data sets may be shuffled. If the student's inputs are augmented at random,
    or two samples have the same inputs, add `"index"`, the number of each sample.

    **Files.** With a `path`, outputs go to files, which are read as memory maps. (Keras may load
    whole arrays that `fit` gets, on TensorFlow and for half precision: for outputs larger than
    memory use a data set, which reads batches.) If the process is killed, the next call resumes
    where it was. Several processes may share a path, and a finished cache may lie on read-only
    storage.

    Separate folders below `path` are used for teachers with other weights, wiring or options, for
    other outputs of the teacher, another `dtype` or `key`, for data sets with and without
    `"index"`, and for arrays with other contents. Code is not compared: if the `call` of a layer or
    a function of your own changes, pass another `key`. Data sets share what they have in common:
    training and validation data may use one path (with `"index"`: if no number occurs in both), and
    if a data set grew, only the new samples run through the teacher. The teacher's inputs of each
    sample are compared with those its outputs were computed from: for the first batch when the
    cache is opened, for all batches when there is something to add, and in training. Samples may be
    missing or changed in the middle of a data set that has as many batches as before: training then
    raises an error, and the next `cache_teacher` reads all of it.

    Inputs that differ are read a second time. If they differ again, they are augmented at random,
    and the outputs that were computed first stay; if not, samples were changed, which is an error.
    Augmentation that is the same when a sample is read twice cannot be detected: pass
    `augmented=True`.

    Each row has a checksum. It is compared when the row is first read; for arrays, when the cache
    is opened.

    **Without the teacher's inputs.** A data set whose `x` has only `"index"` and `"student"` is
    joined with the outputs that data sets with `"index"` left at `path`. It loads nothing for the
    teacher.

    Args:
        distiller: `CrossModalDistiller` (or `FrequencyDistiller`), which determines what is read of
            its teacher.
        data: `{"teacher": ..., "student": ...}` of arrays, or a `keras.utils.PyDataset`,
            `tf.data.Dataset` or torch `DataLoader` of batches `(x, y)` or `(x, y, sample_weight)`
            with such a dict as `x`. A data set is read from beginning to end. `"index"` holds
            integers >= 0, shape `(samples,)` or `(samples, 1)`.
        path: Local folder. Defaults to `None`: keep the outputs in memory.
        dtype: `"float16"` or `"float32"`, how outputs are stored; half precision takes half the
            space and is not exact. Defaults to `None`: as the teacher computes them.
        batch_size: Batch size of the teacher's pass over arrays. Defaults to `256`.
        verbose: 0 for no progress bar. Defaults to `1`.
        key: Names the teacher's version. Required with a `path` if the teacher holds weights that
            Keras cannot see, such as those of a `keras.layers.TFSMLayer`. Defaults to `None`.
        augmented: Boolean, whether the teacher's inputs in a data set are drawn at random, so that
            they are not compared. Defaults to `False`: compared, as described above.

    Returns:
        The data with the teacher's outputs in place of its inputs; arrays for arrays (memory maps
        with a `path`), a `PyDataset` for a `PyDataset`, and so on.

    Raises:
        ValueError: If an argument is not as described, the teacher needs a `key`, the data are
            empty, two samples cannot be told apart, samples were changed after they were cached,
            files are damaged or edited, or samples without the teacher's inputs have no outputs at
            `path`. In training, if a sample occurs that was not seen here or has other inputs of
            the teacher.

    Example:
    >>> import keras
    >>> import numpy as np
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
    # A `MutualDistiller` has frozen teachers too, but no single `teacher`.
    if not getattr(distiller, "_frozen_teachers", list)() or not hasattr(distiller, "teacher"):
        raise ValueError(
            "`distiller` must be a `CrossModalDistiller` whose teacher is a frozen model. "
            f"Received: distiller={distiller!r}."
        )
    check_choice("dtype", dtype, ("float16", "float32"), optional=True)
    check_integer("batch_size", batch_size)
    check_integer("verbose", verbose, 0)
    check_boolean("augmented", augmented)
    if path is not None and (not isinstance(path, (str, Path)) or not str(path)):
        raise ValueError(f"`path` must be a local folder or `None`. Received: path={path!r}.")
    if key is not None and (not isinstance(key, str) or not key):
        raise ValueError(f"`key` must be a text or `None`. Received: key={key!r}.")
    if isinstance(data, Mapping) and set(data) - {TEACHER_WEIGHT} == {STUDENT, INDEX}:
        return _joined_arrays(distiller, data, path, dtype, key)
    if is_pair(data) and TEACHER in data:
        try:
            check_samples(data)
        except ValueError as error:
            raise ValueError(f"`data`: {error}") from None
        # In memory nothing is found again later, so nothing needs a hash.
        reading, hashes = read_arrays(data[TEACHER], batch_size, hashed=path is not None)
        # Rows of arrays have their number for a key, so the folder tells their contents apart.
        contents = hashlib.blake2b(hashes.data, digest_size=8).hexdigest()
        names = distiller._teacher.run_reads(data[TEACHER])
        store = _store(distiller, path, dtype, key, contents, names)
        if store.is_complete:
            store.open()
            store.check_all()  # `fit` reads these rows directly.
        fill(store, distiller, dtype, reading, verbose, augmented=False)
        rest = {name: value for name, value in data.items() if name != TEACHER}
        return {**rest, TEACHER_OUTPUTS: {**rest.get(TEACHER_OUTPUTS, {}), **store.arrays}}
    reading = read_data_set(data)
    # Numbers and hashes must not meet as keys in one folder.
    kind = INDEX if reading.first.numbered else STUDENT
    names = distiller._teacher.run_reads(reading.first.inputs)
    store = _store(distiller, path, dtype, key, kind, names)
    compare = fill(store, distiller, dtype, reading, verbose, augmented)
    return with_outputs(data, store, compare)


def _store(
    distiller: Any,
    path: "str | Path | None",
    dtype: str | None,
    key: str | None,
    kind: str,
    names: set[str],
) -> OutputStore:
    folder = None
    if path is not None:
        folder = Path(path) / teacher_identity(distiller, key, names, dtype, kind)
    return OutputStore(folder, sorted(names))


def _joined_arrays(
    distiller: Any, data: Any, path: "str | Path | None", dtype: str | None, key: str | None
) -> dict[str, Any]:
    """Return arrays without the teacher's inputs, joined with the outputs at `path`."""
    check_samples(data)
    store = _store(distiller, path, dtype, key, INDEX, distiller._teacher.run_reads())
    store.open()
    keys = keys_of(data)
    if len(missing := store.missing(keys)):
        raise without_inputs(store, missing)
    return {**data, TEACHER_OUTPUTS: store.take(keys)}
