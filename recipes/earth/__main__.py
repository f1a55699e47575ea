"""Satellite picture and relief of the Earth: one teaches the other the climate of each pixel."""

import functools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from keras_fdkd.study import Results
from recipes.earth.data import EarthData, load_earth
from recipes.earth.methods import METHODS
from recipes.earth.pictures import chosen_method, draw_predictions, first_tiles
from recipes.earth.report import contrasts, introduction
from recipes.earth.training import EPOCHS, Rows, make_study, train_students
from recipes.shared.group_folds import group_folds
from recipes.shared.study_command import Direction, chosen_methods, run_directions, study_parser
from recipes.shared.study_report import write_study_report

DIRECTIONS: list[Direction] = [("satellite", "relief"), ("relief", "satellite")]


def main(arguments: list[str] | None = None) -> dict[Direction, Results]:
    """Run the studies of both directions, write the report, and return the results."""
    parser = study_parser("earth", __doc__)
    add = parser.add_argument
    add("--few-labels", type=int, default=20, help="labelled tiles, beside all; 0 for all alone")
    add("--data-folder", type=Path, help="of the four files, in place of the packages")
    options = parser.parse_args(arguments)
    methods = chosen_methods(options.methods, METHODS)
    data = load_earth(options.data_folder)
    splits = group_folds(data.bands, options.splits)
    budgets = [None, options.few_labels] if options.few_labels else [None]
    epochs = options.epochs or EPOCHS
    results = run_directions(
        DIRECTIONS,
        lambda direction: make_study(
            data, direction, methods, splits, budgets, options.seeds, epochs,
            options.trials, options.output / "studies" / "-".join(direction),
        ),
        options.processes,
    )  # fmt: skip
    conclusion = contrasts(results)
    for direction, found in results.items():
        conclusion += _pictures(
            options.output, data, direction, found, splits[0], options.seeds[0], epochs
        )
    path = write_study_report(
        options.output,
        "Earth: climate from the satellite picture and from the relief",
        introduction(data),
        results,
        conclusion,
    )
    print(f"The report is {path}.")
    return results


def _pictures(
    folder: Path,
    data: EarthData,
    direction: Direction,
    results: Results,
    split: Rows,
    seed: int,
    epochs: int,
) -> list[str]:
    """Draw what students predict with the fewest labels; return the lines about it."""
    budget = results.budgets[-1]
    found = chosen_method(results, budget, seed)
    if found is None:
        return []
    name, setting = found
    distil = functools.partial(METHODS[name].make, **setting)
    students = train_students(data, direction, distil, split, budget, seed, epochs)
    tiles = first_tiles(split[2])
    pictures = data.pictures[direction[1]][tiles]
    titles = "student alone", METHODS[name].title
    predictions = {
        title: np.argmax(student.predict(pictures, verbose=0), -1)
        for title, student in zip(titles, students, strict=True)
    }
    figure = draw_predictions(data, tiles, predictions)
    path = folder / f"{'-'.join(direction)}_predictions.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    labels = "all" if budget is None else budget
    return [
        f"## What {direction[1]} predicts, taught by {direction[0]}",
        "",
        f"The first {len(tiles)} tiles of the first test fold, {labels} labels: the student alone, "
        f"and with {METHODS[name].title}, which has the best mean score on the validation folds.",
        "",
        f"![Tiles, their climate, and what is predicted.]({path.name})",
        "",
    ]


if __name__ == "__main__":
    main()
