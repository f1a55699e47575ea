"""Pictures of what students predict, side by side."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from keras_fdkd.study import Results
from keras_fdkd.study.method import Setting
from recipes.earth.data import CLASSES, EarthData

COLORS = ("#a6cee3", "#1b7837", "#e6ab02", "#b2df8a", "#7570b3", "#f7f7f7")
TILES = 3


def chosen_method(results: Results, budget: int | None, seed: int) -> tuple[str, Setting] | None:
    """Return the method to show, and its setting in the first split.

    It is the one with the best mean score on the validation folds: no test fold chooses a picture.

    Args:
        results: Of a direction.
        budget: Of labels.
        seed: Of the run in the first split.

    Returns:
        Name and setting, or `None` if no method has run there.
    """
    runs = {name: results.runs(name, budget) for name in results.methods}
    means = {
        name: np.mean([row["validation"] for row in rows.values()])
        for name, rows in runs.items()
        if (0, seed) in rows
    }
    if not means:
        return None
    best = max(means, key=lambda name: means[name])
    return best, runs[best][0, seed]["setting"]


def first_tiles(test: np.ndarray) -> np.ndarray:
    """Return the tiles to show: the first ones of a test fold, whatever comes out."""
    return test[:TILES]


def draw_predictions(
    data: EarthData, rows: Sequence[int] | np.ndarray, predictions: Mapping[str, np.ndarray]
) -> Figure:
    """Draw tiles beside their climate and what was predicted.

    Args:
        data: The tiles.
        rows: Which of them to draw, a line each.
        predictions: By title, classes of the same tiles, shape `(len(rows), 48, 64)`.
    """
    columns = {**{name: maps[rows] for name, maps in data.pictures.items()},
               "truth": data.labels[rows], **predictions}  # fmt: skip
    size = 1.9 * len(columns), 1.5 * len(rows) + 0.7
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False)
    colors = ListedColormap(COLORS)
    for place, (title, maps) in enumerate(columns.items()):
        axes[0, place].set_title(title, fontsize=8)
        for axis, tile in zip(axes[:, place], maps, strict=True):
            # -1 would be drawn in the first colour, as ocean.
            shown = tile if tile.ndim == 3 else np.ma.masked_less(tile, 0)
            axis.imshow(shown, colors, vmin=-0.5, vmax=len(COLORS) - 0.5, interpolation="nearest")
            axis.set_axis_off()
    patches = [
        Patch(facecolor=color, edgecolor="black", label=name)
        for color, name in zip(COLORS, CLASSES.values(), strict=True)
    ]
    figure.legend(handles=patches, ncols=len(patches), loc="lower center", fontsize=8)
    figure.tight_layout(rect=(0, 0.6 / size[1], 1, 1))
    return figure
