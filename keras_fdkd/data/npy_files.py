"""NpyFile: an array in NumPy's own format that grows by rows."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.data.row_files import check_form


class NpyFile:
    """A `.npy` file that is written batch by batch, whose number of rows is only known at the end.

    Args:
        path: Path of a new file.
        name: Name of the array, for messages.
        like: Rows that give the shape and the dtype.

    Raises:
        ValueError: If the values are not numbers.

    Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "logits.npy"
    >>> rows = np.arange(6.0).reshape(2, 3)
    >>> with NpyFile(path, "logits", rows) as file:
    ...     file.append(rows)
    ...     file.append(rows + 6)
    >>> np.load(path)[-1].tolist()
    [9.0, 10.0, 11.0]
    """

    def __init__(self, path: Path, name: str, like: np.ndarray) -> None:
        if like.dtype.kind not in "fiub":
            raise ValueError(
                f"Outputs must be arrays of numbers. Received: {name!r} of {like.dtype}."
            )
        self.rows, self.name = 0, name
        self._shape, self._dtype = like.shape[1:], like.dtype.newbyteorder("=")
        self._file: Any = path.open("xb")
        self._begin = self._header()

    def __enter__(self) -> "NpyFile":
        return self

    def __exit__(self, *error: Any) -> None:
        with self._file:
            if error[0] is None:
                self._file.seek(0)
                if self._header() != self._begin:  # NumPy leaves room for a growing number.
                    raise ValueError("The header of a `.npy` file has no room for its rows.")
                # `record_teacher` then moves the folder to its place, where files must be whole.
                self._file.flush()
                os.fsync(self._file.fileno())

    def append(self, values: np.ndarray) -> None:
        """Add rows.

        Args:
            values: Shape `(rows, ...)`.

        Raises:
            ValueError: If they have another shape or dtype than the rows before.
        """
        check_form(self.name, values, self._shape, self._dtype.name)
        self._file.write(np.ascontiguousarray(values, self._dtype).tobytes())
        self.rows += len(values)

    def _header(self) -> int:
        """Write the header, and return where it ends."""
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.rows, *self._shape),
            },
        )
        return self._file.tell()
