"""Fingerprints of models and of samples: which teacher was it, which sample is it?"""

import functools
import hashlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.features import check_model

_BLOCK = 2**15  # words of 8 bytes that stay in the processor's cache while they are mixed


def fingerprint(model: keras.Model) -> str:
    """Return 16 hexadecimal digits that identify the weights of a model.

    Use it to check that a student, or recorded outputs, belong to the teacher you think. The digits
    depend on the shapes, dtypes and values of all weights in order, not on names or on the backend.
    Weights that Keras cannot see have no part in them, such as those of a `keras.layers.TFSMLayer`
    or of a `torch.nn.Module` that a layer holds without tracking it.

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
        value = np.ascontiguousarray(ops.convert_to_numpy(weight)).reshape(-1)
        digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode())
        if str(weight.dtype) in ("bfloat16", "float16"):
            # Backends return half precision in different forms.
            for start in range(0, len(value), 2**20):
                digest.update(np.asarray(value[start : start + 2**20], "float32").data)
        else:
            digest.update(value.view("uint8").data)
    return digest.hexdigest()


def row_keys(arrays: Any) -> np.ndarray:
    """Return a 64-bit key for the content of each row, shape `(rows,)`.

    Args:
        arrays: Nested NumPy arrays with the same number of rows, of numbers or of texts.

    Raises:
        ValueError: If an array holds anything else.

    Example:
    >>> keys = row_keys({"a": np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])})
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    total: Any = np.uint64(0)
    for number, values in enumerate(keras.tree.flatten(arrays)):
        values = np.asarray(values)
        if values.dtype.kind in "OSUT":
            values = _text_keys(values)
        total = _mixed(total + _weighted_sums(values, number))
    return total


def _weighted_sums(values: np.ndarray, number: int) -> np.ndarray:
    """Return a sum of the words of each row, mixed and weighted, in blocks that save memory."""
    rows = len(values)
    sums = np.zeros(rows, "uint64")
    if not values.size:
        return sums
    raw = np.ascontiguousarray(values).reshape(rows, -1).view("uint8")
    words = -(-raw.shape[1] // 8)
    columns = min(words, _BLOCK)
    height = max(1, _BLOCK // columns)
    weights = _weights(number, words)
    for left in range(0, words, columns):
        width = min(columns, words - left)
        block, spare = np.empty((2, min(height, rows), width), "uint64")
        for top in range(0, rows, height):
            part = raw[top : top + height, 8 * left : 8 * (left + width)]
            here, there = block[: len(part)], spare[: len(part)]
            here[:, -1] = 0  # Bytes that fill up the last word.
            here.view("uint8")[:, : part.shape[1]] = part
            _mixed(here, there)
            here *= weights[left : left + width]
            sums[top : top + height] += here.sum(axis=1, dtype="uint64")
    return sums


@functools.lru_cache(8)
def _weights(number: int, words: int) -> np.ndarray:
    # A fixed seed: files hold keys that other processes must find again.
    drawn = np.random.default_rng(number).integers(2**64, size=words, dtype="uint64")
    # Odd factors: multiplying by an even one would lose bits.
    return drawn | np.uint64(1)


def _mixed(words: np.ndarray, spare: np.ndarray | None = None) -> np.ndarray:
    """Spread each bit over the word, in place (the finalizer of MurmurHash3)."""
    spare = np.empty_like(words) if spare is None else spare
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, None):
        np.right_shift(words, np.uint64(33), out=spare)
        np.bitwise_xor(words, spare, out=words)
        if factor is not None:
            np.multiply(words, np.uint64(factor), out=words)
    return words


def _text_keys(values: np.ndarray) -> np.ndarray:
    """Return a number for each text, the same for `str` and its UTF-8 bytes."""
    found = np.empty(values.shape, "uint64")
    for place, text in np.ndenumerate(values):
        if not isinstance(text, (str, bytes)):
            raise ValueError(
                "Inputs must be arrays of numbers or texts. "
                f"Received: dtype {values.dtype} with {text!r}."
            )
        data = text.encode() if isinstance(text, str) else text
        digest = hashlib.blake2b(data, digest_size=8).digest()
        found[place] = int.from_bytes(digest, "little")
    return found
