"""Fingerprints of models and of samples: which teacher was it, which sample is it?"""

import hashlib
from typing import Any

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
            # Backends hand half precision out in various ways.
            value = np.asarray(value, "float32")
        digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def row_keys(arrays: Any) -> np.ndarray:
    """Return a 64-bit key for the content of each row, shape `(rows,)`.

    Args:
        arrays: Nested NumPy arrays with the same number of rows.

    Example:
    >>> keys = row_keys({"a": np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])})
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    total: Any = np.uint64(0)
    for number, values in enumerate(keras.tree.flatten(arrays)):
        raw = np.ascontiguousarray(values).reshape(len(values), -1).view("uint8")
        raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8)))
        words = _mixed(np.ascontiguousarray(raw).view("uint64"))
        weights = np.random.default_rng(number).integers(2**64, size=words.shape[1], dtype="uint64")
        total = _mixed(total + (words * (weights | np.uint64(1))).sum(axis=1, dtype="uint64"))
    return total


def _mixed(words: np.ndarray) -> np.ndarray:
    """Spread each bit over the word (the finalizer of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(factor)
    return words ^ (words >> np.uint64(33))
