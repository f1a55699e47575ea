"""Which layers and operations only change the view of logits."""

from typing import Any

import keras

from keras_fdkd.graphs import Step, runs_code_of_keras

_L = keras.layers

# Operations of `keras.ops` have no public classes: they are recognized by name.
PICKS = {"GetItem", "Take", "TakeAlongAxis", "Squeeze", "ExpandDims", "Reshape", "Copy"}


def name_of_op(operation: Any) -> str | None:
    """Return the class name of an operation of `keras.ops` or `keras.activations`, else `None`."""
    is_layer = isinstance(operation, keras.Layer)
    return type(operation).__name__ if not is_layer and runs_code_of_keras(operation) else None


def is_view(step: Step) -> bool:
    """Whether a step passes its one input on: picked, reshaped, or changed entry by entry.

    Anything with no weights, one input and an output of the same shape counts: activations, casts,
    dropout, a division by a temperature.
    """
    if len(step.inputs) != 1:
        return False
    # A reshape is a view of the logits only if it keeps the last axis, see below.
    if name_of_op(step.operation) in PICKS - {"Reshape"}:
        return True
    came, made = step.inputs[0].tensor.shape, step.output.tensor.shape
    if isinstance(step.operation, (_L.Reshape, _L.Flatten)) or (
        name_of_op(step.operation) == "Reshape"
    ):
        return came[-1:] == made[-1:]
    return came == made and not getattr(step.operation, "weights", None)
