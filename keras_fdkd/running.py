"""Which models are in a step, so that numbers may be changed from a callback."""

import contextlib
from collections.abc import Iterator

import keras

# Not a set: `fit` calls `evaluate`, so a model may be in it twice.
_RUNNING: list[keras.Model] = []


@contextlib.contextmanager
def running(model: keras.Model) -> Iterator[None]:
    """Mark a model as one whose `fit` or `evaluate` runs."""
    _RUNNING.append(model)
    try:
        yield
    finally:
        _RUNNING.remove(model)


def place_of_steps(optimizer: keras.optimizers.Optimizer) -> int | None:
    """Return which of the optimizer's variables counts the training steps, `None` if none does."""
    # By name: with accumulated gradients `iterations` counts updates, not steps.
    places = [i for i, v in enumerate(optimizer.variables) if v.name == "iteration"]
    return places[-1] if places else None


def give_values() -> None:
    """Let the variables of running models have values: on JAX they hold none during an epoch.

    The next step reads the values again, and so follows what was changed meanwhile.
    """
    if keras.config.backend() == "jax":
        # Else the next step would not see it: https://github.com/keras-team/keras/issues/19054.
        for model in _RUNNING:
            model.jax_state_sync()
