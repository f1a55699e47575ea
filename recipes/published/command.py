"""The command line of the paper's data sets: check, prepare, train, report."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_fdkd.study import Method, Results, Study
from recipes.published.data_set import PublishedData
from recipes.published.findings import Findings
from recipes.published.items import Listing
from recipes.published.methods import ABLATION_ROWS, METHODS, without_classifiers
from recipes.published.prepare import (
    add_preparing,
    check,
    open_store,
    picture_size,
    prepare,
    usable,
)
from recipes.published.protocols import (
    BATCH_SIZE,
    EPOCHS,
    OURS,
    PAPER,
    compile_arguments,
    fit_arguments,
    folds,
)
from recipes.published.report import comparison, write_comparison
from recipes.published.store import Store
from recipes.shared.paper_numbers import SAME
from recipes.shared.study_command import (
    SPLITS,
    Direction,
    chosen_methods,
    run_directions,
    study_parser,
)


def run_published(
    kind: type[PublishedData], description: str | None, arguments: list[str] | None
) -> None:
    """Do what the command line asks for.

    Args:
        kind: The data set.
        description: In the help.
        arguments: Of the command line; `None` for those of the process.
    """
    options = parse(kind, description, arguments)
    try:
        data = kind(options.data, picture_size(options.picture_size), **kind.own_options(options))
        listing = data.listing()
    except (FileNotFoundError, ValueError) as error:  # A wrong folder: no fault of the program.
        raise SystemExit(str(error)) from error
    if options.check:
        check(data, listing)
        return
    store = open_store(data, options.prepared, listing)
    if options.step == "prepare":
        prepare(data, store, options.processes)
        # It tells what is broken; whether that is too much, `run` decides.
        rows, findings = usable(store, limit=1.0)
        print("\n".join([f"{len(rows)} samples are there.", *findings.lines()]))
        return
    _Runs(data, listing, store, options).run()


def parse(
    kind: type[PublishedData], description: str | None, arguments: list[str] | None
) -> argparse.Namespace:
    """Return the command line's options."""
    # No default, so that `--splits` beside the published split can be refused.
    parser = study_parser(kind.name, description, argparse.SUPPRESS)
    add_preparing(parser, kind)
    add = parser.add_argument
    add(
        "--protocol",
        choices=[OURS, PAPER],
        default=OURS,
        help="paper: its schedule, with the best epoch on the test set reported beside ours",
    )
    add(
        "--split",
        choices=["published", *(["group"] if kind.has_groups else [])],
        default="published",
        help="group: random splits that keep groups apart, see --splits",
    )
    add(
        "--directions",
        nargs="+",
        metavar="TEACHER-STUDENT",
        default=["-".join(kind.modalities), "-".join(kind.modalities[::-1])],
        help="to run",
    )
    add("--ablation", action="store_true", help="add the rows of the paper's table of parts")
    add(
        "--teacher-backbone",
        help="of KerasHub: an architecture, a preset or its folder; the paper's",
    )
    add("--student-backbone", help="the same of the student")
    add("--batch-size", type=int, default=BATCH_SIZE, help="samples in a batch")
    kind.add_options(parser)
    options = parser.parse_args(arguments)
    if "splits" in options and options.split == "published":
        parser.error("The published split is one: --splits belongs to --split group.")
    options.splits = getattr(options, "splits", SPLITS)
    wrong = [one for one in options.directions if set(one.split("-")) != set(kind.modalities)]
    if wrong:
        first, second = kind.modalities
        parser.error(f"--directions are {first}-{second} and {second}-{first}, not {wrong}.")
    if len(options.directions) > 1 and (options.teacher_backbone or options.student_backbone):
        parser.error("Backbones belong to one direction: name it with --directions.")
    return options


def _exceptions(methods: Mapping[str, Method]) -> list[str]:
    """Return which methods have no weight of their source, as lines of the report."""
    if not ABLATION_ROWS.keys() & methods.keys():
        return []
    return [
        "- Rows of the paper's table of parts (`ablation: ...`, `losses: ...`) have this package's "
        "weights by either protocol: they tell what the parts bring here."
    ]


