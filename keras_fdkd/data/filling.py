"""fill: run the teacher on what a store lacks, and compare what it holds."""

import contextlib
import hashlib
from typing import Any

import keras
import numpy as np

from keras_fdkd.data.join import changed, without_inputs
from keras_fdkd.data.output_store import OutputStore
from keras_fdkd.data.reading import Batch, Reading
from keras_fdkd.data.row_index import RowIndex


def fill(
    store: OutputStore,
    distiller: Any,
    dtype: str | None,
    reading: Reading,
    verbose: int,
    augmented: bool,
) -> bool:
    """Give the store a row for each sample, and open it.

    Args:
        store: For what is read of the distiller's teacher.
        distiller: With a frozen teacher.
        dtype: Dtype of the stored outputs, `None` for the teacher's.
        reading: The data.
        verbose: 0 for no progress bar.
        augmented: Whether the teacher's inputs are random, so that they cannot be compared.

    Returns:
        Whether the inputs of samples in training are to be compared with those of the store.

    Raises:
        ValueError: If the data are empty, two samples have one key, a sample has other inputs than
            when the store was written, or a sample has neither a row nor inputs.
    """
    with _Filler(store, distiller, dtype, reading, augmented) as filler:
        return filler.run(verbose)


class _Filler:
    def __init__(
        self,
        store: OutputStore,
        distiller: Any,
        dtype: str | None,
        reading: Reading,
        augmented: bool,
    ) -> None:
        self.store, self.distiller, self.dtype, self.reading = store, distiller, dtype, reading
        self.random = augmented
        self.compared = False  # whether inputs matched those of a row that existed before
        nothing = np.empty(0, "uint64")
        self.seen = RowIndex(nothing, nothing)  # in this pass: from key to inputs
        self.lock = contextlib.ExitStack()
        self.writes = False

    def __enter__(self) -> "_Filler":
        return self

    def __exit__(self, *error: Any) -> None:
        self.lock.close()

    def run(self, verbose: int) -> bool:
        if not (self.store.is_complete or self.reading.first.inputs is None):
            self._begin()
        if not self.writes or self.store.is_complete:  # Another process has done it meanwhile.
            self.lock.close()
            self.writes = False
            self.store.open()
        first = self.reading.first.keys
        batches = None
        if self.reading.count is not None:
            # Other data may have as many batches of this size: the first samples tell them apart.
            digest = int.from_bytes(hashlib.blake2b(first.tobytes(), digest_size=6).digest())
            batches = [self.reading.count, len(first), digest]
        bar = keras.utils.Progbar(self.reading.count, verbose=verbose, unit_name="batch")
        number = 0
        for number, batch in enumerate(self.reading, 1):
            self._batch(number - 1, batch)
            if number == 1 and not self.writes and batches in self.store.passes:
                bar.update(self.reading.count, finalize=True)
                return self.compared and not self.random  # It was read to the end before.
            bar.update(number, finalize=False)
        bar.update(number, finalize=True)
        if self.writes:
            self.store.complete(batches)
            self.store.open()
        else:
            self.store.note_pass(batches)
        return self.compared and not self.random

    def _begin(self) -> None:
        """Wait until no other process writes, and open the existing rows."""
        try:
            self.lock.enter_context(self.store.writing())
        except OSError as error:
            raise ValueError(
                "`path` cannot be written to, and samples have no outputs there. "
                f"Received: path='{self.store.folder}', {error}."
            ) from error
        self.writes = True
        self.store.resume()

    def _batch(self, number: int, batch: Batch) -> None:
        """Compare the samples of a batch that have rows, and add those that have none."""
        if batch.numbered != self.reading.first.numbered:
            raise ValueError('Either all batches must hold "index", or none of them.')
        if batch.inputs is None:
            if len(missing := self.store.missing(batch.keys)):
                raise without_inputs(self.store, missing)
            return
        hashes = self.reading.hashes(batch.keys, batch.inputs)
        rows = self._once(batch.keys, hashes)
        new = rows[self._new(number, batch.keys[rows], hashes[rows])]
        if len(new) and not self.writes:
            self._begin()
            # Another process may have added them.
            new = rows[self._new(number, batch.keys[rows], hashes[rows])]
        if len(new):
            inputs = batch.inputs
            if len(new) < len(batch.keys):
                inputs = keras.tree.map_structure(lambda x: x[new], inputs)
            outputs = self.distiller._teacher_tap.predict_on_batch(inputs)
            reads = self.distiller._teacher.run_reads(inputs)
            named = {name: np.asarray(outputs[name]) for name in reads}
            if self.dtype is not None:
                named = {name: _cast(name, x, self.dtype) for name, x in named.items()}
            self.store.append(batch.keys[new], hashes[new], named)

    def _once(self, keys: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """Return which rows of a batch occur for the first time in this pass."""
        _, first, same = np.unique(keys, return_index=True, return_inverse=True)
        there, before = self.seen.find(keys[first])
        if (hashes[first][same] != hashes).any() or (before != hashes[first])[there].any():
            raise ValueError(
                "Two samples have the same student's inputs, or the same `index`, and different "
                'inputs of the teacher: add `"index"`, a number for each sample of its own.'
            )
        first = np.sort(first[~there])
        self.seen.add(keys[first], hashes[first])
        return first

    def _new(self, number: int, keys: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """Return which samples have no row, after comparing the inputs of the others."""
        there, before = self.store.find_inputs(keys)
        differs = there & (before != hashes)
        if differs.any() and not self.random:
            if not self.reading.changes(number, keys[differs], hashes[differs]):
                raise changed(self.store)
            self.random = True
        self.compared |= bool(there.any())
        return ~there


def _cast(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    if not keras.backend.is_float_dtype(values.dtype.name):  # such as a mask
        return values
    # The error below says more than NumPy's warning of an overflow.
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if (np.isinf(cast) & np.isfinite(values)).any():
        raise ValueError(
            f"The teacher's output {name!r} leaves the range of `dtype`: store it in 'float32'. "
            f"Received: dtype={dtype!r}, values up to {np.nanmax(np.abs(values)):.3g}."
        )
    return cast
