"""Prepare a data set: each sample of the lists into the store, in several processes."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_fdkd.study.processes import Processes, progress
from recipes.published.data_set import PublishedData
from recipes.published.findings import Findings
from recipes.published.items import Listing
from recipes.published.store import BROKEN, DONE, WAITING, Store


@dataclass(frozen=True)
class _Work:
    data: PublishedData
    store: Store


def open_store(data: PublishedData, folder: Path, listing: Listing) -> Store:
    """Return the store of a data set, made if it is not there."""
    settings = {"data set": data.name, **data.settings()}
    return Store(folder, listing.items, data.fields(), settings)


def prepare(data: PublishedData, store: Store, processes: int) -> None:
    """Read what is not in the store yet; what could not be read before is tried again.

    Args:
        data: The data set.
        store: Of all its samples.
        processes: At a time.
    """
    rows = np.flatnonzero(store.state != DONE).tolist()
    with (
        Processes(_read, _Work(data, store), processes) as pool,
        progress(len(rows), "samples", 1) as advance,
    ):
        for _ in pool.run(rows):
            advance()


def _read(work: _Work, row: int) -> None:
    try:
        arrays = work.data.decode(work.store.items[row])
    except ValueError as error:
        # Videos vanish, so files may be missing: the row is marked, and the others are read.
        print(error)
        arrays = None
    work.store.write(row, arrays)


def usable(store: Store, limit: float) -> tuple[np.ndarray, Findings]:
    """Return the rows that are there, and what is missing.

    Args:
        store: Of all samples.
        limit: Fraction of samples that may be broken.

    Raises:
        SystemExit: If samples were not prepared, or more are broken.
    """
    state = store.state
    findings = Findings()
    names = [item.name for item in store.items]
    findings.extend(
        "samples could not be read, left out",
        (names[row] for row in np.flatnonzero(state == BROKEN)),
    )
    if waiting := int((state == WAITING).sum()):
        raise SystemExit(
            f"{waiting} of {len(state)} samples were not prepared: run `prepare` first."
        )
    broken = float((state == BROKEN).mean())
    if broken > limit:
        raise SystemExit(
            f"{100 * broken:.1f} % of the samples could not be read, more than `--missing "
            f"{limit:g}` allows.\n" + "\n".join(findings.lines())
        )
    return np.flatnonzero(state == DONE), findings


def check(data: PublishedData, listing: Listing) -> None:
    """Print what the folder holds: splits, classes, counts beside the published ones, faults."""
    print(f"{data.title}: {data.root}")
    counts = listing.counts()
    print(f"{len(listing.classes)} classes: {'; '.join(_with_counts(listing))}")
    for split in {**data.published, **counts}:
        published = data.published.get(split, "-")
        print(f"{split}: {counts.get(split, 0)} samples (published: {published})")
    findings = Findings()
    for item in listing.items:
        for fault in data.there(item):
            findings.add(fault, item.name)
    faults = [*listing.findings.lines(), *findings.lines()]
    print("\n".join(faults) or "Nothing is missing.")


def _with_counts(listing: Listing) -> list[str]:
    """Return the classes, each with its number of samples unless labels are of pixels."""
    counts = Counter(item.label for item in listing.items)
    if -1 in counts:
        return list(listing.classes)
    return [f"{name} {counts[label]}" for label, name in enumerate(listing.classes)]


def add_preparing(parser: argparse.ArgumentParser, kind: type[PublishedData]) -> None:
    """Add the options of the data, their check and their preparation."""
    add = parser.add_argument
    add("step", nargs="?", choices=["run", "prepare"], default="run",
        help="prepare: read the published files once, which a run needs")  # fmt: skip
    add("--data", type=Path, required=True, help="folder of the published data set")
    add("--prepared", type=Path, default=Path(f"runs/prepared/{kind.name}"),
        help="folder of what is read once; a preparation that was stopped resumes")  # fmt: skip
    add("--check", action="store_true", help="say what the folder holds, and stop")
    add("--missing", type=float, default=kind.missing,
        help="fraction of samples that may be missing or broken")  # fmt: skip
    add("--picture-size", type=int, nargs="+", metavar="PIXELS",
        help="height and width of a model's pictures; the recipe's own")  # fmt: skip


def picture_size(given: Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width of `--picture-size`; of one number both."""
    return None if given is None else (given[0], given[-1])
