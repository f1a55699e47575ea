"""Figures of the benchmark: ranks, paired differences, learning curves, the cutoff sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recipes.benchmark.comparison import Difference
from recipes.benchmark.inference import groups

COLUMNS = 4


def plot_ranks(ranks: Mapping[str, float], distance: float) -> Figure:
    """Draw a critical-difference diagram: mean ranks, bars over those that do not differ.

    Args:
        ranks: Mean rank by method.
        distance: The critical distance.
    """
    names = sorted(ranks, key=ranks.__getitem__)
    count, half = len(names), (len(names) + 1) // 2
    bars = groups(list(ranks.values()), distance)
    first_label = 0.7 + 0.35 * len(bars)
    depth = first_label + 0.62 * half
    figure = Figure(figsize=(9.0, 1.2 + 0.42 * depth), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(1 - 0.38 * (count - 1), count + 0.38 * (count - 1)), ylim=(depth, -2.3))
    axis.axis("off")
    line: dict[str, Any] = {"color": "black", "linewidth": 1.0, "solid_capstyle": "butt"}
    axis.plot([1, count], [0, 0], **line)
    for tick in np.arange(1, count + 0.5, 0.5):
        whole = float(tick).is_integer()
        axis.plot([tick, tick], [0, -0.25 if whole else -0.12], **line)
        if whole:
            axis.text(tick, -0.35, f"{tick:.0f}", ha="center", va="bottom", fontsize=9)
    axis.plot([1, 1 + distance], [-1.5, -1.5], **line)
    for end in (1, 1 + distance):
        axis.plot([end, end], [-1.65, -1.35], **line)
    axis.text(1, -1.75, f"CD = {distance:.2f}", va="bottom", fontsize=9)
    margin = 0.04 * (count - 1)
    axis.text(count + margin, 0, " mean rank\n (1 is best)", va="center", fontsize=9)
    for place, (first, last) in enumerate(bars):
        height = 0.4 + 0.35 * place
        axis.plot([first - 0.03, last + 0.03], [height, height], color="C0", linewidth=4)
    for place, name in enumerate(names):
        left = place < half
        row = place if left else count - 1 - place
        height = first_label + 0.62 * row + 0.3
        edge = 1 - margin if left else count + margin
        rank = ranks[name]
        axis.plot([rank, rank, edge], [0, height, height], color="0.35", linewidth=0.8)
        text = f"{name}  {rank:.2f} " if left else f" {rank:.2f}  {name}"
        axis.text(edge, height, text, ha="right" if left else "left", va="center", fontsize=10)
    return figure


def plot_differences(differences: Mapping[str, Difference], baseline: str) -> Figure:
    """Draw each method's paired difference to a baseline: every setting, and the mean.

    Args:
        differences: By method.
        baseline: What they are to, in words.
    """
    figure = Figure(figsize=(7.0, 1.2 + 0.38 * len(differences)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="black", linewidth=0.8)
    for place, one in enumerate(differences.values()):
        values = 100 * np.array(one.blocks)
        axis.plot(values, np.full(len(values), place), "o", color="0.6", markersize=4, alpha=0.7)
        _mean_bar(axis, one, place)
    axis.set_yticks(range(len(differences)), list(differences))
    axis.set_ylim(len(differences) - 0.5, -0.5)
    axis.set_xlabel(f"test accuracy minus {baseline}, points")
    marks = [
        Line2D([], [], color="C3", marker="D", label="mean, 95% interval"),
        Line2D([], [], color="0.6", marker="o", linestyle="", label="a setting"),
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=2, fontsize="small")
    return figure


def plot_curves(panels: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> Figure:
    """Draw validation accuracy by epoch, a panel for each setting.

    Args:
        panels: By title of the setting and name of the method, an accuracy for each epoch.
        names: Of the methods, in the order of the legend.
    """
    figure, axes = _panels(len(panels), 2.6)
    drawn = set().union(*panels.values())
    styles = {name: f"C{i}" for i, name in enumerate(names) if name in drawn}
    # Not strict: axes fill whole rows, so there may be more of them.
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
        for name, values in curves.items():
            axis.plot(
                np.arange(1, len(values) + 1), 100 * values, color=styles[name], linewidth=1.2
            )
        _scale(axis, [100 * values for values in curves.values()])
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.3)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("validation accuracy, %", fontsize=10)
    handles = [Line2D([], [], color=color, label=name) for name, color in styles.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=10)
    return figure


def plot_cutoffs(
    pooled: Mapping[float, Difference], panels: Mapping[str, Mapping[float, np.ndarray]]
) -> Figure:
    """Draw the cutoff sweep: mean difference to the default, and accuracies in each setting.

    Args:
        pooled: Difference to the default cutoff, by cutoff.
        panels: By title of the setting and cutoff, the test accuracies of the seeds.
    """
    figure, axes = _panels(1 + len(panels), 2.6)
    axis, *others = axes
    axis.axhline(0, color="black", linewidth=0.8)
    for cutoff, one in pooled.items():
        bars = None if np.isnan(one.low) else [[one.mean - one.low], [one.high - one.mean]]
        _bar(axis, cutoff, one.mean, bars)
    axis.set_title("all settings, minus cutoff 1/2, points", fontsize=9)
    for axis, (title, values) in zip(others, panels.items(), strict=False):
        for cutoff, accuracy in values.items():
            spread = accuracy.std(ddof=1) if len(accuracy) > 1 else None
            _bar(axis, cutoff, accuracy.mean(), spread)
        axis.set_title(title + ", %", fontsize=9)
    for axis in axes[: 1 + len(panels)]:
        axis.grid(alpha=0.3)
        axis.set_xticks([1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4], ["1/4", "1/3", "1/2", "2/3", "3/4"])
    figure.supxlabel("cutoff (fraction of the spectrum that is low)", fontsize=10)
    return figure


def _mean_bar(axis: Any, one: Difference, place: int) -> None:
    if not np.isnan(one.low):
        axis.plot([100 * one.low, 100 * one.high], [place, place], color="C3", linewidth=2)
    axis.plot(100 * one.mean, place, "D", color="C3", markersize=6)


def _bar(axis: Any, x: float, y: float, spread: Any) -> None:
    spread = None if spread is None else 100 * np.asarray(spread)
    axis.errorbar(x, 100 * y, yerr=spread, fmt="o", color="C0", capsize=3, markersize=5)


def _scale(axis: Any, curves: Sequence[np.ndarray]) -> None:
    """Leave the first steep epochs out of the axis, so that the ends can be told apart."""
    late = np.concatenate([values[len(values) // 5 :] for values in curves])
    margin = 0.08 * (np.ptp(late) or 1.0)
    axis.set_ylim(late.min() - margin, late.max() + margin)


def _panels(count: int, height: float) -> tuple[Figure, list[Any]]:
    columns = min(COLUMNS, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + height * lines), layout="constrained")
    axes = list(np.ravel(figure.subplots(lines, columns, squeeze=False)))
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes
