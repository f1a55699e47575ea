"""What the recipes of single experiments share: command line, runs and report."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from keras_fdkd import FrequencyDistiller
from recipes.shared.devices import is_first, spread, start, stop
from recipes.shared.experiment import Experiment, Samples
from recipes.shared.report import Run, print_table, write_report
from recipes.shared.training import train


def run_demo(
    make_experiment: Callable[[Path | None], Experiment],
    name: str,
    description: str | None,
    arguments: list[str] | None,
) -> list[Run]:
    """Train teacher, student alone and distilled student on each seed, and write the report."""
    options = _parse(name, description, arguments)
    start(options.devices)
    first = is_first()
    keras.config.set_dtype_policy(options.precision)
    experiment = make_experiment(options.data_folder)
    direction = experiment.directions()[options.reverse]
    epochs = options.epochs or experiment.epochs
    runs: list[Run] = []
    tests = {}
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not first) as progress:
        for seed in options.seeds:
            folds = experiment.prepare(seed, options.labels)
            tests[seed] = {
                role: folds["test"].inputs[modality]
                for role, modality in zip(("teacher", "student"), direction, strict=True)
            } | {"labels": folds["test"].labels}
            runs += _run_seed(experiment, folds, direction, seed, epochs, options, progress)
    stop()
    if not first:
        return runs
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
    # fmt: off
    add("--labels", choices=["all", "few"], default="all",
        help="few: most training pairs lose their label")
    add("--epochs", type=int, default=0, help="of each model; 0 for the experiment's own number")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a split and a start each")
    add("--cutoff", type=float, default=0.5, help="fraction of the spectrum that is low")
    add("--low-weight", type=float, default=3.0, help="weight of the low band")
    add("--high-weight", type=float, default=1.0, help="weight of the high band")
    add("--align-weight", type=float, default=0.3, help="weight of the shared classifiers")
    add("--devices", type=int, default=1,
        help="to distil on, with JAX or TensorFlow; PyTorch's processes are those of torchrun")
    add("--precision", choices=["float32", "mixed_float16", "mixed_bfloat16"], default="float32",
        help="of all models: Keras's dtype policy")
    # fmt: on
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
    inputs, labels = folds["train"].inputs, folds["train"].labels
    keras.utils.set_random_seed(seed)
    teacher = experiment.build(teacher_side, inputs[teacher_side])
    alone = experiment.build(student_side, inputs[student_side])
    beginning = alone.get_weights()

    def run(method: str, model: keras.Model, trainer: keras.Model, side: str, x: Any) -> Run:
        task = progress.add_task(f"seed {seed}: {method}", total=epochs)
        bar = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: progress.advance(task))
        validation, test = (
            (folds[fold].inputs[side], folds[fold].labels) for fold in ("validation", "test")
        )
        outcome = train(
            trainer, x, labels, validation, test, epochs=epochs, seed=seed, callbacks=[bar]
        )
        return Run(method, seed, model, outcome)

    runs = [
        run("teacher", teacher, teacher, teacher_side, inputs[teacher_side]),
        run("student alone", alone, alone, student_side, inputs[student_side]),
    ]
    with spread(options.devices):
        # Models know the devices that they were made on.
        models = [experiment.build(side, inputs[side]) for side in direction]
        models[0].set_weights(teacher.get_weights())
        models[1].set_weights(beginning)
        distiller = FrequencyDistiller(
            *models,
            cutoff=options.cutoff,
            low_weight=options.low_weight,
            high_weight=options.high_weight,
            align_weight=options.align_weight,
        )
        pairs = {"teacher": inputs[teacher_side], "student": inputs[student_side]}
        distilled = run("distilled", models[1], distiller, student_side, pairs)
    student = experiment.build(student_side, inputs[student_side])
    student.set_weights(models[1].get_weights())
    return [*runs, replace(distilled, model=student)]
