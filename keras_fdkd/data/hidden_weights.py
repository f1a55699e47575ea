"""hidden_weights: weights that a model computes with but Keras does not see."""

import contextlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

_LIBRARIES = ("builtins", "collections", "functools", "inspect", "keras", "numpy", "typing")
# What a frozen teacher does not compute with: code, and what belongs to its own training.
_NO_WEIGHTS = (type, types.ModuleType, keras.Metric, keras.optimizers.Optimizer, keras.Loss)
_COMPILED = ("train_function", "test_function", "predict_function")  # of a `keras.Model`


def hidden_weights(model: keras.Model) -> str | None:
    """Return a description of the first layer that computes with weights Keras cannot see.

    It searches the attributes of all layers, what these hold, and what the code of custom layers
    (and the function of a `Lambda`) refers to: PyTorch modules, TensorFlow objects, and Keras
    layers and variables that the model does not count among its own.

    Args:
        model: Built `keras.Model`.

    Returns:
        The name of the layer and what it holds; `None` if there is nothing.

    Example:
    >>> hidden_weights(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])) is None
    True
    """
    known = {id(part) for variable in model.variables for part in (variable, variable.value)}
    for layer in layers_of(model):
        if type(layer).__name__ == "TFSMLayer":
            return f"layer '{layer.name}' (TFSMLayer, a served model)"
        for value in _held(layer):
            if not isinstance(value, np.ndarray) and _hidden(layer, value, known):
                what = f"{type(value).__module__}.{type(value).__name__}"
                return f"layer '{layer.name}' (which holds a {what})"
    return None


def kept_arrays(model: keras.Model) -> list[np.ndarray]:
    """Return the arrays that layers compute with besides their weights, in order.

    These are constants of custom layers, the state of PyTorch modules that Keras wraps, and what a
    layer without weights would save, such as the vocabulary it was adapted to.
    """
    found = []
    for layer in layers_of(model):
        found += [value for value in _held(layer) if isinstance(value, np.ndarray)]
        if type(layer).__name__ == "TorchModuleWrapper" or not layer.weights:
            state: dict[str, Any] = {}
            layer.save_own_variables(state)
            found += [np.asarray(ops.convert_to_numpy(state[name])) for name in sorted(state)]
        if hasattr(layer, "get_vocabulary"):
            found.append(np.asarray([str(word) for word in layer.get_vocabulary()], object))
    return found


def layers_of(model: keras.Layer) -> Iterator[keras.Layer]:
    """Yield the layers of a model, including itself, from outside to inside, each once."""
    seen, todo = set(), [model]
    while todo:
        layer = todo.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            inner = list(getattr(layer, "layers", ()))
            for value in vars(layer).values():
                inner += _parts(value) or [value]
            todo += [value for value in reversed(inner) if isinstance(value, keras.Layer)]


def _parts(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else None


def _held(layer: keras.Layer) -> Iterator[Any]:
    """Yield the objects that a layer computes with: arrays, layers, variables, foreign modules."""
    library = _is_library(type(layer))
    todo = [
        value
        for name, value in vars(layer).items()
        if not (name in _COMPILED or name.startswith("_self_"))  # TensorFlow lists them again.
    ]
    if library:  # Configurations of Keras's own layers say what they do, except for functions.
        todo = [v for v in todo if isinstance(v, types.FunctionType) or _is_a(v, "torch", "Module")]
    else:
        todo.append(type(layer).call)
    todo.reverse()
    seen = {id(layer)}
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, _NO_WEIGHTS):
            continue
        seen.add(id(value))
        if (parts := _parts(value)) is not None:
            todo += reversed(parts)
        elif isinstance(value, (keras.Layer, keras.Variable)):
            yield value
        elif isinstance(value, np.ndarray):
            if value.dtype.kind != "O":
                yield value
        elif isinstance(value, (types.FunctionType, types.MethodType)):
            todo += _referred(value)
        elif _is_a(value, "torch", "Module") or _is_a(value, "tensorflow", "Trackable"):
            yield value
        elif ops.is_tensor(value):
            with contextlib.suppress(Exception):  # A leftover of a call may have no value.
                yield np.asarray(ops.convert_to_numpy(value))
        elif not _is_library(type(value)) and hasattr(value, "__dict__"):
            todo += reversed(list(vars(value).values()))


def _referred(function: Any) -> list[Any]:
    """Return what the code of a function takes from its surroundings."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, types.FunctionType) or _is_library(function):
        return []
    around = inspect.getclosurevars(function)
    return [*around.nonlocals.values(), *around.globals.values()]


def _is_library(value: Any) -> bool:
    return str(value.__module__).split(".")[0] in _LIBRARIES


def _is_a(value: Any, package: str, name: str) -> bool:
    """Whether a class of `value` is this one, without importing the package; not if Keras's own."""
    return not _is_library(type(value)) and any(
        cls.__module__.split(".")[0] == package and cls.__name__ == name
        for cls in type(value).__mro__
    )


def _hidden(layer: keras.Layer, value: Any, known: set[int]) -> bool:
    if isinstance(value, keras.Variable):
        parts = [value]
    elif isinstance(value, keras.Layer):
        parts = value.variables
    elif _is_a(value, "torch", "Module"):
        # The buffers of a module that Keras wraps are among what it saves.
        wrapped = type(layer).__name__ == "TorchModuleWrapper"
        parts = [*value.parameters(), *(() if wrapped else value.buffers())]
    else:
        parts = [value]
    return any(id(part) not in known for part in parts)
