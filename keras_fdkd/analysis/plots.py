"""Figures of an experiment: band similarity, learning curves, both modalities in a plane."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fdkd.analysis.similarity import Features, SimilarityReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = ("raw", "low_with_dc", "low", "high")
_SIDES = {"teacher": "o", "student": "x"}


def plot_similarity(reports: Mapping[str, SimilarityReport]) -> "Figure":
    """Draw the mean similarities of several reports, with their shuffled controls.

    Args:
        reports: Reports of `band_similarity` by name, for example before and after distillation.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:
    >>> from keras_fdkd.analysis import band_similarity
    >>> rng = np.random.default_rng(0)
    >>> features = {side: rng.random((20, 16)) for side in ("teacher", "student")}
    >>> plot_similarity({"random": band_similarity(features)}).axes[0].get_ylabel()
    'mean cosine similarity'
    """
    figure, axes = _figure(1, (1.6 + 2.2 * len(reports), 3.6))
    axis = axes[0]
    width = 0.8 / (2 * len(reports))
    for index, (name, report) in enumerate(reports.items()):
        color = f"C{index}"
        for shuffled in (False, True):
            kinds = [kind for kind in _KINDS if not shuffled or f"{kind}_shuffled" in report.mean]
            values = [report.mean[kind + "_shuffled" * shuffled] for kind in kinds]
            places = [_KINDS.index(kind) + (2 * index + shuffled) * width for kind in kinds]
            label = f"{name}, channels shuffled" if shuffled else name
            face = {"facecolor": "none", "hatch": "///"} if shuffled else {"facecolor": color}
            axis.bar(places, values, width, edgecolor=color, label=label, **face)
    axis.axhline(0, color="black", linewidth=0.8)
    centers = np.arange(len(_KINDS)) + width * (len(reports) - 0.5)
    axis.set_xticks(centers, ["raw", "low with DC", "low", "high"])
    axis.set_ylabel("mean cosine similarity")
    figure.legend(loc="outside upper center", ncols=2, fontsize="small")
    return figure


def plot_learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], metric: str
) -> "Figure":
    """Draw a logged metric over the epochs: mean of the runs, band of one standard deviation.

    Args:
        histories: By name of the method, the `history` dicts of its runs (`History.history`).
        metric: A key of these dicts.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:
    >>> runs = {"alone": [{"val_accuracy": [0.1, 0.5]}, {"val_accuracy": [0.2, 0.4]}]}
    >>> plot_learning_curves(runs, "val_accuracy").axes[0].get_xlabel()
    'epoch'
    """
    figure, axes = _figure(1, (5.0, 3.6))
    axis = axes[0]
    for name, runs in histories.items():
        values = np.array([run[metric] for run in runs])
        epochs = np.arange(1, values.shape[1] + 1)
        mean, std = values.mean(0), values.std(0)
        (line,) = axis.plot(epochs, mean, label=name)
        axis.fill_between(epochs, mean - std, mean + std, color=line.get_color(), alpha=0.2)
    axis.set_xlabel("epoch")
    axis.set_ylabel(metric.replace("_", " "))
    axis.legend(fontsize="small")
    return figure


def plot_modalities(
    panels: Mapping[str, Features], labels: Any, *, max_samples: int = 500, seed: int = 0
) -> "Figure":
    """Draw a t-SNE of teacher and student features in one plane, a panel each.

    Args:
        panels: By title (for example "before" and "after"), features
            `{"teacher": array, "student": array}` of shape `(samples, ..., dim)`.
        labels: Integers, shape `(samples,)`: colours.
        max_samples: Integer, at most so many samples are drawn, chosen at random.
            Defaults to `500`.
        seed: Integer, seed of choice and t-SNE. Defaults to `0`.

    Returns:
        A `matplotlib.figure.Figure`. Each side is standardized as a whole first, so that the
        plane shows structure rather than scale.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> features = {side: rng.normal(size=(40, 8)) for side in ("teacher", "student")}
    >>> len(plot_modalities({"before": features}, rng.integers(3, size=40)).axes)
    1
    """
    from sklearn.manifold import TSNE

    labels = np.asarray(labels).reshape(-1)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(labels))[:max_samples])
    figure, axes = _figure(len(panels), (4.2 * len(panels), 4.0))
    for axis, (title, features) in zip(axes, panels.items(), strict=True):
        sides = [np.asarray(features[side])[rows].reshape(len(rows), -1) for side in _SIDES]
        stacked = np.concatenate([(side - side.mean()) / (side.std() + 1e-8) for side in sides])
        plane = TSNE(
            init="pca", perplexity=min(30.0, len(stacked) / 4), random_state=seed
        ).fit_transform(stacked)
        for points, (side, marker) in zip(np.split(plane, 2), _SIDES.items(), strict=True):
            axis.scatter(
                *points.T, c=labels[rows], marker=marker, s=14, cmap="tab10", alpha=0.7, label=side
            )
        axis.set(title=title, xticks=[], yticks=[])
    axes[0].legend(fontsize="small")
    return figure


def _figure(columns: int, size: tuple[float, float]) -> "tuple[Figure, list[Any]]":
    # Figure rather than pyplot: no global state, no window, any thread.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))
