"""OutputStore: rows of a teacher's outputs, found by key, in memory or in files."""

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.files import written_whole

_KEYS, _SPEC, _COMPLETE = "keys", "spec.json", "complete.json"
_INPUTS = "inputs"  # what the teacher saw: tells samples of one key apart


class OutputStore:
    """Named arrays of the same number of rows, each row under a 64-bit key.

    In a folder every array is one flat file that is only appended to, the keys last, so that what a
    killed process left is cut back to whole rows. A store counts as complete by a file of its own,
    which appears in one step; complete stores are memory-mapped, by as many processes as like.

    Args:
        folder: Where to keep the files; `None` for memory.

    Example:
    >>> store = OutputStore()
    >>> keys = np.array([7, 3], "uint64")
    >>> store.append(keys, keys, {"features": np.array([[1.0], [2.0]])})
    >>> store.open()
    >>> store.take(np.array([3, 7, 3]))["features"].ravel().tolist()
    [2.0, 1.0, 2.0]
    """

    def __init__(self, folder: "Path | None" = None) -> None:
        self.folder = folder
        self._buffers: dict[str, Any] = {}
        self._spec: dict[str, tuple[tuple[int, ...], str]] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.keys = np.empty(0, "uint64")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._read_spec()

    @property
    def is_complete(self) -> bool:
        """Whether all rows are there."""
        return self.folder is not None and (self.folder / _COMPLETE).exists()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from writing; they wait. The lock dies with its process."""
        if self.folder is None:
            yield
            return
        with (self.folder / "lock").open("w") as lock:
            with contextlib.suppress(ImportError):  # Windows has no `fcntl`.
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            self._read_spec()  # Another process may have written it while this one waited.
            try:
                yield
            finally:
                for file in self._buffers.values():
                    file.close()
                self._buffers = {}

    def resume(self) -> np.ndarray:
        """Cut off what is not whole, and return the keys of the rows that are there."""
        if self.folder is None or not self._spec:
            return self.keys
        files = {name: self._path(name) for name in self._all()}
        sizes = {name: self._row_bytes(name) for name in self._all()}
        rows = min(
            path.stat().st_size // sizes[name] if path.exists() else 0
            for name, path in files.items()
        )
        for name, path in files.items():
            if path.exists():
                os.truncate(path, rows * sizes[name])
        return np.fromfile(files[_KEYS], "uint64") if rows else self.keys

    def append(self, keys: np.ndarray, inputs: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Add rows; the first ones say which arrays there are, of which shapes and dtypes.

        Args:
            keys: Of the samples, shape `(rows,)`.
            inputs: Keys of what the teacher saw, shape `(rows,)`.
            rows: By name, shape `(rows, ...)`.
        """
        if not self._spec:
            self._spec = {name: (x.shape[1:], x.dtype.name) for name, x in rows.items()}
            if self.folder is not None:
                with written_whole(self.folder / _SPEC) as part:
                    part.write_text(json.dumps(self._spec))
        told = {_INPUTS: inputs.astype("uint64"), _KEYS: keys.astype("uint64")}
        for name, values in {**rows, **told}.items():
            shape, dtype = self._all()[name]
            if (values.shape[1:], values.dtype.name) != (tuple(shape), dtype):
                raise ValueError(
                    f"The teacher's output {name!r} changed from {dtype} of shape {tuple(shape)} a "
                    f"sample to {values.dtype} of {values.shape[1:]}: features must have one shape."
                )
            file = self._file(name)
            file.write(np.ascontiguousarray(values).tobytes())
            file.flush()

    def complete(self) -> None:
        """Say that all rows are there."""
        for file in self._buffers.values():
            if self.folder is not None:
                os.fsync(file.fileno())
        if self.folder is not None:
            with written_whole(self.folder / _COMPLETE) as part:
                part.write_text("{}")

    def open(self) -> None:
        """Open the store for reading."""
        arrays = {name: self._read(name) for name in self._all()}
        self.keys = np.asarray(arrays.pop(_KEYS))
        self.inputs = np.asarray(arrays.pop(_INPUTS))
        self.arrays = arrays
        self._order = np.argsort(self.keys, kind="stable")
        self._sorted = self.keys[self._order]

    def take(self, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of the keys.

        Raises:
            KeyError: If one is not there.
        """
        rows = self._rows(keys)
        return {name: values[rows] for name, values in self.arrays.items()}

    def agrees(self, keys: np.ndarray, inputs: np.ndarray) -> bool:
        """Whether the rows of these keys, as far as they are there, are of these inputs."""
        known = np.isin(keys, self.keys)
        return bool((self.inputs[self._rows(keys[known])] == inputs[known]).all())

    def _rows(self, keys: np.ndarray) -> np.ndarray:
        keys = np.asarray(keys).astype("uint64")
        places = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        if not len(self._sorted) or (self._sorted[places] != keys).any():
            raise KeyError("no row with this key")
        return self._order[places]

    def contradictory(self) -> bool:
        """Whether rows of one key are of different inputs."""
        twins = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        return bool((self.inputs[self._order[twins]] != self.inputs[self._order[twins + 1]]).any())

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would travel to the workers of a data loader as the whole array.
        return {"folder": self.folder} if self.folder is not None else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        if len(state) > 1:
            self.__dict__.update(state)
        else:
            self.__init__(state["folder"])  # type: ignore[misc]
            self.open()

    def _read_spec(self) -> None:
        if self.folder is not None and (self.folder / _SPEC).exists():
            spec = json.loads((self.folder / _SPEC).read_text())
            self._spec = {name: (tuple(shape), dtype) for name, (shape, dtype) in spec.items()}

    def _all(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {**self._spec, _INPUTS: ((), "uint64"), _KEYS: ((), "uint64")}

    def _row_bytes(self, name: str) -> int:
        shape, dtype = self._all()[name]
        return math.prod(shape) * np.dtype(dtype).itemsize

    def _path(self, name: str) -> Path:
        assert self.folder is not None  # noqa: S101
        return self.folder / f"{name}.bin"

    def _file(self, name: str) -> Any:
        if name not in self._buffers:
            self._buffers[name] = (
                io.BytesIO() if self.folder is None else self._path(name).open("ab")
            )
        return self._buffers[name]

    def _read(self, name: str) -> np.ndarray:
        shape, dtype = self._all()[name]
        if self.folder is None:
            return np.frombuffer(self._file(name).getvalue(), dtype).reshape((-1, *shape))
        path = self._path(name)
        rows = path.stat().st_size // self._row_bytes(name)
        return np.memmap(path, dtype, "r", shape=(rows, *shape))
