"""Data sets of every kind, with each batch mapped to another one."""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops


def mapped(
    data: Any, function: Callable[[int, Any], Any], in_graph: Callable[[Any, Any], Any]
) -> Any:
    """Return a data set of the same kind, with each batch as `function` returns it.

    Args:
        data: A `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader`.
        function: From the number of a batch and the batch to another batch.
        in_graph: The same for `tf.data`, in TensorFlow's operations.

    Raises:
        ValueError: If `data` is of another kind.
    """
    if isinstance(data, keras.utils.PyDataset):
        return _Mapped(data, function)
    if is_a(data, "torch", "DataLoader"):
        loader = copy.copy(data)
        # A loader that was mapped before has such a class already.
        if not hasattr(data, "_counts_batches"):
            kind: Any = type(data)
            # `iter` finds `__iter__` in the class only, so the loader needs a class of its own.
            loader.__class__ = _counting(kind)
        loader.collate_fn = _Collate(data.collate_fn, function)
        loader._iterator = None  # Persistent workers would continue with the old one.
        return loader
    if is_a(data, "tensorflow", "Dataset"):
        return data.enumerate().map(in_graph)
    raise unknown(data)


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

    # Keras calls these for the outer data set only, and the inner one may shuffle in them.
    def on_epoch_begin(self) -> None:
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.data.on_epoch_end()


class _Collate:
    """Collates the samples of a torch `DataLoader`, and applies `function` to the batch."""

    def __init__(self, collate: Callable[[Any], Any], function: Callable[[int, Any], Any]) -> None:
        self.collate, self.function = collate, function
        self.number = 0

    def __call__(self, samples: Any) -> Any:
        number, self.number = self.number, self.number + 1
        return self.function(number, self.collate(samples))

    def from_zero(self) -> "_Collate":
        # A loader that was mapped twice counts at both levels.
        inner = self.collate.from_zero() if isinstance(self.collate, _Collate) else self.collate
        return _Collate(inner, self.function)


@functools.lru_cache(8)
def _counting(loader: Any) -> Any:
    """Return a class of `DataLoader` whose every iterator counts its batches from 0.

    Keras reads some batches ahead in a separate iterator.
    """

    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        self.collate_fn = self.collate_fn.from_zero()
        return loader.__iter__(self)

    methods = {"__iter__": __iter__, "__module__": loader.__module__, "_counts_batches": True}
    return type(loader.__name__, (loader,), methods)


def to_numpy(values: Any) -> Any:
    """Return nested arrays of any backend as NumPy arrays."""
    return keras.tree.map_structure(ops.convert_to_numpy, values)


def is_a(data: Any, package: str, name: str) -> bool:
    """Whether a class of `data` has this name in this package, without importing the package."""
    return any(
        cls.__module__.split(".")[0] == package and name in cls.__name__
        for cls in type(data).__mro__
    )


def unknown(data: Any) -> ValueError:
    """Return the error for data of an unknown kind."""
    return ValueError(
        "`data` must be a `keras.utils.PyDataset`, a `tf.data.Dataset`, a torch `DataLoader` or, "
        'for `cache_teacher`, a dict {"teacher": ..., "student": ...} of arrays. '
        f"Received: data={data!r}."
    )
