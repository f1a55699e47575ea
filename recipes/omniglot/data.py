"""Drawings of characters, as a picture and as the path of the pen, and drawers that are held out.

The data are Omniglot, see `recipes.omniglot.files`: MIT licence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from recipes.omniglot.files import SIDE, read_drawings
from recipes.omniglot.paths import padded_paths

MODALITIES = ("picture", "pen")
TASKS = ("character", "alphabet")
#: Eight of the fifty, of 17 to 47 characters; all in the part `background`.
ALPHABETS = (
    "Balinese", "Early_Aramaic", "Greek", "Japanese_(katakana)", "Korean", "Latin", "Sanskrit",
    "Tagalog",
)  # fmt: skip
_BLOCK = 3  # 105 pixels become 35.
_FEW = {"character": 2, "alphabet": 12}  # labels per class


@dataclass(frozen=True)
class OmniglotData:
    """Drawings, in the order of character and drawer.

    Attributes:
        inputs: By modality: `picture`, the ink in each pixel, uint8, shape
            `(drawings, 35, 35, 1)`; `pen`, float32, shape `(drawings, 128, 6)`, see `path_steps`.
        lengths: Steps of each path, shape `(drawings,)`; zeros follow.
        labels: By task, int32, shape `(drawings,)`.
        classes: By task, names in the order of the labels.
        drawers: Number of each drawing's drawer, shape `(drawings,)`. It tells the people of one
            alphabet apart; nothing says whether one of them drew another alphabet too.
        missing: Names of pictures that are left out since no pen path lies beside them.
    """

    inputs: dict[str, np.ndarray]
    lengths: np.ndarray
    labels: dict[str, np.ndarray]
    classes: dict[str, list[str]]
    drawers: np.ndarray
    missing: tuple[str, ...]


def load_omniglot(folder: str | Path, alphabets: Sequence[str] = ALPHABETS) -> OmniglotData:
    """Read drawings and make them arrays, in some seconds.

    Args:
        folder: See `read_drawings`.
        alphabets: See `read_drawings`.

    Raises:
        FileNotFoundError: If the folder holds no Omniglot.
        ValueError: If an alphabet is not there, or a file is not as published.
    """
    found = read_drawings(folder, alphabets)
    characters, labels = np.unique(found.characters, return_inverse=True)
    of_character, which = np.unique(
        [name.split("/")[0] for name in characters], return_inverse=True
    )
    # All layouts of the files get one order, since a split is rows.
    rows = np.lexsort((found.drawers, labels))
    paths, lengths = padded_paths([found.paths[row] for row in rows])
    return OmniglotData(
        inputs={"picture": _shrunk(found.ink[rows]), "pen": paths},
        lengths=lengths,
        labels={
            "character": labels[rows].astype("int32"),
            "alphabet": which[labels[rows]].astype("int32"),
        },
        classes={"character": characters.tolist(), "alphabet": of_character.tolist()},
        drawers=found.drawers[rows],
        missing=found.missing,
    )


def split_by_drawer(drawers: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the rows of the folds `train`, `validation` and `test`: 12, 3 and 5 drawers of 20."""
    rows = np.arange(len(drawers))
    outer = GroupShuffleSplit(1, test_size=0.25, random_state=seed)
    rest, test = next(outer.split(rows, None, drawers))
    inner = GroupShuffleSplit(1, test_size=0.2, random_state=seed)
    train, validation = next(inner.split(rest, None, drawers[rest]))
    return {"train": rest[train], "validation": rest[validation], "test": test}


def few_labels(data: OmniglotData, task: str) -> int:
    """Return how many training drawings keep their label where labels are few."""
    return _FEW[task] * len(data.classes[task])


def _shrunk(ink: np.ndarray) -> np.ndarray:
    """Return the share of ink in blocks of 3 x 3 pixels, from 0 to 255."""
    side = SIDE // _BLOCK
    blocks = ink.reshape(-1, side, _BLOCK, side, _BLOCK)
    return np.rint(255 * blocks.mean(axis=(2, 4)))[..., None].astype("uint8")
