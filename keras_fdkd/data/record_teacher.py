"""record_teacher: save the outputs of any teacher, in files that any backend reads."""

import contextlib
import itertools
import json
import shutil
import uuid
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fdkd.arguments import check_boolean, check_integer
from keras_fdkd.data.any_teacher import asked, batches_of, rows_of
from keras_fdkd.data.npy_files import NpyFile
from keras_fdkd.data.row_files import stem_of

_SAID = "recorded.json"


def record_teacher(
    teacher: Any,
    batches: Iterable[Any],
    folder: "str | Path",
    *,
    features: "str | int | None" = None,
    logits: "str | int | None" = None,
    data_format: str | None = None,
    overwrite: bool = False,
    verbose: int = 1,
) -> dict[str, np.ndarray]:
    """Run a teacher once over its inputs, and save its outputs in `.npy` files.

    Use it for a teacher of another library, or one that has to run in another process, or on
    another backend than the student's training. Any tool can read the files. The returned arrays
    (`open_recorded` returns them later) are training data as `"teacher_outputs"`, rows in the order
    of the batches; the teacher is then a `keras_fdkd.RecordedTeacher`. For a Keras teacher in the
    same process, `cache_teacher` is simpler.

    The folder appears once everything is written; a process that is killed leaves a folder
    `part-...` next to it, which may be deleted. With `overwrite=True` the former folder is moved
    aside first: killed in that moment, a process leaves it next to the place as `old-...`.

    Args:
        teacher: `torch.nn.Module` (on any Keras backend; PyTorch must be installed), built
            `keras.Model`, or a function from a batch to a dict of arrays of shape `(batch, ...)`.
        batches: Iterable of batches of the teacher's inputs only, without labels and not shuffled:
            `(x for x, _ in loader)`. A PyTorch module takes an array, a tuple of several, or a dict
            of keyword arguments; the first batch is its example.
        folder: Local folder that does not exist yet, or is empty.
        features: Where to read the feature. For a PyTorch module see `keras_fdkd.from_torch`; for a
            Keras model a layer path, see `keras_fdkd.features.FeatureTap`. Defaults to `None`: the
            default feature of a Keras model, none of a PyTorch module.
        logits: Where to read the logits of a PyTorch module, see `keras_fdkd.from_torch`. Defaults
            to `None`: its output, or the entry `"logits"` of it.
        data_format: Order of the axes of a PyTorch module's outputs, see `keras_fdkd.from_torch`.
            Defaults to `None`.
        overwrite: Boolean, whether to replace what was recorded in `folder` before. Defaults to
            `False`.
        verbose: 0 for no progress bar. Defaults to `1`.

    Returns:
        Dict of memory maps, `"features"` and `"logits"` (and `"features_mask"` if the feature
        carries a Keras mask), or the names that the function returned. Floats that NumPy does not
        know (bfloat16) are saved as float32.

    Raises:
        ValueError: If an argument is not as described, the folder is not empty, there is no batch,
            or an output changes its shape, does not have one row per sample, or is not finite.

    Example:
    >>> import tempfile
    >>> x = np.ones((10, 6), "float32")
    >>> def teacher(batch):
    ...     return {"features": batch[:, :4], "logits": batch @ np.ones((6, 3), "float32")}
    >>> batches = (x[start : start + 4] for start in range(0, 10, 4))
    >>> folder = Path(tempfile.mkdtemp()) / "teacher"
    >>> recorded = record_teacher(teacher, batches, folder, verbose=0)
    >>> recorded["features"].shape, recorded["logits"].shape
    ((10, 4), (10, 3))
    >>> sorted(path.name for path in folder.iterdir())
    ['features.npy', 'logits.npy', 'recorded.json']
    """
    check_boolean("overwrite", overwrite)
    check_integer("verbose", verbose, 0)
    folder = _checked_folder(folder, overwrite)
    source = batches_of(batches)
    first = next(source, None)
    if first is None:
        raise ValueError("`batches` must hold at least one batch. Received: none.")
    ask = asked(teacher, first, features, logits, data_format)
    count = len(batches) if isinstance(batches, Sized) else None
    bar = keras.utils.Progbar(count, verbose=verbose, unit_name="batch")
    # Next to the folder, because a folder moves in one step only within one file system.
    part = folder.with_name(f"part-{uuid.uuid4().hex[:12]}-{folder.name}")
    part.mkdir(parents=True)
    try:
        with contextlib.ExitStack() as stack:
            files: dict[str, NpyFile] = {}
            for number, batch in enumerate(itertools.chain([first], source)):
                outputs = rows_of(ask(batch), batch, number)
                # Only now it is known which outputs there are, with which shapes and dtypes.
                if number == 0:
                    files = {
                        name: stack.enter_context(NpyFile(_path(part, name), name, values))
                        for name, values in outputs.items()
                    }
                if set(outputs) != set(files):
                    raise ValueError(
                        f"Each batch must give the same outputs: the first gave {sorted(files)}. "
                        f"Received: {sorted(outputs)} in batch {number}."
                    )
                for name, values in outputs.items():
                    files[name].append(values)
                bar.update(number + 1, finalize=False)
            bar.update(number + 1, finalize=True)
            rows = next(iter(files.values())).rows
        # Last, after the stack has closed the files: it vouches for them.
        (part / _SAID).write_text(json.dumps({"rows": rows, "names": sorted(files)}))
        _move(part, folder)
    except BaseException:  # Also after Ctrl-C nothing unfinished may stay.
        shutil.rmtree(part, ignore_errors=True)
        raise
    return open_recorded(folder)


