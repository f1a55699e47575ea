"""Hand arrays, functions and models to other processes: arrays as memory maps."""

import functools
import io
import mmap
import pickle  # Only of what `write_shared` wrote.  # nosec B403
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import keras
import numpy as np

_FILE = "shared.pickle"


def write_shared(shared: Any, folder: Path) -> None:
    """Write an object and its arrays to a folder.

    Functions of a notebook or script, and classes of models defined there, are sent along.

    Raises:
        RuntimeError: If something in it cannot be written.
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    try:
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(shared)
    except Exception as error:  # Pickling runs arbitrary code.
        raise RuntimeError(
            "What the study holds cannot be sent to other processes. Pass models as functions that "
            "make them (`teacher=load_teacher`), or run with `n_jobs=1`. "
            f"{type(error).__name__}: {error}"
        ) from error
    for number, buffer in enumerate(buffers):
        (folder / f"{number}.bin").write_bytes(buffer.raw())
    (folder / _FILE).write_bytes(stream.getvalue())


@functools.lru_cache(maxsize=1)
def read_shared(folder: str) -> Any:
    """Return what `write_shared` wrote, reading it once per process."""
    buffers = []
    number = 0
    while (file := Path(folder) / f"{number}.bin").exists():
        empty = file.stat().st_size == 0
        buffers.append(b"" if empty else np.memmap(file, mode="r"))
        number += 1
    data = (Path(folder) / _FILE).read_bytes()
    return pickle.loads(data, buffers=buffers)  # noqa: S301  # Written here.  # nosec B301


class _Pickler(cloudpickle.Pickler):
    """Sends memory maps as file names, and models with the classes of their layers."""

    def reducer_override(self, value: Any) -> Any:
        on_disk = isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap)
        if on_disk and value.mode != "c":  # Writes to a copy-on-write map stay in memory.
            order = "C" if value.flags.c_contiguous else "F"
            given = str(value.filename), value.dtype, "r", value.offset, value.shape, order
            return np.memmap, given
        if isinstance(value, keras.Model) and value.built:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "model.keras"
                keras.saving.save_model(value, file)
                saved = file.read_bytes()
            kinds = {type(layer) for layer in value._flatten_layers()}
            own = [kind for kind in kinds if not kind.__module__.startswith("keras.")]
            # By their names in the file: a new process has registered nothing of a notebook.
            return _model, (saved, {keras.saving.get_registered_name(kind): kind for kind in own})
        return super().reducer_override(value)


def _model(saved: bytes, classes: dict[str, type]) -> keras.Model:
    """Return a model whose own classes may be unknown to this process."""
    with keras.saving.custom_object_scope(classes), TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        file.write_bytes(saved)
        return keras.saving.load_model(file, compile=False)
