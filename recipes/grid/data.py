"""Mouths and sounds of the same sentences, padded to the longest: the prepared file.

From the GRID corpus (Cooke et al., 2006; https://doi.org/10.5281/zenodo.3625687), licence CC BY
4.0; see `recipes.grid.corpus`. `python -m recipes.grid prepare` writes the file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recipes.grid.corpus import LETTER, LETTERS, VOCABULARY

#: Name of the prepared file of a speaker.
FILE = "grid_{}_lips.npz"
MODALITIES = {"mouth": "video", "sound": "audio"}


@dataclass(frozen=True)
class GridData:
    """Sentences.

    Attributes:
        inputs: By modality `{"frames": ..., "length": ...}`: frames uint8, of the mouth
            `(sentences, steps, 28, 40)` gray pictures at 25 a second, of the sound
            `(sentences, steps, 40)` mel bands at 100 a second, 0 beyond the sentence's own length;
            lengths int32, shape `(sentences,)`, in steps.
        letters: Which letter is said, int32 in `0..24`, shape `(sentences,)`.
        words: All words, int32, shape `(sentences, 6)`: `n` is `VOCABULARY[n - 1]`.
    """

    inputs: dict[str, dict[str, np.ndarray]]
    letters: np.ndarray
    words: np.ndarray


def load_grid(source: Path) -> GridData:
    """Read a prepared file.

    Args:
        source: The file, or a folder that holds one of them.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If there are several, or it is another file.
    """
    path = _find(source)
    with np.load(path, allow_pickle=False) as file:
        wanted = {"words", "vocab"} | {
            f"{name}{end}" for name in MODALITIES.values() for end in ("", "_length")
        }
        if missing := sorted(wanted - set(file)):
            raise ValueError(
                f"{path} must be a file that `python -m recipes.grid prepare` wrote. "
                f"Received: a file without {missing}."
            )
        raw = {name: file[name] for name in wanted}
    if raw["vocab"].tolist() != list(VOCABULARY):
        raise ValueError(
            f"{path}: `vocab` must hold the {len(VOCABULARY)} words of the corpus in alphabetical "
            f"order. Received: {raw['vocab'].tolist()}."
        )
    inputs = {
        modality: _padded(path, name, raw[name], raw[f"{name}_length"])
        for modality, name in MODALITIES.items()
    }
    letters = [LETTERS.index(VOCABULARY[word]) for word in raw["words"][:, LETTER]]
    # 0 is the blank of CTC.
    return GridData(inputs, np.array(letters, "int32"), raw["words"].astype("int32") + 1)


def _find(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob(FILE.format("*")))
    if not found:
        raise FileNotFoundError(
            f"{source} holds no {FILE.format('SPEAKER')}. Fetch a speaker of the GRID corpus from "
            "https://doi.org/10.5281/zenodo.3625687, and run `python -m recipes.grid prepare "
            f"--data {source}` once."
        )
    if len(found) > 1:
        raise ValueError(
            "`--data` must name one prepared file, since mouths of speakers differ. "
            f"Received: {[str(path) for path in found]}."
        )
    return found[0]


def _padded(
    path: Path, name: str, joined: np.ndarray, lengths: np.ndarray
) -> dict[str, np.ndarray]:
    """Cut sequences that stand one after another, and pad them with 0 to the longest."""
    lengths = lengths.astype("int32")
    if lengths.sum() != len(joined) or lengths.min() < 1:
        raise ValueError(
            f"{path}: `{name}_length` must be the lengths of the sequences in `{name}`. "
            f"Received: {lengths.sum()} steps in all for {len(joined)}."
        )
    frames = np.zeros((len(lengths), lengths.max(), *joined.shape[1:]), joined.dtype)
    # NumPy fills a mask row by row, the order in which the sequences stand.
    frames[np.arange(lengths.max()) < lengths[:, None]] = joined
    return {"frames": frames, "length": lengths}
