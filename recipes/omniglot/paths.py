"""Pen paths as arrays of one shape: points evenly along the pen's way, and zeros after the end."""

import numpy as np

SPACING = 2.5  # pixels from one point to the next, about the width of the pen
STEPS = 128
CHANNELS = ("x", "y", "dx", "dy", "time", "pen")
_PAUSE = 5000.0  # ms; some drawers rest for minutes between two strokes


def path_steps(path: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Return what a model sees of a pen path.

    The pen's points come at the rate of each drawer's computer. So each stroke gets new ones, from
    its first to its last, 2.5 pixels apart or somewhat less. If a path would be longer than
    `steps`, all its points are wider apart.

    Args:
        path: See `Drawings.paths`, shape `(points, 4)`.
        steps: The longest result. Of a drawing of more than half as many strokes the end is cut.

    Returns:
        float32, shape `(n, 6)` with `n <= steps`. Place x and y, from -0.5 to 0.5 over the longer
        side of the drawing; the way from the last point in the same unit; `log(1 + milliseconds)`
        since the last point, 5 s at most; 1 where the pen was on the paper on its way here, else
        -1. So no step is all zeros.
    """
    strokes = np.split(path[:, :3].astype("float64"), np.flatnonzero(path[:-1, 3]) + 1)
    ways = [_way(stroke) for stroke in strokes]
    # Each stroke has at most two points more than its length over the spacing.
    room = max(1, steps - 2 * len(strokes))
    spacing = max(SPACING, sum(way[-1] for way in ways) / room)
    drawn = [_even(*both, spacing) for both in zip(strokes, ways, strict=True)]
    starts = np.cumsum([0, *map(len, drawn[:-1])])
    points = np.concatenate(drawn)
    pen = np.ones(len(points))
    # To the first point of a further stroke the pen came through the air.
    pen[starts[1:]] = -1.0
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    # A dot has no size to divide by.
    place = (points[:, :2] - (low + high) / 2) / max(1.0, (high - low).max())
    moved = np.diff(place, axis=0, prepend=place[:1])
    time = np.log1p(np.clip(np.diff(points[:, 2], prepend=points[0, 2]), 0.0, _PAUSE))
    return np.column_stack([place, moved, time, pen])[:steps].astype("float32")


def padded_paths(paths: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return paths as one array with zeros after the end of each, and their lengths.

    Args:
        paths: See `Drawings.paths`.

    Returns:
        float32, shape `(paths, 128, 6)`; and the number of steps of each, shape `(paths,)`.
    """
    array = np.zeros((len(paths), STEPS, len(CHANNELS)), "float32")
    lengths = np.zeros(len(paths), "int64")
    for row, path in enumerate(paths):
        steps = path_steps(path)
        lengths[row] = len(steps)
        array[row, : len(steps)] = steps
    return array, lengths


def _way(stroke: np.ndarray) -> np.ndarray:
    """Return how far the pen had come at each point of a stroke, in pixels."""
    return np.cumsum(np.hypot(*np.diff(stroke[:, :2], axis=0, prepend=stroke[:1, :2]).T))


def _even(stroke: np.ndarray, way: np.ndarray, spacing: float) -> np.ndarray:
    """Return x, y and time at points evenly along the way; one point of a dot."""
    places = np.linspace(0.0, way[-1], 1 + int(np.ceil(way[-1] / spacing)))
    return np.column_stack([np.interp(places, way, column) for column in stroke.T])
