"""Cross-modal similarity of frequency bands, next to its controls."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fdkd.data import STUDENT, TEACHER, is_pair
from keras_fdkd.layers import FrequencySplit

Features = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class SimilarityReport:
    """Cosine similarities of teacher and student features, from `band_similarity`.

    Attributes:
        mean: Mean over the samples of each kind: `raw`, `low_with_dc`, `low`, `high`, and the last
            three with the suffix `_shuffled`.
        per_class: The same for each label, empty without labels.
        samples: Each kind for each sample, shape `(samples,)`.
    """

    mean: dict[str, float]
    per_class: dict[int, dict[str, float]]
    samples: dict[str, np.ndarray]


def extract_features(distiller: Any, data: Any) -> tuple[Features, np.ndarray | None]:
    """Run teacher and student in inference mode and return their features.

    Args:
        distiller: `FrequencyDistiller`.
        data: `{"teacher": inputs, "student": inputs}` of arrays, or `(that, labels)`, or a
            `tf.data.Dataset`, `keras.utils.PyDataset` or torch `DataLoader` of such batches.

    Returns:
        `({"teacher": features, "student": features}, labels)`. The student's features are those
        that are compared with the teacher's: projected, if the distiller projects. Labels are
        `None` if the data holds none.

    Example:
    >>> from keras_fdkd import FrequencyDistiller
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = FrequencyDistiller(model(6), model(4))
    >>> pair = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> features, labels = extract_features(distiller, (pair, np.zeros(8, "int32")))
    >>> features["teacher"].shape, features["student"].shape, labels.shape
    ((8, 16), (8, 16), (8,))
    """
    batches = [(*distiller.predict_features(x), y) for x, y in _batches(data)]
    teacher, student, labels = zip(*batches, strict=True)
    features = {TEACHER: np.concatenate(teacher), STUDENT: np.concatenate(student)}
    if labels[0] is None:
        return features, None
    return features, np.concatenate([keras.ops.convert_to_numpy(part) for part in labels])


def _batches(data: Any) -> Iterator[tuple[Any, Any]]:
    if is_pair(data):
        yield data, None
    elif isinstance(data, tuple):
        yield keras.utils.unpack_x_y_sample_weight(data)[:2]
    else:
        # A PyDataset has a length and no end.
        pieces = map(data.__getitem__, range(len(data))) if _is_py_dataset(data) else data
        for piece in pieces:
            whole = (piece,) if is_pair(piece) else tuple(piece)
            yield keras.utils.unpack_x_y_sample_weight(whole)[:2]


def _is_py_dataset(data: Any) -> bool:
    return isinstance(data, keras.utils.PyDataset)


def band_similarity(
    source: Any,
    data: Any = None,
    *,
    labels: Any = None,
    cutoff: float | None = None,
    axis: int | None = None,
    shuffles: int = 5,
    seed: int = 0,
) -> SimilarityReport:
    """Mean cosine similarity of low band, high band and raw features across modalities.

    The paper motivates the split by a low band (with DC) that is more similar across modalities
    than the raw features. Read it beside its controls: without DC the shared mean of non-negative
    features is gone, and with the channels shuffled (the same way in both modalities, mean of
    several shuffles) "low" no longer means anything. A figure that survives neither says nothing
    about frequency.

    Args:
        source: A `FrequencyDistiller`, or features `{"teacher": array, "student": array}` of equal
            shape `(samples, ..., dim)`.
        data: With a distiller: see `extract_features`. Otherwise `None`.
        labels: Integers, shape `(samples,)`, or one-hot, for the similarities per class; those in
            `data` serve if `None`.
        cutoff: Float in (0, 1), fraction of the spectrum that is low. Defaults to the distiller's,
            or `0.5`.
        axis: Integer, the axis to split. Defaults to the distiller's, or `-1`.
        shuffles: Integer >= 1, number of shuffles of the control. Defaults to `5`.
        seed: Integer, seed of the shuffles. Defaults to `0`.

    Returns:
        A `SimilarityReport`.

    Raises:
        ValueError: If features and data do not fit together.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(50, 32)).cumsum(-1)
    >>> noisy = {side: shared + rng.normal(size=(50, 32)) for side in ("teacher", "student")}
    >>> report = band_similarity(noisy)
    >>> report.mean["low"] > report.mean["low_shuffled"] > report.mean["high"]
    True

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), similarity analysis.
    """
    if isinstance(source, Mapping):
        features = source
    else:
        features, found = extract_features(source, data)
        labels = found if labels is None else labels
    if not isinstance(features, Mapping) or set(features) != {TEACHER, STUDENT}:
        raise ValueError(
            'Features must be a dict {"teacher": array, "student": array}. '
            f"Received: {type(features).__name__}."
        )
    pair = [np.asarray(features[side], "float32") for side in (TEACHER, STUDENT)]
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            "Teacher and student features must have the same shape. "
            f"Received: teacher {pair[0].shape}, student {pair[1].shape}."
        )
    if not isinstance(shuffles, int) or shuffles < 1:
        raise ValueError(f"`shuffles` must be an integer >= 1. Received: shuffles={shuffles!r}.")
    if cutoff is None:
        cutoff = 0.5 if isinstance(source, Mapping) else source.frequency.cutoff or 0.5
    if axis is None:
        axis = -1 if isinstance(source, Mapping) else int(source.frequency.axis)
    splits = [FrequencySplit(cutoff, axis, include_dc=dc) for dc in (False, True)]
    samples = {"raw": _cosine(pair, axis), **_bands(pair, splits, axis)}
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(pair[0].shape[axis]) for _ in range(shuffles)]
    shuffled = [_bands([np.take(x, order, axis) for x in pair], splits, axis) for order in orders]
    for kind in shuffled[0]:
        samples[f"{kind}_shuffled"] = np.mean([bands[kind] for bands in shuffled], axis=0)

    per_class = {}
    if labels is not None:
        labels = np.asarray(labels)
        if labels.ndim == 2 and labels.shape[-1] > 1:
            labels = labels.argmax(-1)
        labels = labels.reshape(-1)
        if len(labels) != len(pair[0]):
            raise ValueError(
                "There must be a label for each sample. "
                f"Received: {len(labels)} labels for {len(pair[0])} samples."
            )
        per_class = {int(c): _means(samples, labels == c) for c in np.unique(labels)}
    return SimilarityReport(_means(samples, slice(None)), per_class, samples)


def _means(samples: dict[str, np.ndarray], rows: Any) -> dict[str, float]:
    return {kind: float(values[rows].mean()) for kind, values in samples.items()}


def _bands(
    pair: list[np.ndarray], splits: list[FrequencySplit], axis: int
) -> dict[str, np.ndarray]:
    (plain, with_dc) = [
        [[keras.ops.convert_to_numpy(band) for band in split(x)] for x in pair] for split in splits
    ]
    return {
        "low_with_dc": _cosine([low for low, _ in with_dc], axis),
        "low": _cosine([low for low, _ in plain], axis),
        "high": _cosine([high for _, high in plain], axis),
    }


def _cosine(pair: list[np.ndarray], axis: int) -> np.ndarray:
    """Cosine similarity along `axis`, averaged over all other axes but the first."""
    norms = [np.maximum(np.linalg.norm(side, axis=axis), 1e-8) for side in pair]
    cosine = (pair[0] * pair[1]).sum(axis) / (norms[0] * norms[1])
    return cosine.reshape(len(cosine), -1).mean(-1)
