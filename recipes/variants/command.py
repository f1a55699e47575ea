"""Variants of the bands, compared on validation folds alone: what was tried to improve them.

No test fold is read here. The table gives the best validation accuracy minus that of the student
alone, in points, mean over the seeds.
"""

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from keras_fdkd.study.processes import Processes, progress
from keras_fdkd.study.row_file import append_row, read_rows
from recipes.variants.listed import VARIANTS
from recipes.variants.report import report
from recipes.variants.trial import Trial, run_safely, task, trials

TEACHERS = Path("runs/cache/teachers")


def main(arguments: list[str] | None = None) -> None:
    """Run the trials that are missing and write the tables of all rows that are there."""
    parser = argparse.ArgumentParser("python -m recipes.variants", description=__doc__)
    add = parser.add_argument
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="which")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="splits")
    add("--processes", type=int, default=os.cpu_count(), help="at a time")
    add("--output", type=Path, default=Path("runs/variants"), help="folder")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "rows.jsonl"
    # Trials that failed are run again, and so are those of other options or another backend.
    done = [row["task"] for row in _current(read_rows(file))]
    todo = [one for one in trials(options.variants, options.seeds) if task(one) not in done]
    with (
        Processes(run_safely, TEACHERS, options.processes) as processes,
        progress(len(todo), "trials", 1) as advance,
    ):
        for row in processes.run(todo):
            append_row(file, row)
            advance()
    rows = _current(read_rows(file))
    text = "\n".join([f"# {__doc__}", *report(rows)])
    (options.output / "variants.md").write_text(text)
    if len(rows) < len(done) + len(todo):
        raise SystemExit(f"{len(done) + len(todo) - len(rows)} trials failed: see {file}.")


def _current(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that did not fail and that this backend and these variants would give."""
    names = [field.name for field in fields(Trial)]
    return [
        row
        for row in rows
        if "error" not in row
        and row["task"]["variant"] in VARIANTS
        and row["task"] == task(Trial(**{name: row["task"][name] for name in names}))
    ]
