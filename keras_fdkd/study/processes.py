"""Run jobs in processes, each on its own cores, with a progress bar that shows the time left."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import keras
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keras_fdkd.study.sharing import read_shared, write_shared

# Threads of a process, by the variable that a backend reads when it starts.
_THREADS = {
    "OMP_NUM_THREADS": "{}",
    "OPENBLAS_NUM_THREADS": "{}",
    "TF_NUM_INTRAOP_THREADS": "{}",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads={}",
}
_LOCKS: list[Any] = []  # of cores, held as long as the process lives


class Processes:
    """Processes that share data and functions, or only this one.

    Args:
        function: Module-level function from what is shared and a job to a result.
        shared: What all jobs need. It may hold closures and models.
        n_jobs: Number of processes at a time; with 1 everything runs in this one.
    """

    def __init__(self, function: Callable[[Any, Any], Any], shared: Any, n_jobs: int) -> None:
        self.function, self.shared, self.n_jobs = function, shared, n_jobs
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Processes":
        if self.n_jobs > 1:
            self._folder = Path(self._stack.enter_context(TemporaryDirectory()))
            write_shared(self.shared, self._folder)
            self._stack.enter_context(_environment(max(1, joblib.cpu_count() // self.n_jobs)))
        return self

    def __exit__(self, *error: Any) -> None:
        if self.n_jobs > 1:
            # Other users of joblib here then get their own processes, with all threads.
            get_reusable_executor().shutdown(wait=True, kill_workers=error[0] is not None)
        self._stack.close()

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """Yield the results as they finish.

        Raises:
            RuntimeError: If a process was killed.
        """
        if self.n_jobs == 1:
            for job in jobs:
                yield self.function(self.shared, job)
            return
        settings = {
            "dtype_policy": keras.config.dtype_policy().name,
            "floatx": keras.config.floatx(),
            "image_data_format": keras.config.image_data_format(),
        }
        call = joblib.delayed(_call)
        given = str(self._folder), self.n_jobs, settings, self.function
        # As they end, so that a row is written at once and survives whatever stops the others.
        parallel = joblib.Parallel(self.n_jobs, backend="loky", return_as="generator_unordered")
        try:
            yield from parallel(call(*given, job) for job in jobs)
        except TerminatedWorkerError as error:
            raise RuntimeError(
                "A process was killed, perhaps for want of memory: try fewer `n_jobs`. What ended "
                "before is kept; run again to resume."
            ) from error


def _call(
    folder: str, n_jobs: int, settings: dict[str, str], function: Callable[..., Any], job: Any
) -> Any:
    """Run a job in a process, which sets itself up first."""
    _take_cores(Path(folder), n_jobs)
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
    return function(read_shared(folder), job)


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the variables that new processes inherit; the user's own settings stay."""
    # Before processes start: what they set themselves would come after their imports,
    # https://github.com/joblib/joblib/issues/880.
    new = {name: text.format(threads) for name, text in _THREADS.items() if name not in os.environ}
    new["KERAS_BACKEND"] = keras.config.backend()
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _take_cores(folder: Path, n_jobs: int) -> None:
    """Keep this process on cores that no other process has, if the system can (Linux)."""
    if _LOCKS or not hasattr(os, "sched_setaffinity"):
        return
    import fcntl

    available = sorted(os.sched_getaffinity(0))
    for number in range(n_jobs):
        lock = (folder / f"cores-{number}").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _LOCKS.append(lock)
        if mine := available[number::n_jobs]:
            os.sched_setaffinity(0, mine)
        return


@contextlib.contextmanager
def progress(total: int, title: str, verbose: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left, and give a function that advances it by one."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    # By default no time left is shown if a run takes more than 30 seconds:
    # https://github.com/Textualize/rich/issues/2282.
    with Progress(*columns, disable=not verbose, speed_estimate_period=3600) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
