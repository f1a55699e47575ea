"""The demo: few labels, many pairs. Names of emoji teach pictures to tell their group.

160 emoji of some thousand have a label; all have a name and a picture. A student that sees the
pictures is trained three times: alone, with a teacher that reads the names, and, as a control, with
that teacher on names of other emoji. Encoders of names and pictures are frozen; their features are
committed.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from keras_fdkd import FrequencyDistiller, fit_safely
from keras_fdkd.study import Gain, Method, Results, Study
from keras_fdkd.study.labels import UNLABELLED, Labels
from keras_fdkd.study.report import markdown_table
from recipes.emoji.data import EmojiData, load_emoji, split_by_group
from recipes.emoji.experiment import DROPOUT, WIDTH
from recipes.emoji.features import load_features
from recipes.emoji.picture import draw_demo
from recipes.emoji.wrong_pairs import with_wrong_pairs
from recipes.shared.classification import BATCH_SIZE, RATE, adam, compile_arguments, loss
from recipes.shared.models import feature_classifier

TEACHER, STUDENT = "text", "image"
LABELS, EPOCHS = 160, 40
#: None of those that the package's default weights, or this task, were chosen on.
SEEDS = (10, 11, 12, 13, 14)


def _misled(teacher: keras.Model, student: keras.Model) -> keras.Model:
    return FrequencyDistiller(with_wrong_pairs(teacher), student)


METHODS = {
    "distilled": Method(FrequencyDistiller, title="with the teacher"),
    "control": Method(_misled, title="control: wrong names"),
}


def make_study(data: EmojiData, seeds: Sequence[int], epochs: int) -> Study:
    """Return the study of the demo, a split for each seed.

    The rows are shuffled, since neighbours in the list are alike and the control needs others.
    """
    order = np.random.default_rng(0).permutation(len(data.labels))
    features = {side: values[order] for side, values in load_features(data).items()}
    labels, groups = data.labels[order], data.groups[order]
    sizes = {side: values.shape[1] for side, values in features.items()}
    folds = [split_by_group(labels, groups, seed) for seed in seeds]
    classes = len(data.categories)
    return Study(
        teacher_inputs=features[TEACHER],
        student_inputs=features[STUDENT],
        labels=labels,
        build_teacher=lambda: _head(TEACHER, sizes[TEACHER], classes),
        build_student=lambda: _head(STUDENT, sizes[STUDENT], classes),
        methods=list(METHODS.items()),
        cv=[(one["train"], one["validation"], one["test"]) for one in folds],
        label_budgets=[LABELS],
        # The package's defaults: nothing is tuned.
        trials=1,
        compile=compile_arguments(),
        fit={"epochs": epochs, "batch_size": BATCH_SIZE},
    )


def in_words(results: Results) -> list[str]:
    """Return what came out, in three lines."""
    lines = {line.method: line for line in results.summaries(LABELS)}
    alone, distilled, control = lines["none"], lines["distilled"], lines["control"]
    low, high = distilled.gain.interval()
    verdict = "the teacher helps" if low > 0 else "it harms" if high < 0 else "they are level"
    pairs = results.info["splits"][0]["train"]
    return [
        f"From {LABELS} labels alone the student gets {100 * alone.score:.1f} % of unseen emoji "
        f"right, with the teacher {100 * distilled.score:.1f} %: {points(distilled.gain)} points "
        f"over {len(distilled.gain.values)} splits, so {verdict}.",
        f"Both had the same labels. What the teacher adds comes from {pairs - LABELS} pairs "
        "without one: it reads their names, and the student sees their pictures.",
        f"With the names of other emoji the same training gives {points(control.gain)} points.",
    ]


def points(gain: Gain) -> str:
    """Return a gain with its 95 % interval, in percentage points."""
    low, high = gain.interval()
    return f"{100 * gain.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def train_student(data: EmojiData, seed: int, epochs: int) -> keras.Model:
    """Return a student as a user would train it: with the teacher, if validation data say so."""
    features, folds = load_features(data), split_by_group(data.labels, data.groups, seed)
    rows, chosen = folds["train"], folds["validation"]
    labels = Labels.of(data.labels).hidden(rows, LABELS, seed)
    known, unknown = rows[labels != UNLABELLED], rows[labels == UNLABELLED]
    # Each labelled sample is there several times, so that half of a batch has labels.
    rows = np.concatenate([np.resize(known, len(unknown)), unknown])
    labels = np.where(np.arange(len(rows)) < len(unknown), data.labels[rows], UNLABELLED)
    keras.utils.set_random_seed(seed)
    teacher, student = (
        _head(side, features[side].shape[1], len(data.categories)) for side in (TEACHER, STUDENT)
    )
    given = {"epochs": epochs, "batch_size": BATCH_SIZE, "verbose": 0}
    teacher.compile(keras.optimizers.Adam(RATE), loss=loss())
    teacher.fit(features[TEACHER][known], data.labels[known], **given)
    distiller = FrequencyDistiller(teacher, student)
    steps = epochs * -(-len(rows) // BATCH_SIZE)  # `fit` trains on the last, smaller batch too.
    distiller.compile(adam(steps), loss=loss(), metrics=["accuracy"])
    pairs = {"teacher": features[TEACHER][rows], "student": features[STUDENT][rows]}
    validation = features[STUDENT][chosen], data.labels[chosen]
    kept = fit_safely(
        distiller, pairs, labels, validation_data=validation, monitor="val_accuracy", **given
    )
    print(kept)
    return student


def _head(side: str, size: int, classes: int) -> keras.Model:
    return feature_classifier(size, classes, WIDTH, DROPOUT, side)


def main(arguments: list[str] | None = None) -> Results:
    """Run the demo, write its figures and its picture, and save a student."""
    parser = argparse.ArgumentParser(
        "python -m recipes.emoji.demo",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=SEEDS, help="a split each, at least two")
    add("--epochs", type=int, default=EPOCHS, help="of each model")
    add("--processes", type=int, default=os.cpu_count(), help="at a time")
    add("--output", type=Path, default=Path("runs/demo"), help="folder of picture and student")
    options = parser.parse_args(arguments)
    data = load_emoji()
    print(
        f"{len(options.seeds)} splits of {len(data.labels)} emoji; about two minutes on two cores."
    )
    results = make_study(data, options.seeds, options.epochs).run(options.processes)
    results.table()
    with Console().status("The student to save is trained, alone and with the teacher ..."):
        student = train_student(data, options.seeds[0], options.epochs)
    options.output.mkdir(parents=True, exist_ok=True)
    student.save(options.output / "student.keras")
    test = split_by_group(data.labels, data.groups, options.seeds[0])["test"]
    answers = student.predict(load_features(data)[STUDENT][test], verbose=0).argmax(-1)
    draw_demo(results, data, test, answers).savefig(options.output / "demo.png", dpi=120)
    words = in_words(results)
    table = markdown_table(results, LABELS)
    text = "\n".join(["# Names of emoji teach pictures", "", *words, "", *table, ""])
    (options.output / "demo.md").write_text(text, encoding="utf-8")
    print("", *words, "", sep="\n")
    print(f"Picture: {options.output / 'demo.png'}. Student: {options.output / 'student.keras'}")
    return results


if __name__ == "__main__":
    main()
