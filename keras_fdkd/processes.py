"""Processes that train one model together: which one is this, and of how many?"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras


def process() -> tuple[int, int]:
    """Return the number of this process and how many train together.

    PyTorch counts those of `torch.distributed.init_process_group`, JAX those of
    `jax.distributed.initialize`, TensorFlow the workers of the current `tf.distribute` strategy.

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

        cluster = tf.distribute.get_strategy().cluster_resolver
        if cluster is not None and cluster.cluster_spec():
            return cluster.task_id or 0, cluster.cluster_spec().num_tasks("worker")
    return 0, 1


def is_first_process() -> bool:
    """Whether this process is the one that writes files."""
    return process()[0] == 0


def thrown_away(save: Callable[..., Any], path: Any, **kwargs: Any) -> None:
    """Do of `save(path)` what the first process needs the others for, and leave no file.

    Keras creates variables when it saves, which TensorFlow's workers have to do together.
    """
    if keras.config.backend() == "tensorflow":
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder) / Path(str(path)).name, **kwargs)
