"""The picture of the demo: what each split gained, and what a student says of emoji."""

import numpy as np
from matplotlib.figure import Figure

from keras_fdkd.study import Results
from recipes.emoji.data import EmojiData

COLUMNS, ROWS = 8, 4
_NAMES = {"none": "alone", "distilled": "with the\nteacher", "control": "wrong\nnames"}


def draw_demo(results: Results, data: EmojiData, test: np.ndarray, answers: np.ndarray) -> Figure:
    """Return the figure.

    Args:
        results: Of the demo's study.
        data: All emoji.
        test: Rows of a test fold, of which the first are shown.
        answers: What a student says of these rows, numbers of categories.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 2.1])
    _draw_splits(left, results)
    _draw_answers(right, data, test, answers)
    return figure


def _draw_splits(figure: Figure, results: Results) -> None:
    """Draw the accuracies of each split, joined by a line, and their mean."""
    axis = figure.subplots()
    [budget] = results.budgets
    scores = np.array([
        [100 * row["score"] for row in results.runs(method, budget).values()] for method in _NAMES
    ])  # fmt: skip
    axis.plot(scores, color="0.75", marker="o", markersize=4)
    axis.plot(scores.mean(1), color="C0", marker="D", linewidth=2.5, label="mean of the splits")
    teacher, _ = results.teacher(budget)
    axis.axhline(100 * teacher, color="C1", linestyle="--", label="the teacher, which reads names")
    axis.set_xticks(range(len(_NAMES)), list(_NAMES.values()))
    axis.set_xlim(-0.4, len(_NAMES) - 0.6)
    axis.set_ylabel("unseen emoji right, %")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, loc="lower left")
    axis.set_title(f"{budget} labels", fontsize=11)


def _draw_answers(figure: Figure, data: EmojiData, test: np.ndarray, answers: np.ndarray) -> None:
    """Draw the first emoji of the test fold, each with the student's answer below."""
    right = answers == data.labels[test]
    figure.suptitle(
        f"the saved student on the first {COLUMNS * ROWS} of {len(test)} unseen emoji "
        f"({100 * right.mean():.0f} % of all right)",
        fontsize=11,
    )
    for place, axis in enumerate(figure.subplots(ROWS, COLUMNS).flat):
        axis.imshow(data.pictures[test[place]])
        axis.set_xticks([])
        axis.set_yticks([])
        color = "C2" if right[place] else "C3"
        for side in axis.spines.values():
            side.set(color=color, linewidth=2)
        name = data.categories[answers[place]].replace(" & ", " &\n", 1)
        axis.set_xlabel(name, fontsize=6, color=color)
