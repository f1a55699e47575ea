"""Run many tasks in processes, one row of JSON for each, and go on after an interruption."""

import functools
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# One thread a process, for each backend; set before a process imports it.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; a last line that was cut off by an interruption is left out."""
    if not file.exists():
        return []
    lines = file.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def key_of(row: dict[str, Any]) -> str:
    """Return the key of the task that a row belongs to."""
    return json.dumps(row["task"], sort_keys=True)


def run_all(
    stages: Sequence[Sequence[Any]],
    function: Callable[[Any], dict[str, Any]],
    file: Path,
    processes: int,
) -> list[dict[str, Any]]:
    """Run the tasks that have no row yet and return the rows of all.

    Args:
        stages: Lists of tasks with a `key`; a stage begins when the one before has ended.
        function: From a task to its row, at module level so that processes can import it.
        file: Rows, one a line; a row is on disk before the next task starts.
        processes: How many run at a time, each on a core of its own.

    Raises:
        RuntimeError: After all others have ended, if a task failed; its row is missing then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(file)
    done = {key_of(row) for row in read_rows(file)}
    todo = [[task for task in stage if task.key not in done] for stage in stages]
    os.environ.update({name: value for name, value in ONE_THREAD.items() if name not in os.environ})
    failures = {}
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for core in range(processes):
        cores.put(core)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, speed_estimate_period=600) as progress:
        for number, tasks in enumerate(todo, 1):
            if not tasks:
                continue
            bar = progress.add_task(f"stage {number} of {len(todo)}", total=len(tasks))
            with (
                context.Pool(processes, _pin, (cores,), maxtasksperchild=25) as pool,
                file.open("a") as rows,
            ):
                attempt = functools.partial(_attempt, function)
                for task, row, error in pool.imap_unordered(attempt, tasks):
                    if error:
                        failures[task.key] = error
                        progress.print(f"{task.key}: {error}")
                    else:
                        rows.write(json.dumps(row) + "\n")
                        rows.flush()
                        os.fsync(rows.fileno())
                    progress.advance(bar)
    if failures:
        key, error = next(iter(failures.items()))
        raise RuntimeError(f"{len(failures)} tasks failed, the first: {key}: {error}")
    wanted = {task.key for stage in stages for task in stage}
    return [row for row in read_rows(file) if key_of(row) in wanted]


def _attempt(function: Callable[[Any], dict[str, Any]], task: Any) -> tuple[Any, Any, str]:
    """Return the task with its row, or with what went wrong."""
    try:
        return task, function(task), ""
    except Exception as error:
        return task, None, repr(error)


def _drop_torn_line(file: Path) -> None:
    if file.exists():
        text = file.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole)


def _pin(cores: Any) -> None:
    """Take a free core, and give it back at the end: processes are replaced now and then."""
    core = cores.get()
    Finalize(None, cores.put, (core,), exitpriority=1)
    if hasattr(os, "sched_setaffinity"):  # Linux
        available = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {available[core % len(available)]})
