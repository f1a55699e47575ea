"""Every method on every experiment, direction, label budget and seed, and a report."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_fdkd.study import Method
from recipes.benchmark.methods import ABLATIONS, METHODS, NONE, THREE, methods_of
from recipes.benchmark.other_pairs import RESULTS
from recipes.benchmark.studies import benchmark_rows
from recipes.shared.compiled import keep_compiled
from recipes.shared.experiment import Experiment
from recipes.shared.experiment_study import BUDGETS, make_study
from recipes.shared.registry import EXPERIMENTS, load_experiment

SEEDS = (0, 1, 2, 3, 4)
TEACHERS = 3
ABLATED = "ours_bands"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        "python -m recipes.benchmark",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    known = [*METHODS, *THREE]
    add("--experiments", nargs="+", default=EXPERIMENTS, choices=EXPERIMENTS, help="which to run")
    add("--methods", nargs="+", default=known, choices=known, help="which to run")
    add("--budgets", nargs="+", default=BUDGETS, choices=BUDGETS, help="labels to train on")
    add("--seeds", type=int, nargs="+", default=SEEDS, help="a split each")
    add("--epochs", type=int, default=0, help="0 for the experiment's own number")
    add("--processes", type=int, default=os.cpu_count(), help="at a time")
    add("--no-ablation", action="store_true", help="leave the paper's ablation rows out")
    add("--output", type=Path, default=Path("runs/benchmark"),
        help="folder of the studies and the report; runs that are there stay")  # fmt: skip
    return parser.parse_args(arguments)


def parts(
    options: argparse.Namespace, experiment: Experiment
) -> Iterator[tuple[str, Mapping[str, Method], tuple[str, ...], int]]:
    """Yield the studies of a direction: name, methods, label budgets, number of teachers."""
    for name, found, count in (("one", methods_of(experiment), 1), ("three", THREE, TEACHERS)):
        if chosen := {key: found[key] for key in found if key in options.methods}:
            yield name, chosen, tuple(options.budgets), count
    if "all" in options.budgets and not options.no_ablation:
        yield "ablation", ABLATIONS, ("all",), 1


def grid(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is to run, as the report names it."""
    found = {}
    for name in options.experiments:
        experiment = load_experiment(name)
        for teacher, student in experiment.directions():
            for part, methods, budgets, _ in parts(options, experiment):
                for method in (NONE, *methods):
                    for budget in budgets:
                        for seed in options.seeds:
                            alone = method == NONE
                            task = {
                                "experiment": name, "teacher": "" if alone else teacher,
                                "student": student, "budget": budget, "method": method,
                                "seed": seed, "epochs": options.epochs,
                                "base": ABLATED if part == "ablation" and not alone else "",
                            }  # fmt: skip
                            # Each part has no distillation too: its rows are expected once.
                            found[json.dumps(task)] = task
    return list(found.values())


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and write the report."""
    from recipes.benchmark.report import write_report

    options = parse(arguments)
    keep_compiled()
    rows: dict[str, dict[str, Any]] = {}
    for name in options.experiments:
        experiment = load_experiment(name)
        for direction in experiment.directions():
            for part, methods, budgets, teachers in parts(options, experiment):
                print(f"{name}: {direction[0]} teaches {direction[1]}, {part}", flush=True)
                study = make_study(
                    experiment, direction, methods, seeds=options.seeds, budgets=budgets,
                    epochs=options.epochs or experiment.epochs, ensemble=teachers,
                    # As many as the longest list, so that no candidate is left out.
                    trials=max(len(method.candidates) for method in methods.values()),
                    folder=options.output / "studies" / "-".join((name, *direction, part)),
                )  # fmt: skip
                results = study.run(options.processes)
                for warning in results.warnings():
                    print(warning)
                base = ABLATED if part == "ablation" else ""
                for row in benchmark_rows(
                    study, experiment, direction, options.seeds, options.epochs, base
                ):
                    # The parts' rows of no distillation are the same task: the first stays.
                    rows.setdefault(json.dumps(row["task"]), row)
    text = "".join(json.dumps(row) + "\n" for row in rows.values())
    (options.output / "rows.jsonl").write_text(text)
    write_report(rows.values(), options.output, tasks=grid(options), others=RESULTS)
    print(f"Report: {options.output / 'report.md'}")
