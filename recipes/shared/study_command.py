"""The command line of recipes that are studies, and the studies of both directions."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from keras_fdkd.study import Method, Results, Study
from recipes.shared.compiled import keep_compiled

Direction = tuple[str, str]


SPLITS = 5


def study_parser(
    name: str, description: str | None, splits: int | str = SPLITS
) -> argparse.ArgumentParser:
    """Return a parser of the options that all such recipes have.

    Args:
        name: Of the recipe, as in `python -m recipes.NAME`.
        description: In the help.
        splits: Default number; `argparse.SUPPRESS` to see whether it was asked for.
    """
    parser = argparse.ArgumentParser(
        f"python -m recipes.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--methods", nargs="+", help="which of the recipe's to run, beside none; all of them")
    add("--splits", type=int, default=splits, help="number of splits")
    add("--seeds", type=int, nargs="+", default=[0], help="of initial weights, in each split")
    add("--trials", type=int, default=3, help="settings that validation chooses from, per method")
    add("--epochs", type=int, default=0, help="of each model; 0 for the recipe's own number")
    add(
        "--processes",
        type=int,
        default=os.cpu_count(),
        help="at a time, each with its share of the cores",
    )
    add("--output", type=Path, default=Path(f"runs/{name}"),
        help="folder of the studies and the report; runs that are there stay")  # fmt: skip
    return parser


def chosen_methods(asked: Sequence[str] | None, known: Mapping[str, Method]) -> dict[str, Method]:
    """Return the methods that were asked for, in the recipe's order.

    Raises:
        SystemExit: If there is no such method.
    """
    if unknown := sorted(set(asked or ()) - set(known)):
        raise SystemExit(f"No such methods: {unknown}. There are: {', '.join(known)}.")
    return {name: method for name, method in known.items() if not asked or name in asked}


def run_directions(
    directions: Sequence[Direction], make_study: Callable[[Direction], Study], processes: int
) -> dict[Direction, Results]:
    """Run the study of each direction and return their results.

    Args:
        directions: Pairs of teacher and student modality.
        make_study: From a direction to its study.
        processes: See `keras_fdkd.study.Study.run`.
    """
    keep_compiled()
    found = {}
    for direction in directions:
        print(f"{direction[0]} teaches {direction[1]}", flush=True)
        found[direction] = make_study(direction).run(processes)
        found[direction].table()
    return found
