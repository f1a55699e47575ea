"""RowFiles: arrays that grow by rows, each in a flat file of one folder."""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.files import written_whole

_SPEC = "spec.json"
# What each row has besides the outputs, 8 bytes each; the last one makes a row complete. The mark
# distinguishes them from arrays with these names.
CHECKS, INPUTS, KEYS = _TOLD = ("*checks", "*inputs", "*keys")
# Names used here, and those of devices on Windows.
_RESERVED = {"checks", "inputs", "keys", "con", "prn", "aux", "nul"}


class RowFiles:
    """The files of an `OutputStore`: named arrays, and three numbers for each row besides.

    Args:
        folder: Folder of the files; made when it is first written to.
        names: Names of the arrays. Defaults to `None`: those recorded in the folder, or those of
            the first rows.

    Raises:
        ValueError: If the folder records other arrays.
    """

    def __init__(self, folder: Path, names: "Collection[str] | None" = None) -> None:
        self.folder, self.names = folder, None if names is None else sorted(names)
        self._open: dict[str, Any] = {}
        self.spec: dict[str, tuple[tuple[int, ...], str]] | None = None
        self.refresh()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing; they wait. The lock ends with its process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            with contextlib.suppress(ImportError):  # Windows has no `fcntl`.
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            self.refresh()  # Another process may have written while this one waited.
            try:
                yield
            finally:
                for file in self._open.values():
                    file.close()
                self._open = {}

    def refresh(self) -> None:
        """Read again which arrays there are."""
        self.spec = self._read_spec()

    def append(self, rows: dict[str, np.ndarray], told: dict[str, np.ndarray]) -> None:
        """Add rows, with `told` after the arrays."""
        if self.spec is None:
            self.spec = {name: (x.shape[1:], x.dtype.name) for name, x in sorted(rows.items())}
            with written_whole(self.folder / _SPEC) as part:
                part.write_text(json.dumps(self.spec))
        # All before any is written: rows that do not fit must leave nothing behind.
        for name, values in rows.items():
            check_form(name, values, *self.spec[name])
        for name in (*sorted(rows), *_TOLD):
            if name not in self._open:
                self._open[name] = self.path(name).open("ab")
            self._open[name].write(np.ascontiguousarray({**rows, **told}[name]).tobytes())
            self._open[name].flush()  # What the system has outlives a killed process.

    def sync(self) -> None:
        """Wait until everything written is on disk."""
        for file in self._open.values():
            os.fsync(file.fileno())

    def whole_rows(self) -> int:
        """Return how many rows all files have."""
        rows = self._rows()
        return min(rows.values()) if rows else 0

    def check_rows(self, rows: int) -> None:
        """Raise if a file has fewer rows than these."""
        if self.spec is None:
            raise broken(self.folder / _SPEC, "it is missing")
        for name, found in self._rows().items():
            if found < rows:
                raise broken(self.path(name), f"it has {found} of {rows} rows")

    def cut(self, rows: int) -> None:
        """Keep this many rows in each file."""
        for name in self._all():
            path, size = self.path(name), rows * self._row_bytes(name)
            if path.exists() and path.stat().st_size != size:
                os.truncate(path, size)

    def read(self, rows: int, names: "Collection[str] | None" = None) -> dict[str, np.ndarray]:
        """Return memory maps of the first rows."""
        return {name: self._map(name, rows) for name in (self._all() if names is None else names)}

    def path(self, name: str) -> Path:
        """Return the file of an array; its name may be any text, on any file system."""
        if name in _TOLD:
            return self.folder / f"{name[1:]}.bin"
        return self.folder / f"{stem_of(name)}.bin"

    def _map(self, name: str, rows: int) -> np.ndarray:
        shape, dtype = self._all()[name]
        if not rows * self._row_bytes(name):  # An empty file cannot be mapped.
            return np.empty((rows, *shape), dtype)
        return np.memmap(self.path(name), dtype, "r", shape=(rows, *shape))

    def _rows(self) -> dict[str, int]:
        """Return how many complete rows each file has, where a row takes space."""
        if self.spec is None:
            return {}
        return {
            name: self.path(name).stat().st_size // size if self.path(name).exists() else 0
            for name in self._all()
            if (size := self._row_bytes(name))
        }

    def _row_bytes(self, name: str) -> int:
        shape, dtype = self._all()[name]
        return math.prod(shape) * np.dtype(dtype).itemsize

    def _all(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {**(self.spec or {}), **dict.fromkeys(_TOLD, ((), "uint64"))}

    def _read_spec(self) -> "dict[str, tuple[tuple[int, ...], str]] | None":
        path = self.folder / _SPEC
        if not path.exists():
            return None
        try:
            read = json.loads(path.read_text())
            spec = {name: (tuple(shape), dtype) for name, (shape, dtype) in read.items()}
            sizes = [size for shape, _ in spec.values() for size in shape]
            # An edited file could ask for Python objects, which no file of numbers holds.
            fine = all(type(size) is int and size >= 0 for size in sizes) and not any(
                np.dtype(dtype).hasobject for _, dtype in spec.values()
            )
        except (ValueError, TypeError, AttributeError):
            fine = False
        if not fine:
            raise broken(path, "it is not what was written")
        if self.names is not None and sorted(spec) != self.names:
            raise broken(path, f"it speaks of {sorted(spec)} instead of {self.names}")
        return spec


def stem_of(name: str) -> str:
    """Return the name of an array's file, from the array's name, which may be any text.

    Example:
    >>> stem_of("features"), stem_of("layer:a/head")
    ('features', 'layer_a_head-35397e9df2a43cb2')
    """
    # No capitals, which some file systems do not tell apart; no digits, as Windows has `com1`.
    if re.fullmatch(r"[a-z_-]{1,60}", name) and name not in _RESERVED:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', name)[:60]}-{digest}"


def check_form(name: str, values: np.ndarray, shape: tuple[int, ...], dtype: str) -> None:
    """Raise unless rows have this shape and dtype, those of the rows before them."""
    if (values.shape[1:], values.dtype.name) != (shape, dtype):
        raise ValueError(
            f"The teacher's output {name!r} changed from {dtype} of shape {shape} a sample to "
            f"{values.dtype} of {values.shape[1:]}: features must have one shape."
        )


def broken(path: Any, why: str) -> ValueError:
    """Return the error for a file that cannot be trusted."""
    first = Path(str(path).split(" or ")[0])
    return ValueError(
        "The teacher's outputs on disk are damaged. Delete the folder "
        f"'{first.parent}' to run the teacher again; where only rows at the end are damaged or "
        f"missing, delete its 'complete.json' alone, and the rows before them are kept. "
        f"Received: {path}: {why}."
    )
