"""Figures of an experiment: band similarity, learning curves, both modalities in a plane."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fdkd.analysis.similarity import Features, SimilarityReport, class_indices
from keras_fdkd.arguments import check_integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = ("raw", "low_with_dc", "low", "high")
_SIDES = {"teacher": "o", "student": "x"}


def plot_similarity(reports: Mapping[str, SimilarityReport]) -> "Figure":
    """Draw the mean similarities of several reports, with their shuffled controls.

    For example from before and after distillation.

    Args:
        reports: Reports of `band_similarity` by name.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `reports` is not such a dict, or is empty.

    Example:
    >>> from keras_fdkd.analysis import band_similarity
    >>> rng = np.random.default_rng(0)
    >>> features = {side: rng.random((20, 16)) for side in ("teacher", "student")}
    >>> plot_similarity({"random": band_similarity(features)}).axes[0].get_ylabel()
    'mean cosine similarity'
    """
    _check_mapping("reports", reports)
    if not all(isinstance(report, SimilarityReport) for report in reports.values()):
        raise ValueError(
            f"`reports` must hold reports of `band_similarity`. Received: reports={reports!r}."
        )
    figure, axes = _figure(1, (1.6 + 2.2 * len(reports), 3.6))
    axis = axes[0]
    # The bars of one kind fill 0.8 of its place, so that a gap parts it from the next.
    width = 0.8 / (2 * len(reports))
    for index, (name, report) in enumerate(reports.items()):
        color = f"C{index}"
        for shuffled in (False, True):
            # "raw" has no such bar: a cosine does not depend on the order of the channels.
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

    For comparing methods, each trained from several seeds.

    Args:
        histories: By name of the method, the `history` dicts of its runs (`History.history`).
        metric: A key of these dicts.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a run has no such metric, or the runs of a method differ in their number
            of epochs.

    Example:
    >>> runs = {"alone": [{"val_accuracy": [0.1, 0.5]}, {"val_accuracy": [0.2, 0.4]}]}
    >>> plot_learning_curves(runs, "val_accuracy").axes[0].get_xlabel()
    'epoch'
    """
    _check_mapping("histories", histories)
    for name, runs in histories.items():
        if not isinstance(runs, Sequence) or not all(isinstance(run, Mapping) for run in runs):
            raise ValueError(
                "`histories` must hold a list of `history` dicts for each method. "
                f"Received: {name!r} with {runs!r}."
            )
        if not isinstance(metric, str) or not all(metric in run for run in runs):
            raise ValueError(
                "`metric` must be a key of every `history` dict. "
                f"Received: metric={metric!r} for {name!r} with {[sorted(run) for run in runs]}."
            )
        lengths = {len(run[metric]) for run in runs}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(
                "`histories` must hold runs of one number of epochs for each method. "
                f"Received: {name!r} with {sorted(lengths)} epochs."
            )
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
    """Draw a t-SNE of teacher and student features in one plane, in one panel each.

    For seeing whether the classes of both modalities come to lie together.

    Args:
        panels: By title (for example "before" and "after"), features
            `{"teacher": array, "student": array}` of shape `(samples, ..., dim)`.
        labels: Integers, shape `(samples,)`, or one-hot: they decide the colors.
        max_samples: Integer, at most this many samples are drawn, chosen at random. Defaults to
            `500`.
        seed: Integer, seed of the choice and of t-SNE. Defaults to `0`.

    Returns:
        A `matplotlib.figure.Figure`. Each side is first standardized as a whole, so that the plane
        shows structure rather than scale.

    Raises:
        ValueError: If an argument is out of its range, or labels and features differ in length.

    Example:
    >>> rng = np.random.default_rng(0)
    >>> features = {side: rng.normal(size=(40, 8)) for side in ("teacher", "student")}
    >>> len(plot_modalities({"before": features}, rng.integers(3, size=40)).axes)
    1
    """
    _check_mapping("panels", panels)
    check_integer("max_samples", max_samples, 2)
    check_integer("seed", seed, 0)
    labels = class_indices(labels)
    for title, features in panels.items():
        given = features if isinstance(features, Mapping) else {}
        lengths = {side: np.shape(given[side])[:1] for side in given}
        if set(given) != set(_SIDES) or set(lengths.values()) != {labels.shape}:
            raise ValueError(
                '`panels` must hold features {"teacher": array, "student": array} with a sample '
                f"for each of the `labels`. Received: {len(labels)} labels, and {title!r} with "
                f"{lengths}."
            )
    # Here, because the other figures do not need scikit-learn, an extra.
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(seed)
    # One choice for all panels, which are there to be compared.
    rows = np.sort(rng.permutation(len(labels))[:max_samples])
    figure, axes = _figure(len(panels), (4.2 * len(panels), 4.0))
    for axis, (title, features) in zip(axes, panels.items(), strict=True):
        sides = [np.asarray(features[side])[rows].reshape(len(rows), -1) for side in _SIDES]
        stacked = np.concatenate([(side - side.mean()) / (side.std() + 1e-8) for side in sides])
        # 30 is scikit-learn's default, and a perplexity must be below the number of points.
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


def _check_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"`{name}` must be a dict that is not empty. Received: {name}={value!r}.")


def _figure(columns: int, size: tuple[float, float]) -> "tuple[Figure, list[Any]]":
    # Figure rather than pyplot: no global state, no window, any thread.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    # matplotlib returns a single panel without an array around it.
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))
