"""Fingerprints of models: which teacher was it?"""

import hashlib

import keras
import numpy as np
from keras import ops

from keras_fdkd.features import check_model


def fingerprint(model: keras.Model) -> str:
    """Return 16 hexadecimal digits that tell the weights of a model from any others.

    They depend on the shapes, the dtypes and the values of all weights in their order, not on names
    or the backend.

    Args:
        model: Built `keras.Model`.

    Raises:
        ValueError: If `model` is not a built `keras.Model`.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> before = fingerprint(model)
    >>> model.set_weights([weight + 1 for weight in model.get_weights()])
    >>> before == fingerprint(model), len(before)
    (False, 16)
    """
    check_model(model, "model")
    digest = hashlib.blake2b(digest_size=8)
    for weight in model.weights:
        value = ops.convert_to_numpy(weight)
        if str(weight.dtype) in ("bfloat16", "float16"):
            value = np.asarray(
                value, "float32"
            )  # Backends hand half precision out in various ways.
        digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
