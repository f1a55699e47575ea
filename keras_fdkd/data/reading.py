"""What the cache of a teacher reads: the keys of samples, and the teacher's inputs for each."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_fdkd.data.data_sets import is_a, to_numpy, unknown
from keras_fdkd.data.pairs import (
    INDEX,
    STUDENT,
    TEACHER,
    TEACHER_OUTPUTS,
    TEACHER_WEIGHT,
    check_pair,
    is_pair,
)
from keras_fdkd.fingerprints import row_keys


class Batch(NamedTuple):
    """The keys of the samples, the teacher's inputs or `None`, and whether keys are `"index"`."""

    keys: np.ndarray
    inputs: Any
    numbered: bool


class Reading:
    """The batches of a data set, or of arrays, to go through once.

    Args:
        count: Number of batches, `None` if it is unknown.
        batches: Returns an iterator from the beginning.
        again: The same, from the batch with a given number on, to find its samples again.
        hashes: Function from a batch to the keys of its inputs. Defaults to `None`: `row_keys`.

    Raises:
        ValueError: If there is no sample.
    """

    def __init__(
        self,
        count: int | None,
        batches: Callable[[], Iterator[Batch]],
        again: Callable[[int], Iterator[Batch]],
        hashes: "Callable[[np.ndarray, Any], np.ndarray] | None" = None,
    ) -> None:
        self.count, self._again = count, again
        self.hashes = hashes or (lambda keys, inputs: row_keys(inputs))
        self._batches = batches()
        # It decides where the store is and which outputs it has, so it is read beforehand.
        first = next(self._batches, None)
        if first is None or not len(first.keys):
            raise ValueError("`data` must hold samples. Received: none.")
        self.first = first

    def __iter__(self) -> Iterator[Batch]:
        yield self.first
        yield from self._batches

    def changes(self, number: int, keys: np.ndarray, seen: np.ndarray) -> bool:
        """Whether the teacher's inputs of some samples differ when they are read again.

        Args:
            number: Number of the batch they are from.
            keys: Keys of the samples, each once.
            seen: The keys of their inputs, as they were read before.
        """
        left = dict(zip(keys.tolist(), seen.tolist(), strict=True))
        for batch in self._again(number):
            rows = self.hashes(batch.keys, batch.inputs)
            for key, row in zip(batch.keys.tolist(), rows.tolist(), strict=True):
                # Samples that are not asked for equal themselves.
                if left.pop(key, row) != row:
                    return True
            if not left:
                break
        return False


def read_data_set(data: Any) -> Reading:
    """Read a finite `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader`.

    Raises:
        ValueError: If `data` is of another kind, or infinite.
    """
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            _refuse_infinite(data)
        count = data.num_batches
        return Reading(
            count,
            lambda: (_batch(data[i]) for i in range(count)),
            lambda number: iter([_batch(data[number])]),
        )
    if is_a(data, "tensorflow", "Dataset"):
        count = int(data.cardinality())
        if count == -1:  # TensorFlow's number for an infinite data set.
            _refuse_infinite(data)
        known = count if count >= 0 else None
        return _from_iterable(known, lambda: map(_batch, data))
    if is_a(data, "torch", "DataLoader"):

        def batches() -> Iterator[Batch]:
            loader = copy.copy(data)
            loader._iterator = None  # Persistent workers serve one iterator at a time.
            return map(_batch, loader)

        return _from_iterable(length(data), batches)
    raise unknown(data)


def read_arrays(inputs: Any, size: int, hashed: bool) -> tuple[Reading, np.ndarray]:
    """Read arrays of the teacher's inputs, whose keys are their numbers.

    Args:
        inputs: Nested arrays.
        size: Size of a batch.
        hashed: Whether to hash the inputs.

    Returns:
        The reading, and the keys of the inputs of each row, zero if they are not hashed.
    """
    arrays = keras.tree.map_structure(np.asarray, inputs)
    rows = len(keras.tree.flatten(arrays)[0])
    starts = range(0, rows, size)

    def cut(start: int) -> Any:
        return keras.tree.map_structure(lambda values: values[start : start + size], arrays)

    keys = np.arange(rows, dtype="uint64")
    hashes = np.zeros(rows, "uint64")
    if hashed and rows:
        hashes = np.concatenate([row_keys(cut(start)) for start in starts])

    def batches() -> Iterator[Batch]:
        return (Batch(keys[start : start + size], cut(start), False) for start in starts)

    reading = Reading(len(starts), batches, lambda number: batches(), lambda k, _: hashes[k])
    return reading, hashes


def keys_of(x: Any) -> np.ndarray:
    """Return the keys of the samples of a batch: their `"index"`, or hashed student inputs."""
    if INDEX not in x:
        return row_keys(to_numpy(x[STUDENT]))
    index = to_numpy(x[INDEX])
    fine = index.dtype.kind in "iu" and index.shape in ((len(index),), (len(index), 1))
    if not fine or (index < 0).any():
        came = f"{index.dtype} of shape {index.shape}"
        negative = "" if not fine else f", the least {index.min()}"
        raise ValueError(
            '"index" must number the samples: whole numbers >= 0, one for each. '
            f"Received: {came}{negative}."
        )
    return index.reshape(-1).astype("uint64")


def length(loader: Any) -> int | None:
    """Return the number of batches of a torch `DataLoader`, if it knows it."""
    try:
        return len(loader)
    except TypeError:  # An iterable data set has no length.
        return None


def _from_iterable(count: int | None, batches: Callable[[], Iterator[Batch]]) -> Reading:
    return Reading(count, batches, lambda number: batches())


def _batch(batch: Any) -> Batch:
    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if isinstance(x, Mapping) and TEACHER_OUTPUTS in x and TEACHER not in x:
        raise ValueError(
            'The batches already hold "teacher_outputs": there is nothing to run the teacher on.'
        )
    if isinstance(x, Mapping) and set(x) - {TEACHER_WEIGHT} == {STUDENT, INDEX}:
        return Batch(keys_of(x), None, True)
    # With several teachers, the data may bring the outputs of some.
    check_pair({key: x[key] for key in x if key != TEACHER_OUTPUTS} if is_pair(x) else x, ())
    return Batch(keys_of(x), to_numpy(x[TEACHER]), INDEX in x)


def _refuse_infinite(data: Any) -> None:
    raise ValueError(
        "The teacher runs over the data set once, so it must have an end: leave `repeat()` to what "
        f"comes back. Received: {data!r}."
    )
