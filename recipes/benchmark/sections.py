"""Sections of the benchmark's report that compare methods: accuracy, differences, ranks, curves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_fdkd.study.statistics import holm
from recipes.benchmark.comparison import Difference, difference, gains, rank
from recipes.benchmark.inference import critical_distance, friedman
from recipes.benchmark.plots import plot_curves, plot_differences, plot_ranks
from recipes.benchmark.rows import NONE, Block, Results, is_ours
from recipes.shared.markdown import interval, p_value, percent, points, table

BUDGETS = {"all": "All labels", "few": "Few labels"}


class Comparison:
    """Differences of all methods, computed once, and the sections that show them.

    Args:
        results: The rows.
        titles: Of the methods.
    """

    def __init__(self, results: Results, titles: Mapping[str, str]) -> None:
        self.results, self.titles = results, titles
        self.ranking = rank(results)
        self.best = {block: results.best_baseline(block) for block in results.blocks}
        self.to_none = self._differences(lambda block: NONE)
        self.to_best = self._differences(self.best.get)
        self.pooled_none = self._pooled(lambda block: NONE)
        self.pooled_none.pop(NONE, None)
        self.pooled_best = self._pooled(self.best.get)

    def _differences(
        self, reference: Callable[[Block], str | None]
    ) -> dict[tuple[str, Block], Difference]:
        names = (*self.results.methods, *self.results.ablations)
        return {
            (method, block): difference(self.results, method, reference, [block])
            for method in names
            for block in self.results.blocks
        }

    def _pooled(self, reference: Callable[[Block], str | None]) -> dict[str, Difference]:
        results = self.results
        found = {m: difference(results, m, reference, results.blocks) for m in results.methods}
        return {method: one for method, one in found.items() if one.pairs}

    def title(self, method: str | None) -> str:
        """Return a method's title."""
        return "-" if method is None else self.titles.get(method, method)

    def _by_budget(self) -> dict[str, list[Block]]:
        found: dict[str, list[Block]] = {}
        for block in self.results.blocks:
            found.setdefault(BUDGETS.get(block.budget, block.budget), []).append(block)
        return found

    def in_short(self) -> list[str]:
        """Return a table for each budget: what to expect of a method, digits apart."""
        lines = []
        head = ("mean", "median", "worst setting", "better one kept: mean", "its worst", "digits")
        for title, blocks in self._by_budget().items():
            others = [block for block in blocks if block.experiment != "digits"]
            digits = [block for block in blocks if block.experiment == "digits"]
            rows = []
            for method in self.results.methods:
                if method == NONE:
                    continue
                found = gains(self.results, method, others)
                kept = gains(self.results, method, others, kept=True)
                cells = (
                    *(points_of(of, found) for of in (np.mean, np.median, np.min)),
                    *(points_of(of, kept) for of in (np.mean, np.min)),
                    points_of(np.mean, gains(self.results, method, digits)),
                )
                part = f" ({len(found)} of {len(others)})" if len(found) < len(others) else ""
                rows.append((self.title(method) + part, *cells))
            lines += [f"### {title}", "", *table(("method", *head), rows)]
        return lines

    def accuracy(self) -> list[str]:
        """Return test accuracies, methods by settings."""
        count = len(self.results.seeds)
        lines = [
            f"Mean ± standard deviation over {count} seeds, in %; fewer seeds in brackets. The",
            "teacher sees another modality and is no upper bound.",
            "",
        ]
        for title, blocks in self._by_budget().items():
            teachers = [
                np.array([row["test_accuracy"] for row in self.results.teacher(b).values()])
                for b in blocks
            ]
            rows = [("*teacher by itself*", *(percent(values, count) for values in teachers))]
            rows += [
                (self.title(m), *(percent(self.results.values(m, b), count) for b in blocks))
                for m in self.results.methods
            ]
            lines += [f"### {title}", "", *table(("", *(b.title for b in blocks)), rows)]
        return lines

    def to_no_distillation(self, folder: Path) -> list[str]:
        """Return the differences to no distillation, and draw them."""
        if not self.pooled_none:
            return []
        found = [
            _sign(one.low, one.high)
            for (method, _), one in self.to_none.items()
            if method in self.pooled_none and one.pairs
        ]
        methods = sum(
            any(_sign(d.low, d.high) < 0 for b in self.results.blocks if (d := self.to_none[m, b]))
            for m in self.pooled_none
        )
        lines = [
            f"Significantly below no distillation (95% interval of the corrected resampled t test "
            f"wholly below 0): {found.count(-1)} of {len(found)} intervals, in {methods} of "
            f"{len(self.pooled_none)} methods; wholly above: {found.count(1)}. These counts are "
            f"not adjusted for their number: without any difference about {0.025 * len(found):.1f} "
            "would lie on each side.",
            "",
            *self._difference_tables(self.pooled_none, self.to_none),
        ]
        named = {self.title(method): one for method, one in self.pooled_none.items()}
        plot_differences(named, "no distillation").savefig(folder / "differences.png", dpi=120)
        return [*lines, "![paired differences to no distillation](differences.png)", ""]

    def to_best_baseline(self) -> list[str]:
        """Return the differences to each setting's best baseline."""
        ours = [self.title(method) for method in self.results.methods if is_ours(method)]
        lines = [
            "The best baseline of a setting has the highest mean *validation* accuracy of all",
            f"methods except {' and '.join(ours) or 'our own'}, no distillation included; test",
            "accuracies play no part. Its own difference is 0.",
            "",
        ]
        for title, blocks in self._by_budget().items():
            names = [self.title(self.best[block]) for block in blocks]
            head = (title, *(block.title for block in blocks))
            lines += table(head, [("best baseline", *names)])
        return lines + self._difference_tables(self.pooled_best, self.to_best)

    def _difference_tables(
        self, pooled: Mapping[str, Difference], single: Mapping[tuple[str, Block], Difference]
    ) -> list[str]:
        results, total = self.results, len(self.results.blocks)
        adjusted = holm({method: one.p for method, one in pooled.items()})
        rows = []
        for method, one in pooled.items():
            found = [single[method, block] for block in results.blocks]
            signs = [_sign(d.low, d.high) for d in found]
            rows.append((
                self.title(method), f"{len(one.blocks)} of {total}", str(one.pairs),
                interval(one), p_value(one.p), p_value(adjusted[method]),
                *(str(signs.count(sign)) for sign in (-1, 1)),
            ))  # fmt: skip
        head = ("all settings", "settings", "pairs", "difference, points", "p", "p, Holm",
                "below 0", "above 0")  # fmt: skip
        lines = table(head, rows)
        lines += [
            "`below 0` and `above 0` count settings whose 95% interval lies wholly on that side",
            "(▼, ▲). Intervals of a setting are those of the corrected resampled t test.",
            "",
        ]
        for title, blocks in self._by_budget().items():
            cells = [(self.title(m), *(_cell(single[m, b]) for b in blocks)) for m in pooled]
            lines += table((title, *(block.title for block in blocks)), cells)
        return lines

    def ranks(self, folder: Path) -> list[str]:
        """Return the mean ranks with their test, and draw them."""
        ranking, blocks = self.ranking, self.results.blocks
        lines = [
            f"Ranks of the mean test accuracies over the seeds that all ranked methods have "
            f"({_span(ranking.seeds)} a setting), averaged over {len(blocks)} settings.",
            "",
        ]
        if ranking.left_out:
            lines += ["Left out:", ""]
            lines += [f"- {self.title(name)}: {why}" for name, why in ranking.left_out.items()]
            lines += [""]
        if len(ranking.methods) < 2 or not blocks:
            return [*lines, "Fewer than two methods ran in every setting.", ""]
        means = dict(zip(map(self.title, ranking.methods), ranking.ranks.mean(0), strict=True))
        distance = critical_distance(len(means), len(blocks))
        statistic, p = friedman(ranking.accuracy)
        ordered = sorted(means, key=means.__getitem__)
        lines += table(("method", "mean rank"), [(n, f"{means[n]:.2f}") for n in ordered])
        if not np.isnan(p):
            lines += [f"Friedman test: chi-squared {statistic:.1f}, p {p_value(p)}.", ""]
        lines += [
            f"Methods that a bar connects differ by no more than the critical distance "
            f"{distance:.2f} (Nemenyi test at 0.05, {len(means)} methods, {len(blocks)} settings;",
            "Demšar, JMLR 2006). Directions and budgets of one experiment share their samples, so",
            "settings are not independent, and both tests are somewhat too liberal.",
            "",
            "![critical-difference diagram](ranks.png)",
            "",
        ]
        plot_ranks(means, distance).savefig(folder / "ranks.png", dpi=120)
        return lines

    def curves(self, folder: Path) -> list[str]:
        """Draw validation accuracy by epoch for a handful of methods."""
        results, panels = self.results, {}
        ours = {method: self.title(method) for method in results.methods if is_ours(method)}
        order = [self.title(NONE), self.title("kd"), "best baseline", *ours.values()]
        # The budgets of an experiment side by side.
        for block in sorted(results.blocks, key=lambda block: block.experiment):
            best = self.best[block]
            names = {NONE: order[0], "kd": order[1]}
            if best not in (*names, None):
                names[best] = "best baseline"
            names.update(ours)
            methods, seeds = results.shared(list(names), block)
            runs = {m: [results.runs(m, block)[s]["curve"] for s in seeds] for m in methods}
            panel = f"{block.title}\n{block.budget} labels, best baseline: {self.title(best)}"
            panels[panel] = {names[m]: np.mean(curves, 0) for m, curves in runs.items()}
        if not any(panels.values()):
            return []
        plot_curves(panels, order).savefig(folder / "learning_curves.png", dpi=120)
        return [
            "Validation accuracy of the chosen candidate, mean over the seeds that all methods of",
            "a panel have. The first fifth of the epochs may leave the axis.",
            "",
            "![validation accuracy by epoch](learning_curves.png)",
            "",
        ]


def _sign(low: float, high: float) -> int:
    """Return -1 or 1 if an interval lies wholly below or above 0, else 0."""
    return int(low > 0) - int(high < 0)


def points_of(of: Callable[..., float], found: Sequence[float]) -> str:
    """Return a statistic of gains in points, `"-"` without any."""
    return points(float(of(found))) if found else "-"


def _cell(one: Difference) -> str:
    if not one.pairs:
        return "-"
    mark = {-1: " ▼", 0: "", 1: " ▲"}[_sign(one.low, one.high)]
    return interval(one) + mark


def _span(values: Sequence[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return str(low) if low == high else f"{low} to {high}"
