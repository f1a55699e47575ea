"""Cross-modal similarity of frequency bands, next to its controls."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_fdkd.arguments import check_integer
from keras_fdkd.data.needs import Needs
from keras_fdkd.data.pairs import STUDENT, TEACHER, check_pair, is_pair
from keras_fdkd.layers import FrequencySplit
from keras_fdkd.layers.axes import Axis, axes_of

Features = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class SimilarityReport:
    """Cosine similarities of teacher and student features, from `band_similarity`.

    Attributes:
        mean: Mean over the samples for each kind: `raw`, `low_with_dc`, `low`, `high`, and the last
            three with the suffix `_shuffled`.
        per_class: The same for each label, empty without labels.
        samples: For each kind one value per sample, shape `(samples,)`.
    """

    mean: dict[str, float]
    per_class: dict[int, dict[str, float]]
    samples: dict[str, np.ndarray]


def extract_features(distiller: Any, data: Any) -> tuple[Features, np.ndarray | None]:
    """Run teacher and student in inference mode and return their features.

    Use them to look at what distillation compares, or for `plot_modalities`.

    Args:
        distiller: `FrequencyDistiller`.
        data: `{"teacher": inputs, "student": inputs}` of arrays, or `(that, labels)`, or a
            `tf.data.Dataset`, `keras.utils.PyDataset` or torch `DataLoader` of such batches.

    Returns:
        Features, a dict of arrays with `"teacher"` and `"student"`, and labels, or `None` if the
        data hold none. The student's features are those that are compared with the teacher's, after
        the projector if there is one.

    Raises:
        ValueError: If `distiller` or `data` is of another kind, or `data` is empty.

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
    if not _is_distiller(distiller):
        raise ValueError(
            f"`distiller` must be a `FrequencyDistiller`. Received: distiller={distiller!r}."
        )
    needs = distiller._teacher.needs
    batches = [(*distiller.predict_features(x), y) for x, y in _batches(data, needs)]
    if not batches:
        raise ValueError(f"`data` must hold at least one batch. Received: data={data!r}.")
    teacher, student, labels = zip(*batches, strict=True)
    features = {TEACHER: np.concatenate(teacher), STUDENT: np.concatenate(student)}
    if labels[0] is None:
        return features, None
    return features, np.concatenate([keras.ops.convert_to_numpy(part) for part in labels])


def _batches(data: Any, needs: Needs) -> Iterator[tuple[Any, Any]]:
    for batch in _pieces(data):
        whole = batch if isinstance(batch, (list, tuple)) else (batch,)
        if not 1 <= len(whole) <= 3:
            raise ValueError(
                "`data` must hold pairs, or tuples (pair, labels) or (pair, labels, weights). "
                f"Received: data={type(data).__name__} with {len(whole)} parts."
            )
        try:
            check_pair(whole[0], needs)
        except ValueError as error:
            raise ValueError(f"`data` must hold pairs. {error}") from error
        yield keras.utils.unpack_x_y_sample_weight(tuple(whole))[:2]


def _pieces(data: Any) -> Iterator[Any]:
    if is_pair(data) or isinstance(data, tuple):
        yield data
    elif isinstance(data, (str, bytes, Mapping, type, keras.KerasTensor)) or not (
        _is_py_dataset(data) or hasattr(data, "__iter__")
    ):
        raise ValueError(
            '`data` must be a pair {"teacher": ..., "student": ...}, a tuple of it and labels, or '
            f"a data set of such batches. Received: data={data!r}."
        )
    else:
        # Older versions of Keras iterate over a `PyDataset` without an end.
        pieces = map(data.__getitem__, range(len(data))) if _is_py_dataset(data) else data
        yield from pieces


def _is_distiller(source: Any) -> bool:
    return isinstance(source, keras.Model) and hasattr(source, "predict_features")


def _is_py_dataset(data: Any) -> bool:
    return isinstance(data, keras.utils.PyDataset)


