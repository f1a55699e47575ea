"""Pictures of results."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from keras_fdkd.arguments import check_choice
from keras_fdkd.study.summary import Summary
from keras_fdkd.study.work import NONE

if TYPE_CHECKING:
    from keras_fdkd.study.results import Results

_ALONE = {"color": "black", "linestyle": "--"}


class _Picture(Figure):
    """A figure that notebooks show, without `pyplot` and its list of open figures."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=100)
        return stream.getvalue()


def draw(results: "Results", kind: str) -> Figure:
    """Return a picture, see `keras_fdkd.study.Results.plot`."""
    check_choice("kind", kind, tuple(_KINDS))
    return _KINDS[kind](results)


def _gains(results: "Results") -> Figure:
    """Draw each method's gain, in one panel per budget: every split, mean and interval."""
    figure, axes = _panels(len(results.budgets), 1.4 + 0.45 * len(results.methods))
    for axis, budget in zip(axes, results.budgets, strict=True):
        lines = [line for line in results.summaries(budget) if line.method != NONE]
        axis.axvline(0, color="black", linewidth=0.8)
        for place, line in enumerate(lines):
            values = line.gain.values
            axis.plot(values, [place] * len(values), "o", color="0.6", markersize=4)
            low, high = line.gain.interval()
            if np.isfinite(low):
                axis.plot([low, high], [place, place], color="C0", linewidth=2)
            axis.plot(line.gain.mean, place, "D", color="C0", markersize=6)
        axis.set_yticks(range(len(lines)), [line.title for line in lines])
        # The first method is on top. There is none if all runs failed.
        axis.set_ylim(max(1, len(lines)) - 0.5, -0.5)
        axis.locator_params(axis="x", nbins=5)
        axis.set_title(_labels(budget), fontsize=10)
    figure.supxlabel(
        f"improvement of {results.info['score']} over no distillation: splits, mean, 95 % interval",
        fontsize=9,
    )
    return figure


def _curves(results: "Results") -> Figure:
    """Draw the validation score by epoch, mean over runs, in one panel per budget."""
    figure, axes = _panels(len(results.budgets), 3.2)
    for axis, budget in zip(axes, results.budgets, strict=True):
        for number, method in enumerate((NONE, *results.methods)):
            rows = list(results.runs(method, budget).values())
            if not rows:
                continue
            longest = max(len(row["curve"]) for row in rows)
            curves = np.full((len(rows), longest), np.nan)  # Callbacks may have ended some early.
            for curve, row in zip(curves, rows, strict=True):
                curve[: len(row["curve"])] = row["curve"]
            mean = np.nanmean(curves, 0)
            style = _ALONE if method == NONE else {"color": f"C{number - 1}"}
            axis.plot(np.arange(1, len(mean) + 1), mean, label=results.title(method), **style)
        axis.set_title(_labels(budget), fontsize=10)
        axis.grid(alpha=0.3)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(f"validation {results.info['score']}", fontsize=9)
    return _with_legend(figure, axes)


def _budgets(results: "Results") -> Figure:
    """Draw the score against the number of labels."""
    figure, axes = _panels(1, 3.6)
    # All labels have a place on the axis too, by their number.
    counts = {budget: budget or results.info["labelled"] for budget in results.budgets}
    for number, method in enumerate((NONE, *results.methods)):
        lines = [
            line
            for budget in sorted(counts, key=counts.__getitem__)
            for line in results.summaries(budget)
            if line.method == method
        ]
        style = _ALONE if method == NONE else {"color": f"C{number - 1}"}
        labels = [counts[line.budget] for line in lines]
        scores = [line.score for line in lines]
        axes[0].plot(labels, scores, label=results.title(method), **style)
        for count, line in zip(labels, lines, strict=True):
            axes[0].plot(count, line.score, **_point(line, style["color"]))
    axes[0].set_xscale("log")
    axes[0].set_xlabel("labels in training")
    axes[0].set_ylabel(_test_score(results))
    axes[0].grid(alpha=0.3)
    return _with_legend(figure, axes)


def _cost(results: "Results") -> Figure:
    """Draw the score against the time of a step, in one panel per budget."""
    figure, axes = _panels(len(results.budgets), 3.2)
    for axis, budget in zip(axes, results.budgets, strict=True):
        for line in results.summaries(budget):
            number = -1 if line.method == NONE else results.methods.index(line.method)
            color = "black" if line.method == NONE else f"C{number}"
            axis.plot(line.cost, line.score, label=line.title, **_point(line, color))
        axis.set_title(_labels(budget), fontsize=10)
        axis.grid(alpha=0.3)
    figure.supxlabel("time of a step, no distillation = 1 (a frozen teacher apart)", fontsize=9)
    figure.supylabel(_test_score(results), fontsize=9)
    return _with_legend(figure, axes)


def _point(line: Summary, color: str) -> dict[str, Any]:
    """Return how a score is drawn: hollow if it is of other runs than those of other methods."""
    inside = "white" if line.is_partial else color
    return {"marker": "o", "linestyle": "", "color": color, "markerfacecolor": inside}


def _test_score(results: "Results") -> str:
    partial = any(
        line.is_partial for budget in results.budgets for line in results.summaries(budget)
    )
    return f"test {results.info['score']}" + (" (hollow: runs are missing)" if partial else "")


def _panels(count: int, height: float) -> tuple[Figure, list[Any]]:
    figure = _Picture(figsize=(1.5 + 4.2 * count, height + 0.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _with_legend(figure: Figure, axes: list[Any]) -> Figure:
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="small")
    return figure


def _labels(budget: int | None) -> str:
    return "all labels" if budget is None else f"{budget} labels"


_KINDS: dict[str, Callable[["Results"], Figure]] = {
    "gains": _gains,
    "curves": _curves,
    "budgets": _budgets,
    "cost": _cost,
}
