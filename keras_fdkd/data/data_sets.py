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
        return (_keys_and_inputs(batch) for batch in data), _length(data)
    raise _unknown(data)


def with_outputs(data: Any, store: OutputStore) -> Any:
    """Return the data set with the outputs in `store` in place of the teacher's inputs."""
    return mapped(data, _Join(store), _GraphJoin(store))


def mapped(
    data: Any, function: Callable[[int, Any], Any], in_graph: Callable[[Any, Any], Any]
) -> Any:
    """Return a data set of the same kind, each batch as `function` makes it.

    Args:
        data: A `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader`.
        function: From the number of a batch and the batch to another batch.
        in_graph: The same for `tf.data`, in TensorFlow's operations.

    Raises:
        ValueError: If `data` is something else.
    """
    if isinstance(data, keras.utils.PyDataset):
        return _Mapped(data, function)
    if _is_a(data, "torch", "DataLoader"):
        loader = copy.copy(data)
        loader.collate_fn = _Collate(data.collate_fn, function, _length(data) or 2**62)
        loader._iterator = None  # Workers that live on would go on with the old one.
        return loader
    if _is_a(data, "tensorflow", "Dataset"):
        return data.enumerate().map(in_graph)
    raise _unknown(data)


class _Mapped(keras.utils.PyDataset):
    def __init__(self, data: keras.utils.PyDataset, function: Callable[[int, Any], Any]) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.function = data, function

    @property
    def num_batches(self) -> int:
        return self.data.num_batches

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> Any:
        return self.function(step, self.data[step])

    def on_epoch_begin(self) -> None:
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.data.on_epoch_end()


class _Collate:
    """Puts the samples of a torch `DataLoader` together, and what `function` makes of them."""

    def __init__(
        self, collate: Callable[[Any], Any], function: Callable[[int, Any], Any], count: int
    ) -> None:
        self.collate, self.function, self.count = collate, function, count
        self.number = 0

    def __call__(self, samples: Any) -> Any:
        number, self.number = self.number, (self.number + 1) % self.count
        return self.function(number, self.collate(samples))


class _Join:
    """Puts the outputs of the teacher in the place of its inputs."""

    def __init__(self, store: OutputStore) -> None:
        self.store = store

    def __call__(self, number: int, batch: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        outputs: Any = _take(self.store, _keys(to_numpy(_what_tells(x))))
        if _is_a(keras.tree.flatten(x)[0], "torch", "Tensor"):
            import torch

            outputs = {name: torch.as_tensor(values) for name, values in outputs.items()}
        return keras.utils.pack_x_y_sample_weight(_without_teacher(x, outputs), y, sample_weight)


class _GraphJoin:
    """The same inside a `tf.data` pipeline."""

    def __init__(self, store: OutputStore) -> None:
        self.store = store

    def __call__(self, number: Any, batch: Any) -> Any:
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        told = _what_tells(x)
        leaves = keras.tree.flatten(told)
        names = list(self.store.arrays)

        def take(*arrays: Any) -> list[np.ndarray]:
            known = keras.tree.pack_sequence_as(told, [array.numpy() for array in arrays])
            rows = _take(self.store, _keys(known))
            return [rows[name] for name in names]

        types = [tf.as_dtype(self.store.arrays[name].dtype) for name in names]
        outputs = dict(zip(names, tf.py_function(take, leaves, types), strict=True))
        for name, values in outputs.items():
            values.set_shape((leaves[0].shape[0], *self.store.arrays[name].shape[1:]))
        return keras.utils.pack_x_y_sample_weight(_without_teacher(x, outputs), y, sample_weight)


def _without_teacher(x: Any, outputs: Any) -> Any:
    return {**{key: x[key] for key in x if key != TEACHER}, TEACHER_OUTPUTS: outputs}


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
    return _keys(to_numpy(_what_tells(x))), to_numpy(x[TEACHER])


def _take(store: OutputStore, keys: np.ndarray) -> dict[str, np.ndarray]:
    try:
        return store.take(keys)
    except KeyError:
        raise ValueError(
            "A sample came that was not there when the teacher ran. If the student's inputs are "
            'augmented at random, add `"index"`, the number of each sample, to the data.'
        ) from None


def to_numpy(values: Any) -> Any:
    """Return nested arrays of any backend as NumPy arrays."""
    return keras.tree.map_structure(ops.convert_to_numpy, values)


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:  # An iterable data set knows no length.
        return None


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


def _unknown(data: Any) -> ValueError:
    return ValueError(
        "`data` must be a `keras.utils.PyDataset`, a `tf.data.Dataset`, a torch `DataLoader` or, "
        'for `cache_teacher`, a dict {"teacher": ..., "student": ...} of arrays. '
        f"Received: data={data!r}."
    )
