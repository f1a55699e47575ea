"""OutputStore: rows of a teacher's outputs, found by key, in memory or in files."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.data.completion import (
    is_complete,
    note_passes,
    read_completion,
    write_completion,
)
from keras_fdkd.data.row_files import CHECKS, INPUTS, KEYS, RowFiles, broken, check_form
from keras_fdkd.fingerprints import row_keys

_PIECE = 2**26  # bytes to check at once


class OutputStore:
    """Named arrays of the same number of rows, each row under a 64-bit key.

    In a folder, every array is one flat file that is only appended to, the keys last, so that what
    a killed process leaves can be cut back to complete rows. Each row has a checksum, which is
    compared when the row is first read. A file that appears in one step records which rows are
    complete, and what they are. Complete stores are memory-mapped, by any number of processes, and
    may be added to.

    Args:
        folder: Where to keep the files; `None` for memory.
        names: Names of the arrays. Defaults to `None`: those of the first rows.

    Raises:
        ValueError: If files in the folder are damaged, edited or missing.

    Example:
    >>> store = OutputStore()
    >>> keys = np.array([7, 3], "uint64")
    >>> store.append(keys, keys, {"features": np.array([[1.0], [2.0]])})
    >>> store.open()
    >>> store.take(np.array([3, 7, 3]))["features"].ravel().tolist()
    [2.0, 1.0, 2.0]
    """

    def __init__(
        self, folder: "Path | None" = None, names: "Collection[str] | None" = None
    ) -> None:
        self.folder, self.names = folder, names
        self.arrays: dict[str, np.ndarray] = {}
        self.keys = self.inputs = np.empty(0, "uint64")
        self._files: RowFiles | None = None
        self._pieces: dict[str, list[np.ndarray]] = {}
        self.passes: list[list[int]] = []
        self._set({})
        if folder is not None:
            self._files = RowFiles(folder, names)

    @property
    def is_complete(self) -> bool:
        """Whether all rows are there."""
        return self.folder is not None and is_complete(self.folder)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from writing; they wait. The lock ends with its process."""
        if self._files is None:
            yield
            return
        with self._files.locked():
            yield

    def resume(self) -> None:
        """Cut off incomplete rows, and open the others.

        Rows that a complete store counts are trusted; those after them are checked.
        """
        if self._files is None or self._files.spec is None:
            return
        sure = 0
        if self.is_complete:
            said = read_completion(self._files)
            sure, self.passes = said.rows, said.passes
        self._set({})
        self._files.cut(self._files.whole_rows())
        self._open(self._files.whole_rows())
        if (bad := self._first_broken(sure)) is not None:
            self._set({})  # Windows cannot cut files that are mapped.
            self._files.cut(bad)
            self._open(bad)

    def append(self, keys: np.ndarray, inputs: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Add rows; the first ones decide which arrays there are, and their shapes and dtypes.

        Args:
            keys: Keys of the samples, shape `(rows,)`.
            inputs: Keys of the teacher's inputs, shape `(rows,)`.
            rows: By name, shape `(rows, ...)`.
        """
        told = {INPUTS: inputs.astype("uint64"), KEYS: keys.astype("uint64")}
        if self._files is None:
            for name, values in {**rows, **told}.items():
                pieces = self._pieces.setdefault(name, [])
                for first in pieces[:1]:
                    check_form(name, values, first.shape[1:], first.dtype.name)
                pieces.append(values)
            return
        checks = _checksums(told[KEYS], told[INPUTS], rows)
        self._files.append(rows, {CHECKS: checks, **told})

    def complete(self, batches: "list[int] | None" = None) -> None:
        """Record that all rows are there.

        Args:
            batches: The number of batches, and the size of the first one, of the data set that was
                read to the end. Defaults to `None`: unknown.
        """
        if self._files is None:
            return
        # The record must not reach the disk before the rows that it vouches for.
        self._files.sync()
        new = [batches] if batches and batches not in self.passes else []
        write_completion(self._files, [*self.passes, *new])

    def note_pass(self, batches: "list[int] | None") -> None:
        """Record that another data set was read to the end, and all of it was there."""
        if self._files is None or not self.is_complete or batches is None:
            return
        if batches not in self.passes:
            self.passes = [*self.passes, batches]
            note_passes(self._files, self.passes)

    def forget_passes(self) -> None:
        """Let data sets be read to the end again: something did not fit in training."""
        if self._files is not None and self.is_complete:
            note_passes(self._files, [])

    def open(self) -> None:
        """Open the store for reading; of a complete one, the rows that are recorded."""
        if self._files is None:
            joined = {name: np.concatenate(values) for name, values in self._pieces.items()}
            self._pieces = {}
            self._set(joined)
            return
        complete = self.is_complete  # Asked first, because this record is written last.
        self._files.refresh()
        if not complete:
            self._open(self._files.whole_rows())
        else:
            said = read_completion(self._files)
            self.passes = said.passes
            self._open(said.rows)

    def take(self, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of the keys.

        Raises:
            KeyError: If a key has no row.
            ValueError: If a row is not what was written.
        """
        rows = self._rows(keys)
        taken = {name: values[rows] for name, values in self.arrays.items()}
        if self._files is not None and not self._checked[rows].all():
            self._check(rows, taken)
            self._checked[rows] = True
        return taken

    def check_all(self) -> None:
        """Compare all rows with their checksums.

        Raises:
            ValueError: If a row is not what was written.
        """
        if (bad := self._first_broken(0)) is not None:
            self._check(np.array([bad]), {k: v[bad : bad + 1] for k, v in self.arrays.items()})

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """Return the keys that have no row."""
        return keys[~self._places(keys)[0]]

    def find_inputs(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys have a row, and the key of its inputs (0 where there is none)."""
        found, rows = self._places(keys)
        inputs = np.zeros(len(keys), "uint64")
        inputs[found] = self.inputs[rows[found]]
        return found, inputs

    def _rows(self, keys: np.ndarray) -> np.ndarray:
        found, rows = self._places(keys)
        if not found.all():
            raise KeyError("no row with this key")
        return rows

    def _places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = np.asarray(keys).astype("uint64")
        if not len(self._sorted):
            return np.zeros(len(keys), bool), np.zeros(len(keys), int)
        # A key above all others would be looked up behind the last one.
        places = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return self._sorted[places] == keys, self._order[places]

    def _open(self, rows: int) -> None:
        assert self._files is not None  # noqa: S101  # It has, here.  # nosec B101
        self._set(self._files.read(rows))

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self.keys = np.asarray(arrays.pop(KEYS, self.keys))
        self.inputs = np.asarray(arrays.pop(INPUTS, self.inputs))
        # In memory there are no checksums, and nothing reads these.
        self._checks = np.asarray(arrays.pop(CHECKS, self.keys))
        self._checked = np.zeros(len(self.keys), bool)
        self.arrays = arrays
        # Stable, so that of equal keys the one that was written first is found.
        self._order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order]

    def _check(self, rows: np.ndarray, taken: dict[str, np.ndarray]) -> None:
        found = _checksums(self.keys[rows], self.inputs[rows], taken)
        bad = rows[found != self._checks[rows]]
        if len(bad):
            assert self._files is not None  # noqa: S101  # It has, here.  # nosec B101
            named = [str(self._files.path(name)) for name in sorted(self.arrays)]
            raise broken(" or ".join(named), f"row {min(bad)} is not what was written")

    def _first_broken(self, start: int) -> int | None:
        each = max(1, sum(v[:1].nbytes for v in self.arrays.values()))
        size = max(1, _PIECE // each)
        for first in range(start, len(self.keys), size):
            part = slice(first, first + size)
            taken = {name: values[part] for name, values in self.arrays.items()}
            found = _checksums(self.keys[part], self.inputs[part], taken)
            bad = np.flatnonzero(found != self._checks[part])
            if len(bad):
                return first + int(bad[0])
        return None

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be sent to the workers of a data loader as the whole array.
        if self.folder is None:
            return self.__dict__
        return {"folder": self.folder, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A store in memory comes whole, one in files as its two arguments.
        if len(state) > 2:
            self.__dict__.update(state)
        else:
            self.__init__(**state)  # type: ignore[misc]
            self.open()


def _checksums(keys: np.ndarray, inputs: np.ndarray, rows: dict[str, np.ndarray]) -> np.ndarray:
    return row_keys([keys, inputs, *(rows[name] for name in sorted(rows))])
