"""Mouth and sound of spoken sentences: one teaches the other letters, or all words."""

import functools
import sys
from pathlib import Path
from typing import Any

import keras

from keras_fdkd.study import Study
from recipes.grid import prepare
from recipes.grid.corpus import LETTERS, VOCABULARY
from recipes.grid.data import GridData, load_grid
from recipes.grid.methods import STEPS, methods_of
from recipes.grid.metrics import word_error_rate
from recipes.grid.models import build_model
from recipes.shared.study_command import (
    Direction,
    chosen_methods,
    run_directions,
    study_parser,
)
from recipes.shared.study_report import write_study_report

_TASKS = ("letters", "words")
_EPOCHS = 40
_BATCH, _RATE = 16, 3e-3
_FEW = 150  # Six sentences for each letter.
_DIRECTIONS = ("sound-mouth", "mouth-sound")


def main(arguments: list[str] | None = None) -> Path:
    """Run the studies and return the path of their report; or prepare the data for them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Before the parser of the study, which would refuse the options of `prepare`.
    if arguments[:1] == ["prepare"]:
        return prepare.main(arguments[1:])
    parser = study_parser("grid", __doc__)
    parser.epilog = "`python -m recipes.grid prepare --help` tells how to prepare the data."
    add = parser.add_argument
    add("--data", type=Path, required=True, help="prepared file, or the folder that holds one")
    add("--task", choices=_TASKS, default=_TASKS[0], help="what is recognized")
    add("--few-labels", type=int, default=_FEW, help="labelled sentences, beside all")
    add(
        "--directions", nargs="+", choices=_DIRECTIONS, default=_DIRECTIONS, help="who teaches whom"
    )
    options = parser.parse_args(arguments)
    data = load_grid(options.data)
    methods = chosen_methods(options.methods, methods_of(options.task))
    folder = options.output / options.task
    epochs = options.epochs or _EPOCHS

    def make_study(direction: Direction) -> Study:
        teacher, student = direction
        return Study(
            teacher_inputs=data.inputs[teacher],
            student_inputs=data.inputs[student],
            build_teacher=_builder(data, teacher, options.task),
            build_student=_builder(data, student, options.task),
            methods=list(methods.items()),
            cv=options.splits,
            seeds=options.seeds,
            trials=options.trials,
            fit={"epochs": epochs, "batch_size": _BATCH},
            folder=folder / "studies" / "-".join(direction),
            **_task(data, options.task, options.few_labels),
        )

    directions = [
        (teacher, student) for teacher, student in (d.split("-") for d in options.directions)
    ]
    results = run_directions(directions, make_study, options.processes)
    title = f"Mouth and sound of sentences: {options.task}"
    path = write_study_report(folder, title, _introduction(data, options.task, epochs), results)
    print(f"The report is {path}.")
    return path


def _builder(data: GridData, modality: str, task: str) -> "functools.partial[keras.Model]":
    shape = data.inputs[modality]["frames"].shape[1:]
    words = len(VOCABULARY) if task == "words" else None
    return functools.partial(build_model, modality, shape, len(LETTERS), words)


def _task(data: GridData, task: str, few: int) -> dict[str, Any]:
    """Return what of a study belongs to its task: labels, loss, metric."""
    if task == "words":  # Labels of words cannot be hidden: no class of theirs is left out.
        return {
            "labels": data.words,
            "compile": {
                "optimizer": _optimizer,
                "loss": keras.losses.CTC(),
                "metrics": [word_error_rate],
            },
            "mode": "min",
        }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    return {
        "labels": data.letters,
        "label_budgets": (None, few),
        "compile": {"optimizer": _optimizer, "loss": loss, "metrics": ["accuracy"]},
    }


def _optimizer(steps: int) -> keras.optimizers.Optimizer:
    """Adam, with a rate that falls to 0 along a cosine."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_RATE, steps))


def _introduction(data: GridData, task: str, epochs: int) -> list[str]:
    count = len(data.letters)
    asked = {
        "letters": "The letter of each sentence is recognized, one of 25. It is easy to hear and "
        "hard to see: the score is the accuracy.",
        "words": "All six words of each sentence are recognized, from the sequence alone, by "
        "`keras.losses.CTC`. The score is the word error rate (lower is better) of the likeliest "
        "word of each step.",
    }[task]
    lengths = {name: one["frames"].shape[1] for name, one in data.inputs.items()}
    return [
        "Does it help to compare sequences along time, where frequency has a meaning, rather than "
        f"along channels, or not to split them at all? {asked}",
        "",
        f"- **Data**: {count:,} sentences of one speaker of the GRID corpus (Cooke et al., 2006; "
        "[Zenodo 3625687](https://doi.org/10.5281/zenodo.3625687), CC BY 4.0): the mouth, "
        f"28 x 40 gray pixels at 25 pictures a second, up to {lengths['mouth']}, and the sound of "
        f"the same sentence, 40 mel bands at 100 steps a second, up to {lengths['sound']}. "
        "Sequences are padded to the longest and masked.",
        "- **Splits**: random ones of the sentences, of the same speaker: a fifth is tested, and a "
        "fifth of the rest chooses epoch and setting. They tell nothing of other speakers. No two "
        "sentences are the same, but parts of them are.",
        "- **Models**: convolutions over time, for the mouth of the difference of each picture "
        f"from the mean of its sentence. Features are compared after resampling both to {STEPS} "
        f"steps. {epochs} epochs of batches of {_BATCH}, Adam, rate {_RATE:g} falling to 0 along a "
        "cosine. Nets and epochs were chosen in a few tries on the validation sentences of the "
        "first split, which other splits train on or test.",
    ]


if __name__ == "__main__":
    main()
