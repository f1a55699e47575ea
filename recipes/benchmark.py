"""Every method on every experiment, direction, label budget and seed, and a report."""

import argparse
import functools
import json
import os
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
# Compiled programs are the same for every seed: JAX keeps them on disk.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path("runs/cache/jax").absolute()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

from recipes.experiments import EXPERIMENTS, load_experiment
from recipes.methods import ABLATIONS, METHODS, applies
from recipes.pool import run_all
from recipes.tasks import TEACHERS, Task, run

BUDGETS = ("all", "few")
SEEDS = (0, 1, 2, 3, 4)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        "python -m recipes.benchmark",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--experiments", nargs="+", default=EXPERIMENTS, choices=EXPERIMENTS, help="which to run")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="which to run")
    add("--budgets", nargs="+", default=BUDGETS, choices=BUDGETS, help="labels to train on")
    add("--seeds", type=int, nargs="+", default=SEEDS, help="a split and a start each")
    add("--epochs", type=int, default=0, help="0 for the experiment's own number")
    add("--processes", type=int, default=os.cpu_count(), help="at a time, one core each")
    add("--no-ablation", action="store_true", help="leave the paper's ablation rows out")
    add("--output", type=Path, default=Path("runs/benchmark"),
        help="folder of rows.jsonl and the report; rows that are there stay")  # fmt: skip
    add("--teachers", type=Path, default=TEACHERS, help="trained teachers")
    return parser.parse_args(arguments)


def grid(options: argparse.Namespace) -> list[list[Task]]:
    """Return the tasks: models alone, which are the teachers too; methods; ablation rows."""
    alone, distilled, ablated = [], [], []
    for seed in options.seeds:  # Seed by seed, so that an early stop leaves whole comparisons.
        for name in options.experiments:
            experiment = load_experiment(name)
            for budget in options.budgets:
                make = functools.partial(
                    Task, name, budget=budget, seed=seed, epochs=options.epochs
                )
                for teacher, student in experiment.directions():
                    alone.append(make("", student, method="none"))
                    for method in options.methods:
                        if method != "none" and applies(METHODS[method], experiment):
                            distilled.append(make(teacher, student, method=method))
                    if budget == "all" and not options.no_ablation:
                        ablated += [
                            make(teacher, student, method=row, base="ours_bands",
                                 settings=(json.dumps(setting),))
                            for row, setting in ABLATIONS.items()
                        ]  # fmt: skip
    return [alone, distilled, ablated]


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and write the report."""
    from recipes.benchmark_report import write_report

    options = parse(arguments)
    stages = grid(options)
    rows = run_all(
        stages,
        functools.partial(run, folder=options.teachers),
        options.output / "rows.jsonl",
        options.processes,
    )
    tasks = [asdict(task) for stage in stages for task in stage]
    write_report(rows, options.output, tasks=tasks)
    print(f"Report: {options.output / 'report.md'}")


if __name__ == "__main__":
    main()