def band_similarity(
    source: Any,
    data: Any = None,
    *,
    labels: Any = None,
    cutoff: float | None = None,
    axis: Axis | None = None,
    shuffles: int = 5,
    seed: int = 0,
) -> SimilarityReport:
    """Return the mean cosine similarity of low band, high band and raw features across modalities.

    The paper motivates the split by a low band (with DC) that is more similar across modalities
    than the raw features. Read it next to its controls: without DC, the shared mean of non-negative
    features is gone; with the channels shuffled (the same way in both modalities, mean of several
    shuffles), "low" no longer means anything. A similarity that survives neither control says
    nothing about frequency.

    Args:
        source: A `FrequencyDistiller`, or features `{"teacher": array, "student": array}` of equal
            shape `(samples, ..., dim)`.
        data: With a distiller: see `extract_features`. Otherwise `None`.
        labels: Integers, shape `(samples,)`, or one-hot, for the similarities per class. Defaults
            to `None`: those in `data`.
        cutoff: Float in (0, 1), fraction of the spectrum that is low. Defaults to `None`: the
            distiller's, or 0.5.
        axis: Integer, the axis to split, or a tuple of axes, see
            `keras_fdkd.layers.FrequencySplit`. Defaults to `None`: the distiller's, or -1.
        shuffles: Integer >= 1, number of shuffles of the control. Defaults to `5`.
        seed: Integer, seed of the shuffles. Defaults to `0`.

    Returns:
        A `SimilarityReport`.

    Raises:
        ValueError: If an argument is out of its range, or features and data do not fit together.

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
    check_integer("shuffles", shuffles)
    check_integer("seed", seed, 0)
    features = source
    if _is_distiller(source):
        features, found = extract_features(source, data)
        labels = found if labels is None else labels
    elif data is not None:
        raise ValueError(
            "`data` must be `None` unless `source` is a distiller. "
            f"Received: data={type(data).__name__}, source={type(source).__name__}."
        )
    pair = _arrays(features)
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            "Teacher and student features must have the same shape. "
            f"Received: teacher {pair[0].shape}, student {pair[1].shape}."
        )
    if cutoff is None:
        cutoff = 0.5 if isinstance(source, Mapping) else source.frequency.cutoff or 0.5
    if axis is None:
        axis = -1 if isinstance(source, Mapping) else source.frequency.axis
    # Training leaves DC out of both bands; the paper's similarity analysis keeps it in the low one.
    splits = [FrequencySplit(cutoff, axis, include_dc=dc) for dc in (False, True)]
    for split in splits:
        split.build(pair[0].shape)  # An axis or a cutoff that does not fit is refused here.
    axes = axes_of(axis, pair[0].shape)
    samples = {"raw": _cosine(pair, axes), **_bands(pair, splits, axes)}
    rng = np.random.default_rng(seed)
    shuffled = []
    for _ in range(shuffles):
        orders = {one: rng.permutation(pair[0].shape[one]) for one in axes}
        shuffled.append(_bands([_reordered(x, orders) for x in pair], splits, axes))
    for kind in shuffled[0]:
        samples[f"{kind}_shuffled"] = np.mean([bands[kind] for bands in shuffled], axis=0)

    per_class = {}
    if labels is not None:
        labels = class_indices(labels)
        if len(labels) != len(pair[0]):
            raise ValueError(
                "`labels` must hold a label for each sample. "
                f"Received: {len(labels)} labels for {len(pair[0])} samples."
            )
        per_class = {int(c): _means(samples, labels == c) for c in np.unique(labels)}
    return SimilarityReport(_means(samples, slice(None)), per_class, samples)


def _arrays(source: Any) -> list[np.ndarray]:
    """Return the given features of teacher and student in float32."""
    message = (
        '`source` must be a dict {"teacher": array, "student": array} of features, or a '
        f"`FrequencyDistiller`. Received: source={source!r}."
    )
    if not isinstance(source, Mapping) or set(source) != {TEACHER, STUDENT}:
        raise ValueError(message)
    try:
        return [np.asarray(source[side], "float32") for side in (TEACHER, STUDENT)]
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error


def class_indices(labels: Any) -> np.ndarray:
    """Return labels, integers or one-hot, as integers of shape `(samples,)`."""
    if isinstance(labels, keras.KerasTensor):  # NumPy would fail with an obscure message.
        raise ValueError(f"`labels` must be an array. Received: labels={labels!r}.")
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[-1] > 1:
        labels = labels.argmax(-1)
    labels = labels.reshape(-1)
    if labels.dtype.kind not in "biuf" or (labels != np.round(labels)).any():
        raise ValueError(f"`labels` must be integers or one-hot. Received: labels={labels!r}.")
    return labels


def _means(samples: dict[str, np.ndarray], rows: Any) -> dict[str, float]:
    return {kind: float(values[rows].mean()) for kind, values in samples.items()}


def _bands(
    pair: list[np.ndarray], splits: list[FrequencySplit], axes: tuple[int, ...]
) -> dict[str, np.ndarray]:
    (plain, with_dc) = [
        [[keras.ops.convert_to_numpy(band) for band in split(x)] for x in pair] for split in splits
    ]
    return {
        "low_with_dc": _cosine([low for low, _ in with_dc], axes),
        "low": _cosine([low for low, _ in plain], axes),
        # DC is never part of the high band.
        "high": _cosine([high for _, high in plain], axes),
    }


def _reordered(x: np.ndarray, orders: dict[int, np.ndarray]) -> np.ndarray:
    for axis, order in orders.items():
        x = np.take(x, order, axis)
    return x


def _cosine(pair: list[np.ndarray], axes: tuple[int, ...]) -> np.ndarray:
    """Return the cosine similarity along `axes`, averaged over all other axes but the first."""
    # A dead feature is similar to nothing: 0 instead of 0 / 0.
    norms = [np.maximum(np.sqrt((side**2).sum(axes)), 1e-8) for side in pair]
    cosine = (pair[0] * pair[1]).sum(axes) / (norms[0] * norms[1])
    return cosine.reshape(len(cosine), -1).mean(-1)
