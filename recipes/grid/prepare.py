"""From the published clips of a speaker to one file of mouths, sounds and words."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_fdkd.files import written_whole
from keras_fdkd.study.processes import progress
from recipes.grid.corpus import VOCABULARY, Clip, find_clips, find_speakers, read_align
from recipes.grid.data import FILE
from recipes.grid.decode import (
    FRAMES_PER_SECOND,
    HEIGHT,
    STEPS_PER_SECOND,
    WIDTH,
    Box,
    read_mouth,
    read_sound,
)

# The lower centre of a face in the middle of 360 x 288 pixels.
_BOX = 175, 120, 84, 120  # Top, left, height, width.
_MARGIN = 0.15  # Seconds that are kept before the first and after the last word.
_STEPS = STEPS_PER_SECOND // FRAMES_PER_SECOND
_SHOWN = 8  # Pictures in a row and in a column of the overview.


def main(arguments: list[str] | None = None) -> Path:
    """Run `python -m recipes.grid prepare` and return the path of what it wrote."""
    parser = argparse.ArgumentParser(
        "python -m recipes.grid prepare",
        description=__doc__,
        epilog="No face is looked for: the box is fixed, and results depend on it. Look at the "
        "picture beside the file that is written, and give another box if it misses the mouth.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the corpus, with one for each speaker")
    add("--speaker", help="whose folder to read; the only one that is there")
    add("--box", type=int, nargs=4, default=_BOX, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="of the mouth, in pixels")  # fmt: skip
    add("--output", type=Path, help="folder of the file; that of the corpus")
    options = parser.parse_args(arguments)
    box = Box(*options.box)
    speaker = options.speaker or _only_speaker(options.data)
    output = options.output or options.data
    output.mkdir(parents=True, exist_ok=True)
    path, broken = prepare(options.data, speaker, box, output)
    print(f"Wrote {path}, and an overview of its mouths: {path.with_suffix('.png').name}.")
    if broken:
        print(f"Left out {len(broken)} broken clips:", *broken, sep="\n  ")
    return path


def prepare(folder: Path, speaker: str, box: Box, output: Path) -> tuple[Path, list[str]]:
    """Write the clips of a speaker to one file, and an overview of the mouths beside it.

    Args:
        folder: Of the corpus.
        speaker: Name of the speaker's folder.
        box: Of the mouth.
        output: Folder of the file.

    Returns:
        The path of the file, and a line for each clip that is broken or misses a file.

    Raises:
        FileNotFoundError: If there is no clip of the speaker that can be read.
    """
    clips, rows, broken = find_clips(folder, speaker), [], []
    with progress(len(clips), "clips", 1) as advance:
        for clip in clips:
            try:
                rows.append({"name": clip.name, **_read(clip, box)})
            except (OSError, ValueError) as error:
                broken.append(f"{clip.name}: {error}")
            advance()
    if not rows:
        raise FileNotFoundError(
            f"{folder / speaker} must hold clips of the GRID corpus, `.mpg` files with an `.align` "
            f"each. Received: {len(clips)} clips, all broken: {broken[:3]}."
        )
    path = output / FILE.format(speaker)
    with written_whole(path) as part:
        np.savez_compressed(part, **_joined(rows))
    with written_whole(path.with_suffix(".png")) as part:
        _overview([row["video"] for row in rows]).save(part)
    return path, broken


def _only_speaker(folder: Path) -> str:
    speakers = find_speakers(folder)
    if len(speakers) != 1:
        raise SystemExit(
            f"{folder} must hold the folder of one speaker with `.mpg` files, or `--speaker` must "
            f"say which. Received: {speakers}."
        )
    return speakers[0]


def _read(clip: Clip, box: Box) -> dict[str, Any]:
    """Return pictures, sound and words of the part of a clip in which there is speech."""
    words, times = read_align(clip.align)
    video, sound = read_mouth(clip.video, box), read_sound(clip.video)
    first = max(0, round((times[0, 0] - _MARGIN) * FRAMES_PER_SECOND))
    frames = min(len(video), len(sound) // _STEPS)
    if frames < times[-1, 1] * FRAMES_PER_SECOND - 1:
        raise ValueError(
            f"{clip.video} must last until the last word has ended, {times[-1, 1]:.2f} s. "
            f"Received: {len(video)} pictures and {len(sound) / STEPS_PER_SECOND:.2f} s of sound."
        )
    last = min(frames, round((times[-1, 1] + _MARGIN) * FRAMES_PER_SECOND))
    return {
        "video": video[first:last],
        "audio": sound[_STEPS * first : _STEPS * last],
        "words": [VOCABULARY.index(word) for word in words],
        "word_times": times - first / FRAMES_PER_SECOND,
    }


def _joined(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the arrays of the file: sequences one after another, sound scaled to 0..255."""
    audio = np.concatenate([row["audio"] for row in rows])
    low, high = audio.min(), audio.max()
    return {
        "video": np.concatenate([row["video"] for row in rows]),
        "video_length": np.array([len(row["video"]) for row in rows], "int16"),
        "audio": np.rint((audio - low) / max(high - low, 1e-6) * 255).astype("uint8"),
        "audio_length": np.array([len(row["audio"]) for row in rows], "int16"),
        # With these, the bytes can be made decibels again.
        "audio_scale": np.array([low, high], "float32"),
        "words": np.array([row["words"] for row in rows], "uint8"),
        "vocab": np.array(VOCABULARY),
        "word_times": np.array([row["word_times"] for row in rows], "float32"),
        "name": np.array([row["name"] for row in rows]),
    }


def _overview(videos: list[np.ndarray]) -> Image.Image:
    """Return the middle pictures of clips from all over the list, side by side."""
    picture = np.zeros((_SHOWN * HEIGHT, _SHOWN * WIDTH), "uint8")
    chosen = np.unique(np.linspace(0, len(videos) - 1, _SHOWN**2).astype(int))
    for place, row in enumerate(chosen):
        top, left = HEIGHT * (place // _SHOWN), WIDTH * (place % _SHOWN)
        middle = videos[row][len(videos[row]) // 2]
        picture[top : top + HEIGHT, left : left + WIDTH] = middle
    return Image.fromarray(picture)
