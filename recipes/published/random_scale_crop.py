"""RandomScaleCrop: pictures of two modalities and the labels of their pixels, cut alike."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RandomScaleCrop:
    """Scale, cut and perhaps mirror each sample of a batch: `augment` of a study.

    A sample becomes larger or smaller by a random factor; a part of the given size is cut out of
    it, or it stands somewhere in such a picture. What lies outside is 0 and has no label. Colours
    are interpolated between four pixels. Labels, and sides of one channel, such as distances, are
    those of the nearest pixel: a mean of two distances is no surface.

    Args:
        scales: Smallest and largest factor.
        unlabelled: Label of what lies outside.

    Example:
    >>> pictures = np.ones((2, 4, 6, 3), "uint8")
    >>> sides, labels = RandomScaleCrop()({"rgb": pictures}, np.zeros((2, 4, 6), "int8"),
    ...                                   np.random.default_rng(0))
    >>> sides["rgb"].shape, sides["rgb"].dtype, labels.shape
    ((2, 4, 6, 3), dtype('uint8'), (2, 4, 6))
    """

    scales: tuple[float, float] = (0.5, 1.75)
    unlabelled: int = -1

    def __call__(
        self, sides: dict[str, np.ndarray], labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        count, *sizes = labels.shape
        scale = rng.uniform(*self.scales, size=count)
        mirrored = rng.random(count) < 0.5
        places = [_places(size, scale, rng.random(count)) for size in sizes]
        places[1] = np.where(mirrored[:, None], places[1][:, ::-1], places[1])
        nearest = [np.round(place) for place in places]
        inside = [(p >= 0) & (p < size) for p, size in zip(nearest, sizes, strict=True)]
        there = inside[0][:, :, None] & inside[1][:, None, :]
        made = {}
        for name, values in sides.items():
            found = _between(values, places) if values.shape[-1] > 1 else _at(values, nearest)
            made[name] = np.where(there[..., None], found, 0).astype(values.dtype)
        return made, np.where(there, _at(labels, nearest), self.unlabelled).astype(labels.dtype)


def _places(size: int, scale: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return where each pixel of the result lies in the sample, shape `(count, size)`."""
    # Centres of pixels, in pixels of the scaled sample, then of the sample itself.
    first = share * (size * scale - size)
    scaled = first[:, None] + np.arange(size) + 0.5
    return scaled / scale[:, None] - 0.5


def _between(pictures: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Return the pictures at these rows and columns, between four pixels each."""
    result = np.zeros(pictures.shape, "float32")
    floors = [np.floor(place) for place in places]
    for corner in np.ndindex(2, 2):
        weights = [
            1 - np.abs(place - floor - one)
            for place, floor, one in zip(places, floors, corner, strict=True)
        ]
        at = [floor + one for floor, one in zip(floors, corner, strict=True)]
        values = _at(pictures, at).astype("float32")
        result += values * (weights[0][:, :, None] * weights[1][:, None, :])[..., None]
    # A cast alone would cut the fraction off.
    return np.round(result) if pictures.dtype.kind in "iu" else result


def _at(values: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Return values at whole rows and columns; of places outside, those of the border."""
    rows, columns = (
        np.clip(place, 0, size - 1).astype(int)
        for place, size in zip(places, values.shape[1:3], strict=True)
    )
    number = np.arange(len(values))[:, None, None]
    return values[number, rows[:, :, None], columns[:, None, :]]
