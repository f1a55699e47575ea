"""Data sets whose batches get the outputs of a teacher that ran before."""

from typing import Any

import keras
import numpy as np

from keras_fdkd.data.data_sets import is_a, mapped, to_numpy
from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.data.pairs import INDEX, STUDENT, TEACHER, TEACHER_OUTPUTS
from keras_fdkd.data.reading import keys_of
from keras_fdkd.fingerprints import row_keys


def with_outputs(data: Any, store: OutputStore, compare: bool) -> Any:
    """Return the data set with the outputs in `store` in place of the teacher's inputs.

    Args:
        data: A `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader`.
        store: Opened.
        compare: Whether the teacher's inputs must be those that the outputs were computed from.
    """
    return mapped(data, _Join(store, compare), _GraphJoin(store, compare))


class _Join:
    """Puts the outputs of the teacher in place of its inputs."""

    # Not a closure, because workers of a data loader get it pickled.
    def __init__(self, store: OutputStore, compare: bool) -> None:
        self.store, self.compare = store, compare

    def __call__(self, number: int, batch: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        outputs: Any = take(self.store, to_numpy(_what_tells(x, self.compare)))
        if is_a(keras.tree.flatten(x)[0], "torch", "Tensor"):
            import torch

            outputs = {name: torch.as_tensor(values) for name, values in outputs.items()}
        return keras.utils.pack_x_y_sample_weight(_without_teacher(x, outputs), y, sample_weight)


class _GraphJoin:
    """The same inside a `tf.data` pipeline."""

    def __init__(self, store: OutputStore, compare: bool) -> None:
        self.store, self.compare = store, compare

    def __call__(self, number: Any, batch: Any) -> Any:
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        told = _what_tells(x, self.compare)
        leaves = keras.tree.flatten(told)
        names = list(self.store.arrays)

        def rows(*arrays: Any) -> list[np.ndarray]:
            known = keras.tree.pack_sequence_as(told, [array.numpy() for array in arrays])
            taken = take(self.store, known)
            return [taken[name] for name in names]

        types = [tf.as_dtype(self.store.arrays[name].dtype) for name in names]
        outputs = dict(zip(names, tf.py_function(rows, leaves, types), strict=True))
        # `py_function` loses shapes, which Keras needs:
        # https://github.com/tensorflow/tensorflow/issues/31373.
        for name, values in outputs.items():
            values.set_shape((leaves[0].shape[0], *self.store.arrays[name].shape[1:]))
        return keras.utils.pack_x_y_sample_weight(_without_teacher(x, outputs), y, sample_weight)


def take(store: OutputStore, x: Any) -> dict[str, np.ndarray]:
    """Return the teacher's outputs for the samples of a batch; compare its inputs if given.

    Args:
        store: Opened.
        x: What identifies the samples, as NumPy arrays, and possibly the teacher's inputs.

    Raises:
        ValueError: If a sample has no row, or one that was computed from other inputs.
    """
    keys = keys_of(x)
    if len(missing := store.missing(keys)):
        # So that the next `cache_teacher` reads all data, not only their first batch.
        store.forget_passes()
        named = f" Received: index {missing[:5].tolist()}." if INDEX in x else ""
        raise ValueError(
            "A sample came that was not there when the teacher ran: call `cache_teacher` again "
            "with data that hold it. If the student's inputs are augmented at random, add "
            f'`"index"`, the number of each sample, to the data.{named}'
        )
    if TEACHER in x and (store.find_inputs(keys)[1] != row_keys(x[TEACHER])).any():
        store.forget_passes()
        raise changed(store)
    return store.take(keys)


def changed(store: OutputStore) -> ValueError:
    """Return the error for outputs that were computed from other inputs of the teacher."""
    return ValueError(
        "`path` holds outputs for other inputs of the teacher. If samples were changed, choose "
        'another `path`, delete what is there, or give them new numbers as `"index"`. If the '
        "teacher's inputs are augmented at random, pass `augmented=True`: each sample keeps the "
        f"outputs of the version that was seen first. Received: path='{store.folder}'."
    )


def without_inputs(store: OutputStore, missing: np.ndarray) -> ValueError:
    """Return the error for samples that have neither outputs nor inputs of the teacher."""
    return ValueError(
        "The data hold no inputs of the teacher, and there are no outputs for some of their "
        'samples. Run `cache_teacher` first over a data set that holds "teacher" and "index", with '
        "the same teacher, `path`, `dtype` and `key`. "
        f"Received: path={str(store.folder) if store.folder else None!r}, no outputs for "
        f"{len(missing)} of the samples, the first: index {missing[:5].tolist()}."
    )


def _what_tells(x: Any, compare: bool) -> Any:
    """Return the part of a batch that identifies its samples."""
    # No more than is needed: in a graph all of it is handed over to Python.
    told = {INDEX: x[INDEX]} if INDEX in x else {STUDENT: x[STUDENT]}
    return {**told, TEACHER: x[TEACHER]} if compare and TEACHER in x else told


def _without_teacher(x: Any, outputs: Any) -> Any:
    # With several teachers, the data may bring the outputs of some.
    outputs = {**x.get(TEACHER_OUTPUTS, {}), **outputs}
    return {**{key: x[key] for key in x if key != TEACHER}, TEACHER_OUTPUTS: outputs}