def open_recorded(folder: "str | Path") -> dict[str, np.ndarray]:
    """Return what `record_teacher` saved in a folder, as memory maps by name.

    Args:
        folder: The folder it was written to, with unchanged files.

    Raises:
        ValueError: If it is not such a folder, or a file in it is missing, damaged or edited.

    Example:
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "teacher"
    >>> x = [np.ones((4, 3)), np.zeros((2, 3))]
    >>> _ = record_teacher(lambda batch: {"logits": batch}, x, folder, verbose=0)
    >>> open_recorded(folder)["logits"].shape
    (6, 3)
    """
    folder = Path(folder)
    try:
        said = json.loads((folder / _SAID).read_text())
        rows, names = said["rows"], list(said["names"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            "There must be a folder that `record_teacher` wrote to the end, with its file "
            f"'{_SAID}'. Received: folder='{folder}'."
        ) from None
    found = {}
    for name in names:
        path = _path(folder, name)
        try:
            # No pickles: a file from elsewhere could run code.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                "A file of a recorded teacher is missing or damaged: record it again. "
                f"Received: {path}: {error}"
            ) from None
        if len(array) != rows:
            raise ValueError(
                "All files of a recorded teacher must have as many rows as it says: record it "
                f"anew. Received: {path} with {len(array)} of {rows} rows."
            )
        found[name] = array
    return found


def _path(folder: Path, name: str) -> Path:
    return folder / f"{stem_of(name)}.npy"


def _checked_folder(folder: Any, overwrite: bool) -> Path:
    if not isinstance(folder, (str, Path)) or not str(folder):
        raise ValueError(f"`folder` must be a local folder. Received: folder={folder!r}.")
    # `Path(".")` has no name, from which those of its neighbours are made.
    folder = Path(folder).absolute()
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder
    if not (folder / _SAID).is_file():
        raise ValueError(
            "`folder` must be a new one: nothing that is there is replaced but what "
            f"`record_teacher` wrote. Received: folder='{folder}', which holds something else."
        )
    if not overwrite:
        raise ValueError(
            "A teacher was recorded in `folder` before, and nothing tells whether this one says "
            "the same. Read it with `keras_fdkd.data.open_recorded(folder)`, or pass "
            f"`overwrite=True`. Received: folder='{folder}'."
        )
    return folder


def _move(part: Path, folder: Path) -> None:
    """Move a complete folder to the place of another one."""
    old = None
    if folder.exists():
        old = folder.with_name(f"old-{uuid.uuid4().hex[:12]}-{folder.name}")
        # `rename` does not replace a folder that holds files.
        folder.rename(old)
    part.rename(folder)
    if old is not None:
        # The new folder is in place: what stays of the old one does no harm.
        shutil.rmtree(old, ignore_errors=True)
