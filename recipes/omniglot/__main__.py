"""A drawing and its pen: a picture teaches the pen's path which character it is, or the reverse.

The data are Omniglot, which you download: see `--data`.
"""

from collections.abc import Callable
from pathlib import Path

import keras

from keras_fdkd.study import Results, Study
from recipes.omniglot.data import (
    ALPHABETS,
    MODALITIES,
    TASKS,
    OmniglotData,
    few_labels,
    load_omniglot,
    split_by_drawer,
)
from recipes.omniglot.models import FEATURE, build_model
from recipes.omniglot.paths import SPACING, STEPS
from recipes.shared.classification import BATCH_SIZE, compile_arguments
from recipes.shared.study_command import (
    Direction,
    chosen_methods,
    run_directions,
    study_parser,
)
from recipes.shared.study_methods import METHODS
from recipes.shared.study_report import write_study_report

EPOCHS = 30


def main(arguments: list[str] | None = None) -> dict[Direction, Results]:
    """Run the studies of both directions and write their report."""
    parser = study_parser("omniglot", __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True,
        help="folder with images_background and strokes_background, .zip or unpacked, from "
        "https://github.com/brendenlake/omniglot; or with omniglot_small.npz")  # fmt: skip
    add("--task", choices=TASKS, default=TASKS[0], help="what is recognized")
    add("--alphabets", nargs="+", default=ALPHABETS, help="names as published")
    options = parser.parse_args(arguments)
    methods = chosen_methods(options.methods, METHODS)
    data = load_omniglot(options.data, options.alphabets)
    output = options.output / options.task
    epochs = options.epochs or EPOCHS
    budgets = (None, few_labels(data, options.task))

    def make_study(direction: Direction) -> Study:
        build_teacher, build_student = (_builder(data, options.task, side) for side in direction)
        return Study(
            teacher_inputs=data.inputs[direction[0]],
            student_inputs=data.inputs[direction[1]],
            labels=data.labels[options.task],
            build_teacher=build_teacher,
            build_student=build_student,
            methods=list(methods.items()),
            cv=[
                tuple(split_by_drawer(data.drawers, seed).values())
                for seed in range(options.splits)
            ],
            groups=data.drawers,
            label_budgets=budgets,
            seeds=options.seeds,
            trials=options.trials,
            compile=compile_arguments(),
            fit={"epochs": epochs, "batch_size": BATCH_SIZE},
            folder=output / "studies" / "-".join(direction),
        )

    directions = [MODALITIES, MODALITIES[::-1]]
    results = run_directions(directions, make_study, options.processes)
    report = write_study_report(
        output,
        f"A drawing and its pen: the {options.task}",
        _introduction(data, options.task, budgets[1], epochs),
        results,
    )
    print(f"The report is {report}.")
    return results


def _builder(data: OmniglotData, task: str, modality: str) -> Callable[[], keras.Model]:
    shape, classes = data.inputs[modality].shape[1:], len(data.classes[task])
    return lambda: build_model(modality, shape, classes)


def _introduction(data: OmniglotData, task: str, few: int, epochs: int) -> list[str]:
    """Return what is asked, and of which data, splits and models."""
    classes, drawn = data.classes, len(data.drawers)
    return [
        "Does the picture of a drawing teach a model that follows the pen, and the pen one that "
        f"sees the picture? Both name the {task}, one of {len(classes[task])}.",
        "",
        "Data: Omniglot (Lake, Salakhutdinov and Tenenbaum, Science 350, 2015, "
        "https://github.com/brendenlake/omniglot; MIT licence), "
        f"{drawn:,} drawings of {len(classes['character'])} characters from "
        f"{len(classes['alphabet'])} alphabets: {', '.join(classes['alphabet'])}. "
        "A picture is 105 x 105 black or white pixels, of which blocks of 3 x 3 are averaged. A "
        "pen path is a sequence of points (place, way, time, pen on the paper or not), "
        f"{data.lengths.min()} to {data.lengths.max()} of them: {SPACING} pixels apart, and wider "
        f"in drawings that would need more than {STEPS}. A mask keeps what follows the end out.",
        "",
        *_missing(data.missing),
        "Splits: no drawer is in two folds; of 20, 12 are trained on, 3 choose setting and epoch, "
        "5 are tested. Drawers are known by their number in an alphabet: whether two numbers of "
        "two alphabets are one person is not known.",
        "",
        f"Models: 2-D convolutions of pictures, 1-D convolutions of paths, {FEATURE} features, "
        f"{epochs} epochs of Adam. With few labels, {few} training drawings keep theirs and all "
        "pairs stay. Widths, dropout and epochs were chosen in a few tries of the models alone, by "
        "the validation drawers of the first split.",
        "",
    ]


def _missing(names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    return [f"Left out, since there is no pen path: {len(names)} ({', '.join(names)}).", ""]


if __name__ == "__main__":
    main()
