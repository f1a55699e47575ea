"""Processes that train one model together: which one is this, and how many are there?"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras


def process(model: keras.Model | None = None) -> tuple[int, int]:
    """Return the number of this process, and how many train together.

    PyTorch counts those of `torch.distributed.init_process_group`, JAX those of
    `jax.distributed.initialize`, TensorFlow the workers of a `tf.distribute` strategy.

    Args:
        model: On TensorFlow, the model whose strategy is meant. Defaults to `None`: the current
            one.

    Example:
    >>> process()
    (0, 1)
    """
    backend = keras.config.backend()
    if backend == "torch":
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
    elif backend == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    elif backend == "tensorflow":
        import tensorflow as tf

        strategy = tf.distribute.get_strategy() if model is None else model.distribute_strategy
        cluster = strategy.cluster_resolver
        tasks = {} if cluster is None else cluster.cluster_spec().as_dict()
        counts = [len(tasks.get(kind, ())) for kind in ("chief", "worker")]
        if any(counts):
            # The chief comes first, then the workers.
            before = counts[0] if cluster.task_type == "worker" else 0
            return before + (cluster.task_id or 0), sum(counts)
    return 0, 1


def is_first_process(model: keras.Model | None = None) -> bool:
    """Whether this process is the one that writes files, see `process`."""
    return process(model)[0] == 0


def meet() -> None:
    """Wait for the other processes; needed on PyTorch only."""
    if keras.config.backend() == "torch" and process()[1] > 1:
        import torch

        torch.distributed.barrier()


def thrown_away(save: Callable[..., Any], path: Any, **kwargs: Any) -> None:
    """Do the part of `save(path)` for which the first process needs the others; leave no file.

    Keras creates variables when it saves, which TensorFlow's workers must do together.
    """
    if keras.config.backend() == "tensorflow":
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder) / Path(str(path)).name, **kwargs)
