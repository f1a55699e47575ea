"""What the outputs of a model mean: logits or probabilities."""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_fdkd.graphs import Place, Step, made_by, runs_code_of_keras
from keras_fdkd.views import PICKS, name_of_op

LOGITS, PROBABILITIES = "logits", "probabilities"
SOFTMAX, SIGMOID = "softmax", "sigmoid"
_ROWS = 1000  # of an array that are looked at

_L = keras.layers
_LINEAR = (_L.Dense, _L.EinsumDense, _L.Conv1D, _L.Conv2D, _L.Conv3D, _L.Conv1DTranspose,
           _L.Conv2DTranspose, _L.Conv3DTranspose, _L.DepthwiseConv1D, _L.DepthwiseConv2D,
           _L.SeparableConv1D, _L.SeparableConv2D)  # fmt: skip
# Values stay what they are, or become means or maxima over positions.
_HANDS_ON = (_L.Identity, _L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D,
             _L.GaussianNoise, _L.GaussianDropout, _L.ActivityRegularization, _L.Reshape,
             _L.Flatten, _L.Permute, _L.RepeatVector, _L.Cropping1D, _L.Cropping2D, _L.Cropping3D,
             _L.UpSampling1D, _L.UpSampling2D, _L.UpSampling3D, _L.AveragePooling1D,
             _L.AveragePooling2D, _L.AveragePooling3D, _L.MaxPooling1D, _L.MaxPooling2D,
             _L.MaxPooling3D, _L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D,
             _L.GlobalAveragePooling3D, _L.GlobalMaxPooling1D, _L.GlobalMaxPooling2D,
             _L.GlobalMaxPooling3D)  # fmt: skip
_OPS_HAND_ON = PICKS | {
    "Cast",
    "StopGradient",
    "Clip",
    "Transpose",
    "Moveaxis",
    "Swapaxes",
    "Split",
}
_ARITHMETIC = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative"}
_SQUASHING = {"softmax": SOFTMAX, "sigmoid": SIGMOID}


class Ending(NamedTuple):
    """What ends the computation of an output, as far as it can be determined."""

    meaning: str | None  # "logits", "probabilities", or `None` if it cannot be determined
    by: str = "an unknown layer"  # for messages: "Dense 'head' with softmax"
    kind: str | None = None  # of probabilities: "softmax", "sigmoid" or `None`


def ending_of(place: Place) -> Ending:
    """Return what a tensor of a graph means."""
    step = made_by(place)
    if step is None:
        return Ending(None, "an input")
    operation = step.operation
    while isinstance(operation, _L.TimeDistributed):
        operation = operation.layer
    name = _described(step)
    if not (runs_code_of_keras(operation) and step.inputs):
        return Ending(None, name)
    if isinstance(operation, (_L.Softmax, _L.Activation, *_LINEAR)):
        return _of_activation(step, operation, name)
    op = name_of_op(operation)
    if op in ("Softmax", "Sigmoid", "LogSoftmax"):
        return _of_activation(step, operation, name)
    if op == "Log":
        # The logarithm of softmax is a logit up to a constant; that of sigmoid is not.
        came = ending_of(step.inputs[0])
        known = came.kind == SIGMOID or came.meaning == LOGITS
        return Ending(None if known else LOGITS, name)
    if isinstance(operation, _HANDS_ON) or op in _OPS_HAND_ON or _is_mean(step, op):
        return ending_of(step.inputs[0])
    if isinstance(operation, (_L.Average, _L.Concatenate)):
        return _joined([ending_of(entry) for entry in step.inputs], operation, name)
    if isinstance(operation, (_L.Add, _L.Subtract, _L.Rescaling)) or op in _ARITHMETIC:
        came_all = [ending_of(entry) for entry in step.inputs]
        linear = len(came_all) == 1 or op not in ("Multiply", "Divide", "TrueDivide")
        if linear and all(came.meaning == LOGITS for came in came_all):
            return Ending(LOGITS, name)
    return Ending(None, name)


def look_like_probabilities(array: Any) -> bool:
    """Whether all values are in [0, 1] and sum to 1 along the last axis, of two or more.

    Args:
        array: Recorded outputs or labels, shape `(samples, ..., classes)`. Only the first 1000 rows
            are looked at. Rows of one-hot labels are probabilities too.

    Example:
    >>> look_like_probabilities(np.array([[0.2, 0.8], [1.0, 0.0]]))
    True
    >>> look_like_probabilities(np.array([[0.2, 1.8], [1.0, 0.0]]))
    False
    """
    array = np.asarray(array)
    if array.ndim < 2 or array.shape[-1] < 2 or not array.size:
        return False
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        return False
    # Rows along the last axis; a few samples may hold many of them.
    rows = array[:_ROWS].reshape(-1, array.shape[-1])[:_ROWS].astype("float32")
    inside = bool(np.all((rows >= 0) & (rows <= 1)))  # False for NaN
    return inside and bool(np.all(np.abs(rows.sum(axis=-1) - 1) <= 1e-3))


def _of_activation(step: Step, operation: Any, name: str) -> Ending:
    if isinstance(operation, keras.Layer) and not isinstance(operation, _L.Softmax):
        activation = operation.activation
    else:
        activation = operation
    called = getattr(activation, "__name__", type(activation).__name__).lower()
    own = getattr(activation, "__module__", "").startswith("keras.") or (
        runs_code_of_keras(activation)
    )
    name = f"{name} with {called}" if activation is not operation else name
    if not own:
        return Ending(None, name)
    if called == "linear":
        passes = isinstance(operation, _L.Activation)
        return ending_of(step.inputs[0]) if passes else Ending(LOGITS, name)
    if called in ("log_softmax", "logsoftmax"):
        return Ending(LOGITS, name)
    if called not in _SQUASHING or not _over_last_axis(activation, step):
        return Ending(None, name)
    return Ending(PROBABILITIES, name, _SQUASHING[called])


def _over_last_axis(activation: Any, step: Step) -> bool:
    axis = getattr(activation, "axis", -1)
    return axis in (-1, len(step.output.tensor.shape) - 1)


def _is_mean(step: Step, op: str | None) -> bool:
    """Whether this is a mean over positions, which keeps the last axis."""
    came, made = step.inputs[0].tensor.shape, step.output.tensor.shape
    return op == "Mean" and len(made) > 1 and came[-1] == made[-1]


def _joined(endings: list[Ending], operation: Any, name: str) -> Ending:
    meanings = {ending.meaning for ending in endings}
    kinds = {ending.kind for ending in endings}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind == SOFTMAX and isinstance(operation, _L.Concatenate):
        kind = None  # Each part sums to one, not the whole.
    if len(meanings) > 1:
        return Ending(None, name)
    by = endings[0].by if len(endings) == 1 else f"{name} of {endings[0].by}"
    return Ending(meanings.pop(), by, kind)


def _described(step: Step) -> str:
    if isinstance(step.operation, keras.Layer):
        return f"{type(step.operation).__name__} '{step.path}'"
    # Keras numbers operations of one kind within a process.
    return f"`ops.{step.operation.name.rstrip('0123456789').rstrip('_')}`"
