"""The published folders of the GRID corpus: which clips there are, and what is said in them.

GRID: Cooke, Barker, Cunningham and Shao, "An audio-visual corpus for speech perception and
automatic speech recognition", Journal of the Acoustical Society of America 120(5), 2006;
https://doi.org/10.5281/zenodo.3625687, licence CC BY 4.0. 34 speakers say 1,000 sentences of six
words each: command, colour, preposition, letter, digit, adverb.
"""

from dataclasses import dataclass
from operator import contains
from pathlib import Path

import numpy as np

LETTERS = tuple("abcdefghijklmnopqrstuvxyz")  # W has three syllables: it is left out.
#: The words that a sentence may have in each of its places.
GRAMMAR = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    LETTERS,
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
LETTER = 3  # Place of the letter.
#: All words, in alphabetical order.
VOCABULARY = tuple(sorted({word for words in GRAMMAR for word in words}))
_UNITS = 25_000  # In a second of an `.align` file.
_SILENCE = ("sil", "sp")


@dataclass(frozen=True)
class Clip:
    """A sentence.

    Attributes:
        video: Path of the `.mpg`, which holds the sound too.
        align: Path of its `.align`.
    """

    video: Path
    align: Path

    @property
    def name(self) -> str:
        """What the corpus calls it: a letter or digit for each word, such as `bbaf2n`."""
        return self.video.stem


def find_speakers(folder: Path) -> list[str]:
    """Return the names of the folders that hold `.mpg` files, directly or in folders of theirs."""
    found = {path.relative_to(folder).parts[0] for path in folder.rglob("*.mpg")}
    # A clip in the folder of the corpus itself is of no speaker.
    return sorted(name for name in found if (folder / name).is_dir())


def find_clips(folder: Path, speaker: str) -> list[Clip]:
    """Return the clips of a speaker by name.

    An `.align` lies beside its `.mpg`, in a folder `align` there or one above, or in
    `align/<speaker>` or `alignments/<speaker>` of the corpus. Of a clip without one, the
    first of these places is listed.

    Args:
        folder: Of the corpus.
        speaker: Name of the speaker's folder.
    """
    clips = []
    for video in sorted((folder / speaker).rglob("*.mpg"), key=lambda path: path.stem):
        places = [
            video.parent,
            video.parent / "align",
            video.parent.parent / "align",
            folder / "align" / speaker,
            folder / "alignments" / speaker,
        ]
        files = [place / f"{video.stem}.align" for place in places]
        clips.append(Clip(video, next((file for file in files if file.is_file()), files[0])))
    return clips


def read_align(path: Path) -> tuple[list[str], np.ndarray]:
    """Read what is said and when.

    Args:
        path: Of an `.align` file, of lines `start end word` in 1/25000 s.

    Returns:
        The six words, and their starts and ends in seconds, shape `(6, 2)`.

    Raises:
        OSError: If the file is not there.
        ValueError: If it is no such file.
    """
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    said = [line for line in lines if line and line[-1] not in _SILENCE]
    words = [line[-1] for line in said]
    fits = len(words) == len(GRAMMAR) and all(map(contains, GRAMMAR, words))
    if not fits:
        raise ValueError(
            f"{path} must hold command, colour, preposition, letter, digit and adverb of the "
            f"corpus. Received: {words}."
        )
    times = np.array([line[:2] for line in said], "float64") / _UNITS
    if not (np.diff(times.ravel()) >= 0).all():
        raise ValueError(f"{path} must tell of one word after another. Received: {said}.")
    return words, times
