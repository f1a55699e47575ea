"""Store: prepared samples as memory maps, a row each, which a killed process leaves whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.files import written_whole
from recipes.published.items import Item

Fields = Mapping[str, tuple[tuple[int, ...], str]]
WAITING, DONE, BROKEN = 0, 1, 2  # 0 first, since new files are full of it.


class Store:
    """Arrays of all samples in files, and which rows of them are there.

    A row counts as done only after its arrays are on disk, so a process may be killed at any time.

    Args:
        folder: Of the files.
        items: A row each.
        fields: Shape and dtype of a row of each array, by name.
        settings: What the arrays depend on besides, as JSON can hold it.

    Raises:
        ValueError: If the folder holds other samples or settings.
    """

    def __init__(
        self, folder: Path, items: Sequence[Item], fields: Fields, settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.items, self.fields = folder, list(items), dict(fields)
        described = {
            "settings": dict(settings),
            "fields": {name: [list(shape), kind] for name, (shape, kind) in fields.items()},
            "items": [asdict(item) for item in items],
        }
        file = folder / "items.json"
        if not file.exists():
            self._make(file, described)
        # Through JSON, which makes lists of tuples.
        elif json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(described)):
            raise ValueError(
                f"{folder} was prepared from other lists or with other settings. Delete it, or "
                "name another folder with `--prepared`."
            )

    def _make(self, file: Path, described: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {**self.fields, "state": ((), "uint8")}
        for name, (shape, kind) in arrays.items():
            whole = (len(self.items), *shape)
            np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", kind, whole).flush()
        # Last: a folder without this file counts as new, whatever a killed process left.
        with written_whole(file) as part:
            part.write_text(json.dumps(described), encoding="utf-8")

    def array(self, name: str, mode: str = "r") -> np.ndarray:
        """Return the memory map of an array, whose rows are the items."""
        return np.load(self.folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)

    @property
    def state(self) -> np.ndarray:
        """Of each row: 0 it waits, 1 it is there, 2 it could not be read; shape `(items,)`."""
        # A copy, since other processes write to the map.
        return np.array(self.array("state"))

    def write(self, row: int, arrays: Mapping[str, np.ndarray] | None) -> None:
        """Write a row, or with `None` say that it could not be read.

        Raises:
            ValueError: If an array has not the shape of the field.
        """
        for name, values in (arrays or {}).items():
            shape, _ = self.fields[name]
            if values.shape != shape:
                raise ValueError(f"'{name}' must have shape {shape}. Received: {values.shape}.")
            opened = self.array(name, "r+")
            opened[row] = values
            opened.flush()
        state = self.array("state", "r+")
        state[row] = BROKEN if arrays is None else DONE
        state.flush()
