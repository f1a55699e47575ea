"""Data sets of pairs, read once for the teacher and then given its outputs."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.data.pairs import INDEX, STUDENT, TEACHER, TEACHER_OUTPUTS, check_pair
from keras_fdkd.fingerprints import row_keys


def data_set_batches(data: Any) -> tuple[Iterator[tuple[np.ndarray, Any]], int | None]:
    """Return an iterator over the keys and the teacher's inputs of all batches, and their number.

    Args:
        data: A finite `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader`.
    """
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            _refuse_infinite(data)
        return (_keys_and_inputs(data[i]) for i in range(data.num_batches)), data.num_batches
    if _is_a(data, "tensorflow", "Dataset"):
        count = int(data.cardinality())
        if count == -1:  # What TensorFlow calls infinite.
            _refuse_infinite(data)
        return (_keys_and_inputs(batch) for batch in data), count if count > 0 else None
    if _is_a(data, "torch", "DataLoader"):
        return (_keys_and_inputs(batch) for batch in data), len(data)
    raise ValueError(
        '`data` must be a dict {"teacher": ..., "student": ...} of arrays, a '
        "`keras.utils.PyDataset`, a `tf.data.Dataset` or a torch `DataLoader`. "
        f"Received: data of type {type(data).__name__}."
    )


def with_outputs(data: Any, store: OutputStore) -> Any:
    """Return the data set with the outputs in `store` in place of the teacher's inputs."""
    if isinstance(data, keras.utils.PyDataset):
        return _Joined(data, store)
    if _is_a(data, "torch", "DataLoader"):
        joined = copy.copy(data)
        joined.collate_fn = _Collate(data.collate_fn, store)
        return joined
    return data.map(_Lookup(store))


class _Joined(keras.utils.PyDataset):
    def __init__(self, data: keras.utils.PyDataset, store: OutputStore) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.store = data, store

    @property
    def num_batches(self) -> int:
        return self.data.num_batches

    def __getitem__(self, step: int) -> Any:
        return _join(self.data[step], self.store)

    def on_epoch_begin(self) -> None:
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.data.on_epoch_end()


class _Collate:
    """Puts the samples of a torch `DataLoader` together and looks up their outputs."""

    def __init__(self, collate: Callable[[Any], Any], store: OutputStore) -> None:
        self.collate, self.store = collate, store

    def __call__(self, samples: Any) -> Any:
        import torch

        x, *rest = _join(self.collate(samples), self.store)
        x[TEACHER_OUTPUTS] = keras.tree.map_structure(torch.as_tensor, x[TEACHER_OUTPUTS])
        return (x, *rest)


class _Lookup:
    """Looks outputs up inside a `tf.data` pipeline."""

    def __init__(self, store: OutputStore) -> None:
        self.store = store

    def __call__(self, *batch: Any) -> Any:
        import tensorflow as tf

        x, *rest = batch if len(batch) > 1 else (batch[0],)
        known = {key: x[key] for key in x if key != TEACHER}
        leaves = keras.tree.flatten(_what_tells(known))
        names = list(self.store.arrays)

        def take(*arrays: Any) -> list[np.ndarray]:
            told = keras.tree.pack_sequence_as(_what_tells(known), [a.numpy() for a in arrays])
            rows = _take(self.store, _keys(told))
            return [rows[name] for name in names]

        types = [tf.as_dtype(self.store.arrays[name].dtype) for name in names]
        outputs = tf.py_function(take, leaves, types)
        for name, value in zip(names, outputs, strict=True):
            value.set_shape((leaves[0].shape[0], *self.store.arrays[name].shape[1:]))
        known[TEACHER_OUTPUTS] = dict(zip(names, outputs, strict=True))
        return (known, *rest)


def _what_tells(x: Any) -> Any:
    """Return the part of a batch that tells its samples from others."""
    return {INDEX: x[INDEX]} if INDEX in x else {STUDENT: x[STUDENT]}


def _keys(told: Any) -> np.ndarray:
    if INDEX in told:
        return np.asarray(told[INDEX]).reshape(-1).astype("uint64")
    return row_keys(told[STUDENT])


def _keys_and_inputs(batch: Any) -> tuple[np.ndarray, Any]:
    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    check_pair(x, ())
    if TEACHER not in x:
        raise ValueError(
            'The batches already hold "teacher_outputs": there is nothing to run the teacher on.'
        )
    return _keys(_numpy(_what_tells(x))), _numpy(x[TEACHER])


def _join(batch: Any, store: OutputStore) -> Any:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    outputs = _take(store, _keys(_numpy(_what_tells(x))))
    x = {**{key: value for key, value in x.items() if key != TEACHER}, TEACHER_OUTPUTS: outputs}
    return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)


def _take(store: OutputStore, keys: np.ndarray) -> dict[str, np.ndarray]:
    try:
        return store.take(keys)
    except KeyError:
        raise ValueError(
            "A sample came that was not there when the teacher ran. If the student's inputs are "
            'augmented at random, add `"index"`, the number of each sample, to the data.'
        ) from None


def _numpy(values: Any) -> Any:
    return keras.tree.map_structure(ops.convert_to_numpy, values)


def _is_a(data: Any, package: str, name: str) -> bool:
    """Whether a class of `data` has this name in this package, without importing the package."""
    return any(
        cls.__module__.split(".")[0] == package and name in cls.__name__
        for cls in type(data).__mro__
    )


def _refuse_infinite(data: Any) -> None:
    raise ValueError(
        "The teacher runs over the data set once, so it must have an end: leave `repeat()` to what "
        f"comes back. Received: {data!r}."
    )
