"""The inputs of a PyTorch module: arrays of any kind, made into tensors of one structure."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def plain(inputs: Any) -> Any:
    """Return inputs in plain containers: tokenizers return mappings of their own."""
    if isinstance(inputs, Mapping):
        return {name: plain(value) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return tuple(plain(value) for value in inputs)
    return inputs


def structure(inputs: Any) -> str:
    """Describe the structure of inputs; equal descriptions fit the same module."""
    if isinstance(inputs, dict):
        return f"a dict with {sorted(inputs)}"
    return f"{len(inputs)} arguments" if isinstance(inputs, tuple) else "one array"


def batch_size(example: Any) -> int:
    """Return how many rows the tensors of one batch have."""
    leaves = keras.tree.flatten(example)
    sizes = {int(leaf.shape[0]) if leaf.ndim else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            "`example` must be one batch of inputs, arrays with as many rows each. "
            f"Received: {described(example)}."
        )
    return sizes.pop()


def _array(value: Any) -> np.ndarray:
    array = None if isinstance(value, keras.KerasTensor) else np.asarray(value)
    if array is None or array.dtype.kind not in "fiub":
        raise ValueError(
            "Inputs of a module of PyTorch, and `example`, must be arrays of numbers. "
            f"Received: {value!r}."
        )
    return array


def is_tensor(value: Any) -> bool:
    """Whether this is a PyTorch tensor."""
    import torch

    return isinstance(value, torch.Tensor)


def described(value: Any) -> str:
    """Describe a nested output or input."""
    if isinstance(value, Mapping):
        listed = ", ".join(f"{name!r}: {described(entry)}" for name, entry in value.items())
        return f"{type(value).__name__} of {listed}"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)} ({', '.join(map(described, value[:4]))})"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def to_tensors(inputs: Any, module: Any, example: Any = None) -> Any:
    """Return inputs as tensors on the device of a module.

    Args:
        inputs: Nested arrays.
        module: `torch.nn.Module`, to whose dtype floats are cast.
        example: Tensors of the same structure, to whose dtypes the rest is cast. Defaults to
            `None`: the inputs are the example.
    """
    import torch

    tensors = [*module.parameters(), *module.buffers()]
    # Weights that are offloaded lie on `meta` until their layer runs:
    # https://github.com/huggingface/accelerate/issues/1711.
    device = next((t.device for t in tensors if t.device.type != "meta"), None)
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    # Not simply the first: weights of quantized layers are integers.
    kind = next((t.dtype for t in tensors if t.dtype in floats), torch.float32)

    def tensor(value: Any, like: Any = None) -> Any:
        value = value if is_tensor(value) else torch.tensor(_array(value))
        if value.is_floating_point() and (like is None or like.is_floating_point()):
            return value.to(device, kind)
        return value.to(device, None if like is None else like.dtype)

    if example is None:
        return keras.tree.map_structure(tensor, inputs)
    return keras.tree.map_structure(tensor, inputs, example)
