"""RowIndex: which row, or which number, belongs to a 64-bit key."""

import numpy as np

_RECENT = 2**14


class RowIndex:
    """Numbers by key, sorted once and then added to in pieces.

    Args:
        keys: Shape `(rows,)`. Of equal keys the first one counts.
        values: Shape `(rows,)`.

    Example:
    >>> index = RowIndex(np.array([7, 3], "uint64"), np.array([0, 1], "uint64"))
    >>> index.add(np.array([5], "uint64"), np.array([2], "uint64"))
    >>> index.find(np.array([3, 4, 5], "uint64"))
    (array([ True, False,  True]), array([1, 0, 2], dtype=uint64))
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        order = np.argsort(keys, kind="stable")
        self.keys, self.values = keys[order], values[order]
        self._recent: dict[int, int] = {}

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the keys are there, and their values (0 where they are not)."""
        found, values = np.zeros(len(keys), bool), np.zeros(len(keys), "uint64")
        if len(self.keys):
            places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            found = self.keys[places] == keys
            values[found] = self.values[places[found]]
        if self._recent:
            recent = [self._recent.get(key) for key in keys.tolist()]
            for place, value in enumerate(recent):
                if value is not None and not found[place]:
                    found[place], values[place] = True, value
        return found, values

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Add keys that are not there yet."""
        self._recent.update(zip(keys.tolist(), values.tolist(), strict=True))
        # Sorting again each time the number has grown by half costs n log n in total.
        if len(self._recent) > max(_RECENT, len(self.keys) // 2):
            more = np.fromiter(self._recent, "uint64"), np.fromiter(self._recent.values(), "uint64")
            self.__init__(  # type: ignore[misc]
                np.concatenate([self.keys, more[0]]), np.concatenate([self.values, more[1]])
            )