@dataclass(frozen=True)
class _Runs:
    """The studies of one command, and their report."""

    data: PublishedData
    listing: Listing
    store: Store
    options: argparse.Namespace

    def run(self) -> None:
        rows, broken = usable(self.store, self.options.missing)
        methods = self._methods()
        protocols = [OURS, PAPER] if self.options.protocol == PAPER else [OURS]
        directions: list[Direction] = [
            (one.split("-")[0], one.split("-")[1]) for one in self.options.directions
        ]
        results: dict[tuple[Direction, str], Results] = {}
        for protocol in protocols:
            found = run_directions(
                directions,
                lambda direction, protocol=protocol: self._study(
                    direction, protocol, rows, methods
                ),
                self.options.processes,
            )
            results |= {(direction, protocol): one for direction, one in found.items()}
        # What the paper has a figure of is there, whether it ran or not.
        titles = {name: method.title for name, method in {**METHODS, **methods}.items()}
        titles |= {name: name for name, same in SAME.items() if same in methods}
        path = write_comparison(
            self.options.output,
            self.data.title,
            [*self._introduction(rows, broken), *_exceptions(methods)],
            comparison(results, self.data.columns, titles),
        )
        print(f"Report: {path}")

    def _methods(self) -> dict[str, Method]:
        known = {**METHODS, **(ABLATION_ROWS if self.options.ablation else {})}
        if self.data.has_pixels:
            known = without_classifiers(known)
        return chosen_methods(self.options.methods, known)

    def _study(
        self, direction: Direction, protocol: str, rows: np.ndarray, methods: Mapping[str, Method]
    ) -> Study:
        options, data = self.options, self.data
        items = [self.store.items[row] for row in rows]
        splits = data.split(items, options.split, options.splits)
        # `split` counts the usable samples alone, the store all of them.
        splits = [tuple(rows[fold] for fold in split) for split in splits]
        is_published = "validation" in data.published and options.split == "published"
        there = folds(splits, protocol, len(self.store.items), is_published)
        epochs = options.epochs or EPOCHS
        teacher, student = (
            self._side(*side) for side in zip(direction, ("teacher", "student"), strict=True)
        )
        return Study(
            teacher_inputs=there.source(teacher["inputs"]),
            student_inputs=there.source(student["inputs"]),
            labels=there.taken(self._labels()),
            build_teacher=teacher["build"],
            build_student=student["build"],
            methods=list(methods.items()),
            cv=there.splits,
            augment=data.augment(),
            seeds=options.seeds,
            # By the paper's protocol a method has the weight of its source: its first setting.
            trials=1 if protocol == PAPER else options.trials,
            compile=compile_arguments(len(self.listing.classes), data.has_pixels),
            fit=fit_arguments(epochs, options.batch_size),
            folder=options.output / "studies" / "-".join((*direction, protocol)),
        )

    def _side(self, modality: str, role: str) -> dict[str, Any]:
        backbone = getattr(self.options, f"{role}_backbone") or self.data.backbones[modality]
        data, classes = self.data, len(self.listing.classes)
        return {
            "inputs": data.inputs(modality, backbone, self.store),
            "build": lambda: data.build(modality, backbone, classes),
        }

    def _labels(self) -> np.ndarray:
        if self.data.has_pixels:
            return self.store.array("labels")
        return np.array([item.label for item in self.store.items], "int32")

    def _introduction(self, rows: np.ndarray, broken: Findings) -> list[str]:
        options, data = self.options, self.data
        counts = self.listing.counts()
        sizes = ", ".join(f"{counts[name]} {name}" for name in counts)
        schedule = (
            f"{options.epochs or EPOCHS} epochs of SGD with momentum 0.9, batches of "
            f"{options.batch_size}, and the paper's rate; seeds {options.seeds}."
        )
        return [
            f"{data.source}",
            "",
            f"- {len(rows)} samples ({sizes} in the lists), {len(self.listing.classes)} classes, "
            f"split: {options.split}.",
            *(f"- {line}" for line in (*self.listing.findings.lines(), *broken.lines())),
            *(f"- {note}" for note in data.notes),
            f"- {schedule}",
            "- *Ours, validation chooses*: validation samples, which are not trained on, choose "
            "setting and epoch; the test samples are read once.",
            "- *Ours, best test epoch*, by the paper's protocol: the whole training list is "
            "trained on, each method with the weight of its source, and the best epoch on the "
            "test set is reported, as in the paper. (The paper takes the best of three heads too; "
            "here it is the main one's.) Such a figure is optimistic.",
            "- The teacher sees each training sample once, as in a test, and its outputs are "
            "saved; the paper's teacher sees the sample augmented anew each time."
            if data.augment() is None
            else "- Samples are scaled, cut and mirrored at random while training, alike for "
            "teacher, student and labels.",
        ]
