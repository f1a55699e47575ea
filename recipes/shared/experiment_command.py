"""The command line of single experiments: the studies of both directions, and their report."""

from collections.abc import Callable
from pathlib import Path

import keras

from keras_fdkd.study import Results, Study
from recipes.shared.experiment import Experiment
from recipes.shared.experiment_study import BUDGETS, make_study
from recipes.shared.study_command import Direction, chosen_methods, run_directions, study_parser
from recipes.shared.study_methods import METHODS
from recipes.shared.study_report import write_study_report


def run_experiment(
    load: Callable[[Path | None], Experiment],
    name: str,
    description: str | None,
    arguments: list[str] | None,
) -> dict[Direction, Results]:
    """Run the studies of an experiment and write their report.

    Args:
        load: From the folder of the data, or `None` for their package, to the experiment.
        name: Of the recipe, as in `python -m recipes.NAME`.
        description: In the help.
        arguments: Of the command line; `None` for those of this process.
    """
    parser = study_parser(name, description)
    add = parser.add_argument
    # fmt: off
    add("--budgets", nargs="+", choices=BUDGETS, default=BUDGETS,
        help="few: most training pairs lose their label")
    add("--direction", choices=["both", "forward", "reverse"], default="both",
        help="reverse: the second modality teaches the first")
    add("--precision", choices=["float32", "mixed_float16", "mixed_bfloat16"], default="float32",
        help="of all models: Keras's dtype policy")
    # fmt: on
    add("--data-folder", type=Path, help="folder of the data, if not in their package")
    options = parser.parse_args(arguments)
    methods = chosen_methods(options.methods, METHODS)
    # Before any layer is made, which keeps the policy of that moment.
    keras.config.set_dtype_policy(options.precision)
    experiment = load(options.data_folder)
    epochs = options.epochs or experiment.epochs

    def study(direction: Direction) -> Study:
        return make_study(
            experiment,
            direction,
            methods,
            seeds=range(options.splits),
            budgets=options.budgets,
            epochs=epochs,
            trials=options.trials,
            folder=options.output / "studies" / "-".join(direction),
            starts=options.seeds,
        )

    forward, reverse = experiment.directions()
    asked = {"both": [forward, reverse], "forward": [forward], "reverse": [reverse]}
    results = run_directions(asked[options.direction], study, options.processes)
    introduction = [
        f"Held out: {experiment.held_out}. {len(experiment.classes)} classes, {epochs} epochs of "
        f"Adam on {keras.config.backend()} in {options.precision}. With few labels, "
        f"{experiment.few_labels} training samples keep theirs, and all pairs stay.",
    ]
    report = write_study_report(options.output, experiment.title, introduction, results)
    print(f"The report is {report}.")
    return results
