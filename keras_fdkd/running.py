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


def give_values() -> None:
    """Let the variables of running models have values: on JAX they hold none during an epoch.

    The next step reads the values again, and so follows what was changed meanwhile.
    """
    if keras.config.backend() == "jax":
        # Else the next step would not see it: https://github.com/keras-team/keras/issues/19054.
        for model in _RUNNING:
            model.jax_state_sync()
