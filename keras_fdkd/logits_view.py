"""logits_view: a model that ends in softmax or sigmoid, read before that end."""

import keras
import numpy as np
from keras import ops

from keras_fdkd.features import check_model
from keras_fdkd.graphs import Place, graph_of, runs_its_graph
from keras_fdkd.model_checks import check_preprocessor
from keras_fdkd.outputs import LOGITS, SIGMOID, SOFTMAX, ending_of

# Far below what softmax returns in float32, while its inverse times a gradient is still finite.
_LEAST = 1e-30


def logits_view(model: keras.Model) -> keras.Model:
    """Return a model on the same layers and weights that gives logits instead of probabilities.

    Use it if a distiller refuses your model because it ends in softmax or sigmoid: distillation
    compares logits, and many models, such as those of `keras.applications`, return probabilities.
    For softmax the logits are `log(p)`, which differ from the model's own by a constant in each
    row; softmax does not depend on it. For sigmoid they are `log(p) - log(1 - p)`. Both are finite
    where a probability is 0 or 1, and so are their gradients.

    The view is a plain Keras model made of Keras operations only: it can be saved, and training it
    trains `model`. What the class of `model` adds to training is not part of the view.

    Args:
        model: Built functional or sequential model with one output that ends in softmax over the
            last axis, or in sigmoid.

    Returns:
        A `keras.Model` whose output is float32 if the model's is half precision.

    Raises:
        ValueError: If the model does not end in one of these, or its end cannot be determined.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> view = logits_view(model)
    >>> x = np.ones((2, 4), "float32")
    >>> softmax = ops.convert_to_numpy(ops.softmax(view(x)))
    >>> bool(np.allclose(softmax, ops.convert_to_numpy(model(x)), atol=1e-6))
    True
    """
    check_model(model, "model")
    check_preprocessor(model, "model")
    if not runs_its_graph(model) or len(model.outputs) != 1:
        raise ValueError(
            "`model` must be functional or sequential, with one output. Wrap it as "
            "`keras.Model(inputs, output)` of the output in question, or let its `call` return "
            f"logits. Received: model '{model.name}'."
        )
    (output,) = model.outputs
    end = ending_of(Place(output))
    if end.kind not in (SOFTMAX, SIGMOID):
        fix = (
            "It gives logits as it is: use it itself."
            if end.meaning == LOGITS
            else "Build it with a last layer without activation."
        )
        raise ValueError(
            f"`model` must end in softmax over the last axis or in sigmoid. {fix} "
            f"Received: '{model.name}', which ends in {end.by}."
        )
    logits = _of_softmax(output) if end.kind == SOFTMAX else _of_sigmoid(output)
    return keras.Model(graph_of(model).input, logits, name=f"{model.name}_logits")


def _of_softmax(probabilities: keras.KerasTensor) -> keras.KerasTensor:
    return ops.log(_clipped(probabilities, 1.0))


def _of_sigmoid(probabilities: keras.KerasTensor) -> keras.KerasTensor:
    # -log(exp(-log(p)) - 1) is log(p) - log(1 - p), and stays exact where p is near 1.
    largest = 1.0 - _step(probabilities) / 2  # the nearest number below 1
    return -ops.log(ops.expm1(-ops.log(_clipped(probabilities, largest))))


def _clipped(probabilities: keras.KerasTensor, largest: float) -> keras.KerasTensor:
    dtype = probabilities.dtype
    # Half of the smallest positive float16: a value that was rounded to 0 is no larger than that.
    least = 2.0**-25 if dtype == "float16" else _LEAST
    if dtype in ("float16", "bfloat16"):
        probabilities = ops.cast(probabilities, "float32")
    return ops.clip(probabilities, least, largest)


def _step(tensor: keras.KerasTensor) -> float:
    """Return the distance from 1 to the next larger number."""
    if tensor.dtype == "bfloat16":
        return 2.0**-7
    return float(np.finfo(tensor.dtype).eps)
