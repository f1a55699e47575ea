"""Results: what the runs of a study show."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_fdkd.study.advice import Recommendation, advise
from keras_fdkd.study.plots import draw
from keras_fdkd.study.report import write_report
from keras_fdkd.study.row_file import read_rows
from keras_fdkd.study.statistics import Gain, holm
from keras_fdkd.study.summary import Summary
from keras_fdkd.study.tables import print_tables
from keras_fdkd.study.work import NONE, TEACHER

Place = tuple[int, int]
_FAR = 0.1  # A teacher worse by this much cost accuracy in the benchmark.


class Results:
    """The outcome of a `Study`: gains of each method over no distillation, paired over splits.

    `recommend` puts it in words; `table`, `plot` and `report` show it; `summaries` and `gain` give
    the numbers.

    Args:
        rows: One row per run, see `rows.jsonl` in the folder of a study.
        info: What the study was, see `study.json` there.

    Attributes:
        rows: The rows, without those of failed runs.
        failures: Rows of failed runs, each with its traceback.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], info: Mapping[str, Any]) -> None:
        # Of a run that failed and was tried again, the last row counts.
        last = {json.dumps(row["run"], sort_keys=True): row for row in rows}
        self.info = info
        self.rows = [row for row in last.values() if "error" not in row]
        self.failures = [row for row in last.values() if "error" in row]
        self._sign = 1 if info["mode"] == "max" else -1

    @classmethod
    def load(cls, folder: "str | Path") -> "Results":
        """Read the results in the folder of a study, as far as it has run.

        Raises:
            FileNotFoundError: If there is no study.
        """
        info = json.loads((Path(folder) / "study.json").read_text(encoding="utf-8"))
        return cls(read_rows(Path(folder) / "rows.jsonl"), info)

    @property
    def budgets(self) -> list[int | None]:
        """Label budgets, `None` for all labels."""
        return list(self.info["budgets"])

    @property
    def methods(self) -> list[str]:
        """Names of the methods, without `"none"`."""
        return list(self.info["methods"])

    def title(self, method: str) -> str:
        """Return the title of a method."""
        return "no distillation" if method == NONE else self.info["methods"][method]["title"]

    def runs(self, method: str, budget: int | None) -> dict[Place, Mapping[str, Any]]:
        """Return the rows of a method by split and seed."""
        return {
            (row["run"]["split"], row["run"]["seed"]): row
            for row in self.rows
            if (row["run"]["method"], row["run"]["budget"]) == (method, budget)
        }

    def gain(self, method: str, budget: int | None, over: str = NONE, kept: bool = False) -> Gain:
        """Return the improvement of a method over another one, in splits and seeds that both have.

        Args:
            method: Its name.
            budget: Label budget, `None` for all labels.
            over: Name of the other method. Defaults to `"none"`: no distillation.
            kept: Whether to count, in each run, the student with the better validation score: the
                one or the other. Defaults to `False`.
        """
        first, second = self.runs(method, budget), self.runs(over, budget)
        found: dict[int, list[float]] = {}
        scale = 0.0
        for place in sorted(first.keys() & second.keys()):
            mine, other = first[place], second[place]
            scale = max(scale, abs(mine["score"]), abs(other["score"]))
            difference = self._sign * (mine["score"] - other["score"])
            # The plain student is kept, also if they tie, as by `fit_safely`.
            if kept and self._sign * (mine["validation"] - other["validation"]) <= 0:
                difference = 0.0
            found.setdefault(place[0], []).append(difference)
        overlaps = [split["overlap"] for split in self.info["splits"]]
        values = [float(np.mean(values)) for values in found.values()]
        return Gain.of(values, float(np.mean(overlaps)), scale)

    def summaries(self, budget: int | None = None) -> list[Summary]:
        """Return one line for no distillation and for each method with runs for this budget."""
        methods = [name for name in (NONE, *self.methods) if self.runs(name, budget)]
        gains = {name: self.gain(name, budget) for name in methods if name != NONE}
        adjusted = holm({name: gain.p_value() for name, gain in gains.items()})
        return [
            self._summary(name, budget, gains.get(name, Gain((), 0.0)), adjusted.get(name, np.nan))
            for name in methods
        ]

    def _summary(self, name: str, budget: int | None, gain: Gain, adjusted: float) -> Summary:
        runs = self.runs(name, budget)
        of_splits: dict[int, list[float]] = {}
        for (split, _), row in runs.items():
            of_splits.setdefault(split, []).append(row["score"])
        means = [np.mean(values) for values in of_splits.values()]
        chosen = Counter(json.dumps(row["setting"]) for row in runs.values() if "setting" in row)
        failed = [row for row in self.failures if self._is_of(row, name, budget)]
        kept = self.gain(name, budget, kept=True) if name != NONE else Gain((), 0.0)
        return Summary(
            budget=budget,
            method=name,
            title=self.title(name),
            score=float(np.mean([row["score"] for row in runs.values()])),
            spread=float(np.std(means, ddof=1)) if len(means) > 1 else float("nan"),
            gain=gain,
            adjusted_p=adjusted,
            kept=kept,
            setting=json.loads(chosen.most_common(1)[0][0]) if chosen else {},
            tried=max((len(row.get("tried", ())) for row in runs.values()), default=0),
            cost=self._seconds(name, budget) / self._seconds(NONE, budget),
            runs=len(runs),
            expected=len(self.info["splits"]) * len(self.info["seeds"]),
            failed=len(failed),
        )

    def teacher(self, budget: int | None = None) -> tuple[float, float]:
        """Return the teacher's mean score on the test and validation folds; NaN if not known."""
        if self.info.get("given_teacher"):  # Tested once for all budgets.
            budget = self.budgets[0]
        runs = self.runs(TEACHER, budget).values()
        if not runs:
            return float("nan"), float("nan")
        score, validation = (np.mean([row[key] for row in runs]) for key in ("score", "validation"))
        return float(score), float(validation)

    def warnings(self) -> list[str]:
        """Return reasons to trust the figures less, in sentences."""
        found = list(self.info["warnings"])
        if self.failures:
            failed = Counter(row["run"]["method"] for row in self.failures)
            named = ", ".join(f"`{name}` {count}" for name, count in failed.items())
            found.append(f"Runs failed: {named}. Their tracebacks are in `results.failures`.")
        for budget in self.budgets:
            _, teacher = self.teacher(budget)
            alone = [row["validation"] for row in self.runs(NONE, budget).values()]
            # `_FAR` is a difference of shares, such as accuracies.
            bounded = all(0 <= value <= 1 for value in (*alone, teacher)) and self._sign > 0
            if budget is not None and alone and bounded and teacher < np.mean(alone) - _FAR:
                found.append(
                    f"With {budget} labels the teacher's validation score is {teacher:.3g}, the "
                    f"plain student's {np.mean(alone):.3g}: so weak a teacher mostly harms."
                )
        return found

    def recommend(self, margin: float = 0.0) -> Recommendation:
        """Say in words whether to distil, with which method and arguments, for each label budget.

        Args:
            margin: Improvement of the score that is worth the effort. Defaults to `0.0`: any.

        Returns:
            A `Recommendation`, which prints as text.

        Raises:
            ValueError: If `margin` is not a number >= 0, or fewer than two splits have ended.
        """
        return advise(self, margin)

    def table(self) -> None:
        """Print a table for each label budget, with `rich`."""
        print_tables(self)

    def plot(self, kind: str = "gains") -> Any:
        """Draw a picture.

        Args:
            kind: `"gains"`, paired improvements with intervals; `"curves"`, validation scores by
                epoch; `"budgets"`, score against labels; `"cost"`, score against the time of a
                step. Defaults to `"gains"`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: If there is no such picture.
        """
        return draw(self, kind)

    def report(self, path: "str | Path", margin: float = 0.0) -> Path:
        """Write a report in Markdown, with its pictures next to it.

        Args:
            path: Path of the file; its folder is created.
            margin: See `recommend`. Defaults to `0.0`.

        Returns:
            The path.

        Raises:
            ValueError: If `margin` is not a number >= 0.
        """
        return write_report(self, Path(path), margin)

    def _seconds(self, method: str, budget: int | None) -> float:
        rows = self.runs(method, budget).values()
        return float(np.median([row["seconds_per_step"] for row in rows])) if rows else np.nan

    @staticmethod
    def _is_of(row: Mapping[str, Any], method: str, budget: int | None) -> bool:
        return (row["run"]["method"], row["run"]["budget"]) == (method, budget)
