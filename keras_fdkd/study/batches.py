"""Batches that are the same for every method."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_fdkd.study.rows import take

#: `(sides, labels, rng) -> (sides, labels)`, see `keras_fdkd.study.Study`.
Augment = Callable[
    [dict[str, Any], np.ndarray, np.random.Generator], tuple[dict[str, Any], np.ndarray]
]


class Batches(keras.utils.PyDataset):
    """Shuffled batches of one size, the same for every trainer that gets the same seed.

    If some labels are hidden, half of each batch are labelled samples, so that the task is learned
    at a steady rate; an epoch has as many batches as all samples would fill. No sample occurs twice
    in a batch, so a batch is smaller if there are too few samples.

    Args:
        x: `Pair` for a distiller, or the source of a plain model.
        rows: Row numbers of the training fold, shape `(n,)`.
        labels: Labels of these rows.
        labelled: Whether each of these rows has labels.
        batch_size: Samples in a batch.
        seed: Seed of the order.
        weighted: Whether weights leave out samples whose labels are NaN, because a plain model does
            not do so by itself.
        augment: See `keras_fdkd.study.Study`. Defaults to `None`.
        side: What a plain model sees, `"teacher"` or `"student"`, for `augment`.
    """

    def __init__(
        self,
        x: Any,
        rows: np.ndarray,
        labels: np.ndarray,
        labelled: np.ndarray,
        batch_size: int,
        seed: int,
        weighted: bool = False,
        augment: Augment | None = None,
        side: str = "student",
    ) -> None:
        super().__init__()
        self.x, self.rows, self.labels, self.batch_size = x, rows, labels, batch_size
        self.augment, self.side, self.seed, self.epoch = augment, side, seed, -1
        self.there = labelled
        self.weighted = weighted and labels.dtype.kind == "f" and not labelled.all()
        self._halves = [np.flatnonzero(labelled), np.flatnonzero(~labelled)]
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return max(1, len(self.rows) // self.batch_size)

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self.epoch += 1
        labelled, unlabelled = self._halves
        some = len(labelled) if not len(unlabelled) else -(-self.batch_size // 2)
        some = min(self.batch_size, len(labelled), some)
        rest = min(self.batch_size - some, len(unlabelled))
        drawn = [self._draw(*part) for part in ((labelled, some), (unlabelled, rest)) if part[1]]
        self._order = np.concatenate(drawn, axis=1)

    def _draw(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Return positions for each batch, none twice in a batch."""
        # Whole batches of a permutation: across two of them a sample could be in a batch twice.
        whole = len(positions) // size
        passes = -(-len(self) // whole)
        drawn = [self._rng.permutation(positions)[: whole * size] for _ in range(passes)]
        return np.concatenate(drawn).reshape(-1, size)[: len(self)]

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        places = self._order[step]
        labels = self.labels[places]
        is_pair = isinstance(self.x, Pair)
        x = (
            self.x.take(self.rows, places)
            if is_pair
            else {self.side: take(self.x, self.rows[places])}
        )
        if self.augment is not None:
            # Of this batch alone, so that every method sees the same, whatever was read before.
            rng = np.random.default_rng([self.seed, self.epoch, step])
            sides = {side: x.pop(side) for side in ("teacher", "student") if side in x}
            sides, labels = self.augment(sides, labels, rng)
            x |= sides
        if is_pair:
            return x, labels
        x = x[self.side]
        if not self.weighted:
            return x, labels
        # Keras divides by all samples, so those with labels weigh more, as in distillers.
        there = self.there[places].astype("float32")
        # Labels of positions have one axis more than the loss.
        weights = (there / there.mean()).reshape(-1, *[1] * max(0, labels.ndim - 2))
        weights = np.broadcast_to(weights, labels.shape[: max(1, labels.ndim - 1)])
        # NaN times a weight of 0 would be NaN.
        return x, np.nan_to_num(labels), weights


class InOrder(keras.utils.PyDataset):
    """All rows of a fold, one after another.

    Args:
        x: A source.
        rows: Row numbers, shape `(n,)`.
        labels: Labels of these rows.
        batch_size: Samples in a batch.
        ignored: Class of positions that get a weight of 0. Defaults to `None`: no weights.
    """

    def __init__(
        self,
        x: Any,
        rows: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        ignored: int | None = None,
    ) -> None:
        super().__init__()
        self.x, self.rows, self.labels, self.batch_size = x, rows, labels, batch_size
        self.ignored = ignored

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        part = slice(step * self.batch_size, (step + 1) * self.batch_size)
        x, labels = take(self.x, self.rows[part]), self.labels[part]
        if self.ignored is None:
            return x, labels
        # Integers: `keras.metrics.MeanIoU` warns of others.
        there = (labels != self.ignored).astype("int32")
        # Labels of positions may have an axis of one entry, which weights do not.
        return x, labels, there[..., 0] if there.ndim > 2 and there.shape[-1] == 1 else there


class Pair:
    """Training data of a distiller: sources by row, and the teacher's outputs by position."""

    def __init__(self, sources: dict[str, Any], outputs: Any = None) -> None:
        self.sources, self.outputs = sources, outputs

    def take(self, rows: np.ndarray, places: np.ndarray) -> dict[str, Any]:
        x = {name: take(source, rows[places]) for name, source in self.sources.items()}
        if self.outputs is not None:
            x["teacher_outputs"] = take(self.outputs, places)
        # Losses with a memory have entries for the training fold, not for all rows.
        return {**x, "index": places}
