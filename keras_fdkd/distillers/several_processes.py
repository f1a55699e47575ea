"""SeveralProcesses: models that PyTorch processes, or TensorFlow workers, train together."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_fdkd.processes import process


class SeveralProcesses(keras.Model):
    """A model whose training step is shared by all processes.

    PyTorch: the forward pass runs inside `DistributedDataParallel`, which averages gradients: if
    all parts have the same size, a step of all processes equals a step of one process with the
    whole batch. State that a forward pass changes (the statistics of batch normalization) is
    averaged after each step, and metrics, which must be sums as most are, count the samples of all
    processes. `fit` and `evaluate` wait for each other: call them in every process.

    TensorFlow: under `MultiWorkerMirroredStrategy`, which spreads batches itself, this works around
    what fails in Keras 3.15: nested batches, and logs that are scalars
    (https://github.com/keras-team/keras/issues/20585).
    """

    _wrapped: Any = None  # the PyTorch module and what it trains
    _stage: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._stage != "forward":
            return super().__call__(*args, **kwargs)
        self._enter("train")  # The wrapped module calls this method again.
        return self._wrapped[0](*args, **kwargs)

    def make_train_function(self, force: bool = False) -> Any:
        # Before the first step, because its teacher pass comes first.
        if self._are_several("torch"):
            self._wrap()
        return super().make_train_function(force)

    def train_step(self, *args: Any) -> Any:
        if not self._are_several("torch"):
            return self._averaged(super().train_step(*args))
        with self._in_stage("forward"):
            logs = super().train_step(*args)
        _sum([variable.value for variable in self._states()], process()[1])
        return logs

    def zero_grad(self, set_to_none: bool = True) -> None:
        # Keras's PyTorch trainer calls it before each step, and finds LoRA factors by their paths:
        # only those of one side if teacher and student name their layers alike.
        for variable in self.trainable_variables:
            variable.value.grad = None

    def test_step(self, *args: Any) -> Any:
        # PyTorch processes may have different numbers of batches here: they meet at the end.
        with self._in_stage("test"):
            return self._averaged(super().test_step(*args))

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the metrics by name, of the samples of all processes: call it in each of them."""
        if self._stage == "test" or not self._are_several("torch"):
            return self._own_metrics()
        values = [variable.value for variable in self.metrics_variables]
        own = [value.clone() for value in values]
        _sum(values)
        logs = keras.tree.map_structure(ops.copy, self._own_metrics())
        # Each process continues from its own sums.
        for value, before in zip(values, own, strict=True):
            value.data.copy_(before)
        return logs

    def _own_metrics(self) -> dict[str, Any]:
        """Return the metrics as they are in this process."""
        return super().get_metrics_result()

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        # Keras returns the last step's logs, of one process, if some metrics are missing from them,
        # and has no public way to choose which: https://github.com/keras-team/keras/pull/19529.
        found = self.get_metrics_result()
        return {name: found[name] for name in logs} if set(logs) <= set(found) else logs

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # TensorFlow only. With several workers, Keras would average a nested batch over them; it
        # does so before any step, where no public method of a model is called:
        # https://github.com/keras-team/keras/issues/20329.
        if iterator is not None and self._are_several("tensorflow"):
            strategy = self.distribute_strategy
            data_batch = keras.tree.map_structure(
                lambda value: strategy.experimental_local_results(value)[0],
                next(next(iter(iterator))[2]),
            )
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def _are_several(self, backend: str) -> bool:
        return keras.config.backend() == backend and process(self)[1] > 1

    def _averaged(self, logs: Any) -> Any:
        """Return the logs of a step, one value each, in a shape that Keras can average."""
        if not self._are_several("tensorflow"):
            return logs
        return keras.tree.map_structure(lambda value: ops.reshape(value, (1,)), logs)

    @contextlib.contextmanager
    def _in_stage(self, stage: str) -> Iterator[None]:
        self._enter(stage)
        try:
            yield
        finally:
            self._enter(None)

    def _enter(self, stage: str | None) -> None:
        object.__setattr__(self, "_stage", stage)  # Keras's own `__setattr__` is slow.

    def _states(self) -> list[Any]:
        """Return the untrained variables that must be equal in all processes."""
        return [v for v in self.non_trainable_variables if "float" in str(v.dtype)]

    def _wrap(self) -> None:
        """Make the module that averages gradients, and take all weights of the first process."""
        trained = [variable.value for variable in self.trainable_variables]
        if self._wrapped is not None and [*map(id, trained)] == [*map(id, self._wrapped[1])]:
            return
        import torch

        for variable in self.non_trainable_variables:  # PyTorch itself sends the others.
            if "float" in str(variable.dtype):
                torch.distributed.broadcast(variable.value.data, 0)
        # Parts of a student that no loss reaches get no gradient: a static graph allows that.
        wrapped = torch.nn.parallel.DistributedDataParallel(
            _module(super().__call__, trained), static_graph=True
        )
        # As a normal attribute, Keras would make a layer of it.
        object.__setattr__(self, "_wrapped", [wrapped, trained])


def _module(forward: Callable[..., Any], parameters: list[Any]) -> Any:
    import torch

    class Forward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, value in enumerate(parameters):
                self.register_parameter(f"parameter_{number}", value)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

    return Forward()


def _sum(values: list[Any], divisor: int = 1) -> None:
    """Replace tensors by their sums over all processes, divided by `divisor`."""
    import torch

    if not values:
        return
    with torch.no_grad():
        # One exchange for all tensors; float64 keeps counts exact.
        flat = torch.cat([value.reshape(-1).double() for value in values])
        torch.distributed.all_reduce(flat)
        parts = (flat / divisor).split([value.numel() for value in values])
        for value, part in zip(values, parts, strict=True):
            value.copy_(part.reshape(value.shape))
