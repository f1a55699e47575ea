"""shard: the part of each batch that one of several processes trains on."""

from typing import Any

import keras

from keras_fdkd.data.data_sets import mapped
from keras_fdkd.processes import process


def shard(data: Any) -> Any:
    """Return a data set whose batches are this process's part of the batches of `data`.

    For training with several PyTorch processes (`torchrun`). Each of them must iterate over the
    same batches in the same order (`fit(shuffle=False)`, because Keras would shuffle them
    differently in each process), and gets its own rows of each batch. If every process gets the
    same number of rows, a step of all processes equals a step of one process with the whole batch;
    losses that divide by the number of labels or by the sum of weights do so within each part.
    Every process still reads whole batches: if reading is the slow part, give each process a data
    set of its own, such as a `DataLoader` with PyTorch's `DistributedSampler`. On TensorFlow and
    JAX, Keras spreads batches by itself.

    Args:
        data: A `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader`, whose batches have
            at least one row per process.

    Returns:
        A data set of the same kind; `data` itself on other backends, or if this process trains
        alone.

    Raises:
        ValueError: If `data` is of another kind. In training, if a batch has too few rows.

    Example:
    >>> import numpy as np
    >>> class Data(keras.utils.PyDataset):
    ...     def __len__(self):
    ...         return 1
    ...     def __getitem__(self, step):
    ...         return {"teacher": np.ones((4, 2)), "student": np.ones((4, 3))}, np.zeros(4)
    >>> inputs, labels = shard(Data())[0]  # the first of one process
    >>> labels.shape
    (4,)
    """
    number, count = process()
    part = _Part(number, count)
    # On every backend, so that each of them refuses data of another kind.
    parts = mapped(data, part, part.in_graph)
    return parts if keras.config.backend() == "torch" and count > 1 else data


class _Part:
    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count

    def __call__(self, step: int, batch: Any) -> Any:
        sizes = {len(leaf) for leaf in keras.tree.flatten(batch)}
        if min(sizes) < self.count:
            raise ValueError(
                "Each process needs a row of each batch: make batches larger, or drop a small last "
                f"one. Received: {min(sizes)} rows for {self.count} processes."
            )
        return keras.tree.map_structure(lambda leaf: self._cut(leaf, len(leaf)), batch)

    def in_graph(self, step: Any, batch: Any) -> Any:
        import tensorflow as tf

        size = tf.shape(keras.tree.flatten(batch)[0])[0]
        enough = tf.debugging.assert_greater_equal(
            size, self.count, "Each process needs a row of each batch: make batches larger."
        )
        with tf.control_dependencies([enough]):
            return keras.tree.map_structure(lambda leaf: self._cut(leaf, size), batch)

    def _cut(self, leaf: Any, size: Any) -> Any:
        # Parts differ by one row at most, and none is lost.
        return leaf[self.number * size // self.count : (self.number + 1) * size // self.count]
