"""The rows of a benchmark by method, setting and seed, and which of them can be compared."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

NONE = "none"
BUDGETS = ("all", "few")
Row = dict[str, Any]


class Block(NamedTuple):
    """What methods are compared in: one experiment, direction and label budget."""

    experiment: str
    teacher: str
    student: str
    budget: str

    @property
    def title(self) -> str:
        """The block in words, without the budget."""
        return f"{self.experiment}: {self.teacher} → {self.student}"


def is_ours(method: str) -> bool:
    """Return whether a method is the package's own, and so no baseline."""
    return method.startswith(("published", "ours"))


def is_ablation(method: str) -> bool:
    """Return whether rows of this name belong to the paper's own tables."""
    return method.startswith(("ablation: ", "losses: ", "cutoff: "))


class Results:
    """Rows by method, block and seed.

    Args:
        rows: As `recipes.benchmark.studies.benchmark_rows` returns them. Some may be missing.
        order: Methods in the order of the tables, all kinds; others follow.

    Raises:
        ValueError: If rows are not comparable: one method twice, or several numbers of epochs.
    """

    def __init__(self, rows: Iterable[Row], order: Sequence[str] = ()) -> None:
        self._runs: dict[tuple[str, Block], dict[int, Row]] = {}
        blocks, methods, seeds, epochs = set(), set(), set(), set()
        alone: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            task = row["task"]
            block = Block(*(task[name] for name in Block._fields))
            runs = self._runs.setdefault((task["method"], block), {})
            if task["seed"] in runs:
                raise ValueError(
                    "A method may have one row for each setting and seed. "
                    f"Received: several of {task['method']!r}, {block}, seed {task['seed']}."
                )
            runs[task["seed"]] = row
            methods.add(task["method"])
            seeds.add(task["seed"])
            epochs.add(task["epochs"])
            if task["method"] == NONE:
                alone.setdefault((block.experiment, block.budget), set()).add(block.student)
            else:
                blocks.add(block)
        if len(epochs) > 1:
            raise ValueError(
                "All rows must have the same `epochs`. Keep those of one run of the benchmark. "
                f"Received: epochs={sorted(epochs)}."
            )
        # Students alone name no teacher: any two modalities are a setting to show them in.
        if not blocks:
            for (experiment, budget), modalities in alone.items():
                for teacher, student in itertools.permutations(modalities, 2):
                    blocks.add(Block(experiment, teacher, student, budget))
        names = sorted(methods, key=lambda n: (order.index(n) if n in order else len(order), n))
        self.blocks = sorted(
            blocks, key=lambda b: ((*BUDGETS, b.budget).index(b.budget), b.experiment, b.teacher)
        )
        self.methods = [name for name in names if not is_ablation(name)]
        self.ablations = [name for name in names if is_ablation(name)]
        self.seeds = sorted(seeds)

    def runs(self, method: str, block: Block) -> dict[int, Row]:
        """Return a method's rows by seed; those without a teacher serve every teacher."""
        return self._runs.get((method, block._replace(teacher="") if method == NONE else block), {})

    def teacher(self, block: Block) -> dict[int, Row]:
        """Return the rows of the teacher by itself."""
        return self._runs.get((NONE, block._replace(teacher="", student=block.teacher)), {})

    def values(
        self,
        method: str,
        block: Block,
        name: str = "test_accuracy",
        seeds: Iterable[int] | None = None,
    ) -> np.ndarray:
        """Return one figure of the rows, all or those of some seeds, in the seeds' order."""
        runs = self.runs(method, block)
        return np.array([runs[seed][name] for seed in sorted(runs if seeds is None else seeds)])

    def shared(self, methods: Sequence[str], block: Block) -> tuple[list[str], list[int]]:
        """Return which methods can be compared in a block at once, and the seeds all of them have.

        A method with less than half of the seeds is left out, rather than the seeds it lacks; so
        are others, one by one, until there is a seed in common.
        """
        seeds = {method: set(self.runs(method, block)) for method in methods}
        most = max(map(len, seeds.values()), default=0)
        kept = [method for method in methods if seeds[method] and 2 * len(seeds[method]) >= most]

        def common(names: Sequence[str]) -> set[int]:
            return set.intersection(*(seeds[name] for name in names)) if names else set()

        while kept and not common(kept):
            without = {m: len(common([name for name in kept if name != m])) for m in kept}
            kept.remove(max(kept, key=lambda m: (without[m], -len(seeds[m]))))
        return kept, sorted(common(kept))

    def best_baseline(self, block: Block) -> str | None:
        """Return the method other than ours with the best mean validation accuracy."""
        methods, seeds = self.shared([m for m in self.methods if not is_ours(m)], block)
        return max(
            methods,
            key=lambda m: self.values(m, block, "validation_accuracy", seeds).mean(),
            default=None,
        )
