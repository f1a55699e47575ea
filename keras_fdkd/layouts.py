"""How the axes of a tapped tensor are laid out."""

import keras

from keras_fdkd.graphs import Place, made_by, runs_code_of_keras
from keras_fdkd.views import name_of_op

_L = keras.layers
# Layers that may change the order of the axes, or which axis is which.
_LAYERS = (_L.Permute, _L.Reshape, _L.Flatten, _L.RepeatVector, _L.TimeDistributed, _L.RNN,
           _L.Bidirectional, _L.Dense, _L.EinsumDense, _L.Lambda)  # fmt: skip
_OPERATIONS = {"Transpose", "Moveaxis", "Swapaxes", "Reshape", "Einsum", "GetItem"}


def channels_first_by(tensor: keras.KerasTensor) -> str | None:
    """Return the path of the layer that puts the channels of a map or sequence first, or `None`.

    Args:
        tensor: Output of a functional model or of a layer inside it.

    Returns:
        The path of the nearest layer before `tensor` that has a `data_format` of
        `"channels_first"`, unless a layer in between may change the order of the axes.
    """
    rank = len(tensor.shape)
    waiting, seen = [Place(tensor)], set()
    # With two axes, only the channels follow the batch.
    while rank >= 3 and waiting:
        step = made_by(waiting.pop(0))
        if step is None or step.path in seen or len(step.output.tensor.shape) != rank:
            continue
        seen.add(step.path)
        format_ = getattr(step.operation, "data_format", None)
        if format_ == "channels_first":
            return step.path
        if (
            format_ is None
            and runs_code_of_keras(step.operation)
            and not (
                isinstance(step.operation, _LAYERS) or name_of_op(step.operation) in _OPERATIONS
            )
        ):
            waiting += step.inputs
    return None
