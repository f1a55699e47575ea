"""Where a recipe's distillation runs: on one device, on several, or in several processes."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import keras

from keras_fdkd.processes import process

# TensorFlow refuses a strategy that is made after other operations:
# https://github.com/tensorflow/tensorflow/issues/30551.
_WORKERS: list[Any] = []  # TensorFlow's strategy, which has to be made before all else


def start(devices: int) -> None:
    """Find the processes that `torchrun` or `TF_CONFIG` speak of, or set up devices.

    To be called before a backend has counted its devices. Without accelerators, the processor
    stands in for as many as are asked for.

    Args:
        devices: How many, on JAX and TensorFlow.

    Raises:
        ValueError: If several are asked for on PyTorch.
    """
    if devices < 1:
        raise ValueError(f"There must be one device or more. Received: devices={devices}.")
    backend = keras.config.backend()
    if backend == "torch":
        if devices > 1:
            raise ValueError(
                "PyTorch spreads work over processes: start them with `torchrun "
                f"--nproc-per-node={devices} -m ...`. Received: devices={devices}."
            )
        if "WORLD_SIZE" in os.environ:
            import torch

            accelerated = torch.cuda.is_available()
            if accelerated:
                # Otherwise every process would work on the first GPU.
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            torch.distributed.init_process_group("nccl" if accelerated else "gloo")
    elif backend == "jax" and devices > 1:
        flag = f"--xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    elif backend == "tensorflow":
        import tensorflow as tf

        if "TF_CONFIG" in os.environ:
            _WORKERS[:] = [tf.distribute.MultiWorkerMirroredStrategy()]
        elif devices > 1 and not tf.config.list_physical_devices("GPU"):
            cpu = tf.config.list_physical_devices("CPU")[0]
            logical = [tf.config.LogicalDeviceConfiguration()] * devices
            tf.config.set_logical_device_configuration(cpu, logical)


@contextlib.contextmanager
def spread(devices: int) -> Iterator[None]:
    """Let what is made and trained here run on so many devices, or on all workers."""
    backend = keras.config.backend()
    if backend == "jax" and devices > 1:
        found = keras.distribution.list_devices()[:devices]
        if len(found) < devices:
            raise ValueError(f"There are {len(found)} devices. Received: devices={devices}.")
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found))
        try:
            yield
        finally:
            keras.distribution.set_distribution(None)
    elif backend == "tensorflow" and (_WORKERS or devices > 1):
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [f"{kind}:{number}" for number in range(devices)]
        strategy = _WORKERS[0] if _WORKERS else tf.distribute.MirroredStrategy(names)
        with strategy.scope():
            yield
    else:
        yield


def is_first() -> bool:
    """Whether this process reports and writes."""
    if _WORKERS:
        return _WORKERS[0].cluster_resolver.task_id == 0
    return process()[0] == 0


def stop() -> None:
    """Leave the processes of PyTorch."""
    if keras.config.backend() == "torch" and "WORLD_SIZE" in os.environ:
        import torch

        torch.distributed.destroy_process_group()
