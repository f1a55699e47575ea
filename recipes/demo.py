"""What the recipes of single experiments share: command line, runs and report."""

import argparse
from collections.abc import Callable
from pathlib import Path

import keras
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from keras_fdkd import FrequencyDistiller
from recipes.experiment import Experiment, Samples
from recipes.report import Run, print_table, write_report
from recipes.training import train


def run_demo(
    make_experiment: Callable[[Path | None], Experiment],
    name: str,
    description: str | None,
    arguments: list[str] | None,
) -> list[Run]:
    """Train teacher, student alone and distilled student on each seed, and write the report."""
    options = _parse(name, description, arguments)
    experiment = make_experiment(options.data_folder)
    direction = experiment.directions()[options.reverse]
    epochs = options.epochs or experiment.epochs
    runs: list[Run] = []
    tests = {}
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for seed in options.seeds:
            folds = experiment.prepare(seed, options.labels)
            tests[seed] = {
                role: folds["test"].inputs[modality]
                for role, modality in zip(("teacher", "student"), direction, strict=True)
            } | {"labels": folds["test"].labels}
            runs += _run_seed(experiment, folds, direction, seed, epochs, options, progress)
    title = f"{experiment.title}; {direction[0]} teaches {direction[1]}"
    settings = {key: str(value) for key, value in vars(options).items() if key != "output"}
    settings |= {
        "epochs": str(epochs),
        "backend": keras.config.backend(),
        "held out": experiment.held_out,
        "labels": f"{options.labels}" if options.labels == "all" else str(experiment.few_labels),
    }
    write_report(options.output, title, settings, runs, tests)
    print_table(runs, title)
    print(f"Report: {options.output / 'report.md'}")
    return runs


def _parse(name: str, description: str | None, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"python -m recipes.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--reverse", action="store_true", help="swap teacher and student modality")
    add("--labels", choices=["all", "few"], default="all",
        help="few: most training pairs lose their label")  # fmt: skip
    add("--epochs", type=int, default=0, help="of each model; 0 for the experiment's own number")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a split and a start each")
    add("--cutoff", type=float, default=0.5, help="fraction of the spectrum that is low")
    add("--low-weight", type=float, default=3.0, help="weight of the low band")
    add("--high-weight", type=float, default=1.0, help="weight of the high band")
    add("--align-weight", type=float, default=0.3, help="weight of the shared classifiers")
    add("--output", type=Path, default=Path(f"runs/{name}"), help="folder of the report")
    add("--data-folder", type=Path, help="folder of the data, if not in their package")
    return parser.parse_args(arguments)


def _run_seed(
    experiment: Experiment,
    folds: dict[str, Samples],
    direction: tuple[str, str],
    seed: int,
    epochs: int,
    options: argparse.Namespace,
    progress: Progress,
) -> list[Run]:
    """Train the three models on one split; both students start from the same weights."""
    teacher_side, student_side = direction
    inputs = folds["train"].inputs
    keras.utils.set_random_seed(seed)
    teacher = experiment.build(teacher_side, inputs[teacher_side])
    alone = experiment.build(student_side, inputs[student_side])
    student = experiment.build(student_side, inputs[student_side])
    student.set_weights(alone.get_weights())
    distiller = FrequencyDistiller(
        teacher,
        student,
        cutoff=options.cutoff,
        low_weight=options.low_weight,
        high_weight=options.high_weight,
        align_weight=options.align_weight,
    )
    teacher.trainable = True  # It learns its own task first; `fit` of the distiller freezes it.
    pairs = {
        role: inputs[side] for role, side in zip(("teacher", "student"), direction, strict=True)
    }
    runs = []
    for method, model, trainer, side, x in (
        ("teacher", teacher, teacher, teacher_side, inputs[teacher_side]),
        ("student alone", alone, alone, student_side, inputs[student_side]),
        ("distilled", student, distiller, student_side, pairs),
    ):
        task = progress.add_task(f"seed {seed}: {method}", total=epochs)
        bar = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, task=task: progress.advance(task)
        )
        validation, test = (
            (folds[fold].inputs[side], folds[fold].labels) for fold in ("validation", "test")
        )
        outcome = train(
            trainer, x, folds["train"].labels, validation, test,
            epochs=epochs, seed=seed, callbacks=[bar],
        )  # fmt: skip
        runs.append(Run(method, seed, model, outcome))
    return runs
