"""Read Omniglot: pictures of hand-drawn characters, and the path of the pen that drew each.

Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning through probabilistic program
induction", Science 350, 2015; https://github.com/brendenlake/omniglot, MIT licence.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PACKED = "omniglot_small.npz"
PARTS = ("background", "evaluation")
SIDE = 105  # pixels


@dataclass(frozen=True)
class Drawings:
    """What the files hold.

    Attributes:
        ink: Whether a pixel is drawn, bool, shape `(drawings, 105, 105)`.
        paths: Of each drawing the points of the pen, float32, shape `(points, 4)`: x and y in
            pixels from the upper left corner, milliseconds, and 1 where the pen leaves the paper.
        characters: Of each drawing, such as `"Greek/character01"`.
        drawers: Number of who drew it, 1 to 20, shape `(drawings,)`.
        missing: Names of pictures that are left out since no pen path lies beside them.
    """

    ink: np.ndarray
    paths: list[np.ndarray]
    characters: list[str]
    drawers: np.ndarray
    missing: tuple[str, ...] = ()


def read_drawings(folder: str | Path, alphabets: Sequence[str]) -> Drawings:
    """Read the drawings of some alphabets.

    Args:
        folder: With `omniglot_small.npz`; or with `images_background.zip` and
            `strokes_background.zip` as they are published, unpacked or not, and the same of
            `evaluation` where an alphabet is in it.
        alphabets: Names as published, such as `"Greek"`.

    Raises:
        FileNotFoundError: If the folder holds none of these.
        ValueError: If an alphabet is not there, or a file is not as published.
    """
    packed = Path(folder) / PACKED
    found = _packed(packed, alphabets) if packed.is_file() else _published(Path(folder), alphabets)
    there = {name.split("/")[0] for name in found.characters}
    if lost := sorted(set(alphabets) - there):
        raise ValueError(
            f"Each alphabet must be in {folder}, with pictures and pen paths. Add the part of the "
            f"data that holds it, or name others with `--alphabets`. Received: no {lost}."
        )
    return found


def _packed(file: Path, alphabets: Sequence[str]) -> Drawings:
    with np.load(file, allow_pickle=False) as arrays:
        names = arrays["characters"][arrays["character"]]
        rows = np.flatnonzero(np.isin(arrays["alphabets"][arrays["alphabet"]], alphabets))
        # `count`: a row of 105 bits fills 14 bytes, whose last 7 bits are no pixels.
        ink = np.unpackbits(arrays["image_bits"][rows], axis=-1, count=SIDE).astype(bool)
        ends = np.cumsum(arrays["stroke_length"], dtype="int64")
        paths = np.split(arrays["stroke"], ends[:-1])
        drawers = arrays["drawer"][rows].astype("int64")
    return Drawings(ink, [paths[row] for row in rows], names[rows].tolist(), drawers)


def _published(folder: Path, alphabets: Sequence[str]) -> Drawings:
    pictures, strokes = (
        {
            name: content
            for part in PARTS
            for name, content in _contents(folder, f"{kind}_{part}", suffix, alphabets).items()
        }
        for kind, suffix in (("images", ".png"), ("strokes", ".txt"))
    )
    if not pictures or not strokes:
        raise FileNotFoundError(
            f"{folder} must hold {PACKED}, or images_background and strokes_background as "
            "folders or .zip files. Download both .zip files from "
            "https://github.com/brendenlake/omniglot (python/) into it. Received: "
            f"{len(pictures)} pictures and {len(strokes)} pen paths of {sorted(alphabets)}."
        )
    names = sorted(set(pictures) & set(strokes))
    return Drawings(
        ink=np.array([_parsed(_ink, name, pictures[name]) for name in names]),
        paths=[_parsed(_path, name, strokes[name]) for name in names],
        characters=[name.rsplit("/", 1)[0] for name in names],
        drawers=np.array([_parsed(_drawer, name, name) for name in names], "int64"),
        missing=tuple(sorted(set(pictures) - set(strokes))),
    )


def _contents(folder: Path, top: str, suffix: str, alphabets: Sequence[str]) -> dict[str, bytes]:
    """Return the files of a folder or of its .zip, by `alphabet/character/file` without suffix."""

    def kept(name: str) -> bool:
        levels = name.split("/")
        return len(levels) == 3 and levels[0] in alphabets and name.endswith(suffix)

    if (folder / top).is_dir():
        paths = (folder / top).rglob(f"*{suffix}")
        found = {path.relative_to(folder / top).as_posix(): path for path in paths}
        return {
            name.removesuffix(suffix): path.read_bytes()
            for name, path in found.items()
            if kept(name)
        }
    if not (folder / f"{top}.zip").is_file():
        return {}
    with zipfile.ZipFile(folder / f"{top}.zip") as archive:
        # The published archives hold the folder itself.
        found = {name.removeprefix(f"{top}/"): name for name in archive.namelist()}
        return {
            name.removesuffix(suffix): archive.read(whole)
            for name, whole in found.items()
            if kept(name)
        }


def _parsed(parse: Callable[[Any], Any], name: str, content: Any) -> Any:
    try:
        return parse(content)
    except (ValueError, IndexError, OSError) as error:
        raise ValueError(
            "Files must be as published: alphabet/characterNN/NNNN_DD, a picture of 105 x 105 "
            "pixels (.png), and lines `x,y,milliseconds` between START and BREAK (.txt). "
            f"Unpack the data again. Received: {name}: {error}"
        ) from error


def _drawer(name: str) -> int:
    return int(name.rsplit("_", 1)[1])


def _ink(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        ink = np.asarray(picture.convert("L")) < 128  # Black on white.
    if ink.shape != (SIDE, SIDE):
        raise ValueError(f"a picture of shape {ink.shape}")
    return ink


def _path(content: bytes) -> np.ndarray:
    points: list[list[float]] = []
    for line in content.decode("ascii").split():
        if line == "BREAK":
            points[-1][3] = 1.0
        elif line != "START":
            x, y, time = map(float, line.split(","))
            points.append([x, -y, time, 0.0])  # Files count y upwards.
    if not points:
        raise ValueError("a path without a point")
    return np.array(points, "float32")
