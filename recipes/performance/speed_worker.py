"""One measurement of `recipes.performance.speed`, in a process and with a backend of its own."""

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

LIMITED = ("assembly", "growth")  # on one thread


def measure(task: str) -> dict[str, Any]:
    """Run a task and return its figures.

    Args:
        task: `"steps PAIR"`: seconds a step of each trainer, one for each round, interleaved.
            `"memory TRAINER"`: peak bytes of a process that runs ten steps of the ResNets.
            `"plain TRAINER"`: the same, XLA without the compiler of fused operations.
            `"assembly"`: seconds of the terms alone. `"growth"`: the same by sizes.
    """
    kind, _, name = task.partition(" ")
    if kind in LIMITED and hasattr(os, "sched_setaffinity"):
        # Before a backend counts the processors.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if kind == "plain":
        given = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{given} --xla_cpu_use_fusion_emitters=false"
    return _TASKS[kind](name)


def _steps(name: str) -> dict[str, list[float]]:
    import numpy as np

    from recipes.performance.speed_assembly import measure_assembly
    from recipes.performance.speed_models import PAIRS
    from recipes.performance.speed_trainers import (
        ALONE_SET,
        CACHED_SET,
        INDEXED,
        TERMS,
        TWO,
        TWO_LIMIT,
        trainers,
    )

    pair = PAIRS[name]
    makers = trainers(pair)
    if name != "resnet":
        for extra in (ALONE_SET, CACHED_SET, INDEXED, TWO, TWO_LIMIT):
            del makers[extra]
    epochs = {trainer: _epoch(maker, pair.batch_size) for trainer, maker in makers.items()}
    for epoch in epochs.values():
        epoch()  # compiles
        epoch()
    seconds: dict[str, list[float]] = {trainer: [] for trainer in epochs}
    rng = np.random.default_rng(0)
    for _ in range(pair.rounds):
        for trainer in rng.permutation(list(epochs)):  # None always follows the same one.
            seconds[trainer].append(epochs[trainer]() / pair.steps)
    _, *shape = pair.make("student").get_layer(pair.feature).output.shape
    if len(shape) == 1:  # Those of maps and sequences have other terms.
        seconds[TERMS] = measure_assembly(*shape, pair.batch_size)
    return seconds


def _epoch(maker: Callable[[], Any], batch_size: int) -> Callable[[], float]:
    """Return a function that trains for an epoch and returns its seconds."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            # The logs have come to Python by now, so the steps are done.
            self.seconds = time.perf_counter() - self.start

    trainer, x, y = maker()
    clock = Clock()

    def epoch() -> float:
        size = {} if y is None else {"batch_size": batch_size}
        trainer.fit(x, y, shuffle=False, verbose=0, callbacks=[clock], **size)
        return clock.seconds

    return epoch


def _memory(trainer: str) -> dict[str, int]:
    from recipes.performance.speed_models import PAIRS
    from recipes.performance.speed_trainers import trainers

    pair = PAIRS["resnet"]
    epoch = _epoch(trainers(pair)[trainer], pair.batch_size)
    epoch(), epoch()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": peak if sys.platform == "darwin" else 1024 * peak}


def _assembly(_: str) -> dict[str, list[float]]:
    from recipes.performance.speed_assembly import measure_assembly

    _one_thread()
    return {"seconds": measure_assembly()}


def _growth(_: str) -> dict[str, Any]:
    from recipes.performance.speed_assembly import measure_growth

    _one_thread()
    return measure_growth()


def _one_thread() -> None:
    import keras

    if keras.config.backend() == "torch":
        import torch

        torch.set_num_threads(1)


_TASKS = {
    "steps": _steps,
    "memory": _memory,
    "plain": _memory,
    "assembly": _assembly,
    "growth": _growth,
}
