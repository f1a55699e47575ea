"""Smartwatch recordings of seven shoulder exercises: accelerometer and gyroscope together.

The data come inside the package `seglearn` (BSD licence): 140 series of 10 subjects at 50 Hz,
Burns et al., "Shoulder physiotherapy exercise recognition: machine learning the inertial signals
from a smartwatch", Physiological Measurement 39(7), 2018.
"""

import pickle  # Of `_ArrayUnpickler`, which admits arrays alone.  # nosec B403
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from recipes.shared.packaged import Packaged, packaged_file

FILE = "watch_dataset.npy"
SOURCE = Packaged(
    "seglearn==1.2.5",
    f"data/{FILE}",
    sha256="eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537",
)
MODALITIES = {"accelerometer": slice(0, 3), "gyroscope": slice(3, 6)}
WINDOW, STEP = 200, 100  # 4 s and 2 s


@dataclass(frozen=True)
class WatchData:
    """Windows of all series.

    Attributes:
        signals: By modality, float32, shape `(windows, 200, 3)`.
        labels: Exercise of each window, int32, shape `(windows,)`.
        subjects: Subject of each window, shape `(windows,)`.
        exercises: Names of the exercises, in the order of the labels.
    """

    signals: dict[str, np.ndarray]
    labels: np.ndarray
    subjects: np.ndarray
    exercises: list[str]


def load_watch(folder: str | Path | None = None) -> WatchData:
    """Read the recordings and cut them into windows.

    Args:
        folder: Folder with `watch_dataset.npy`; `None` for the installed package `seglearn`.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the package's file is another one than this recipe was written for.
        pickle.UnpicklingError: If a file asks for anything but arrays.
    """
    windows, labels, subjects = [], [], []
    for series, label, subject in load_series(folder):
        view = np.lib.stride_tricks.sliding_window_view(series, WINDOW, axis=0)[::STEP]
        windows.append(view.transpose(0, 2, 1))
        labels += [label] * len(view)
        subjects += [subject] * len(view)
    stacked = np.concatenate(windows).astype("float32")
    signals = {name: np.ascontiguousarray(stacked[..., axes]) for name, axes in MODALITIES.items()}
    names = list(_load(folder)["y_labels"])
    return WatchData(signals, np.array(labels, "int32"), np.array(subjects), names)


def load_series(folder: str | Path | None = None) -> Iterator[tuple[np.ndarray, int, int]]:
    """Return each recording, shape `(steps, 6)`, with its exercise and its subject."""
    raw = _load(folder)
    return zip(raw["X"], raw["y"], raw["subject"], strict=True)


def split_by_subject(subjects: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the rows of the folds `train`, `validation` and `test`: 5, 2 and 3 subjects of 10."""
    rows = np.arange(len(subjects))
    rest, test = next(
        GroupShuffleSplit(1, test_size=3, random_state=seed).split(rows, None, subjects)
    )
    inner = GroupShuffleSplit(1, test_size=2, random_state=seed)
    train, validation = next(inner.split(rest, None, subjects[rest]))
    return {"train": rest[train], "validation": rest[validation], "test": test}


def _load(folder: str | Path | None) -> dict[str, Any]:
    return _read(packaged_file(SOURCE, folder))


def _read(path: Path) -> dict[str, Any]:
    """Unpickle the dict in an `.npy` file with nothing but array constructors allowed."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        # NumPy saves a dict as an array without axes.
        return _ArrayUnpickler(file).load().item()


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `codecs.encode`, by which Python pickles the bytes of an array."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"The data file asks for the codec {encoding!r}: refused.")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    allowed = {
        # The same function, as pickles of NumPy 1 and 2 name it.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"The data file asks for {module}.{name}: refused.")
        return self.allowed[module, name]
