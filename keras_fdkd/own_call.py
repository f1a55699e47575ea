"""Models with their own `call`: what they have to hand out, and its symbolic form."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.masks import Traced


def advice(model: keras.Model, role: str, paths: Mapping[str, str | None]) -> str:
    """Say what a model with its own `call` must return."""
    alone = "" if paths else ", or a single tensor, as no feature of it is read"
    return _of_torch(model) or (
        f"`{role}` '{model.name}' has its own `call`: it must return a dict with the keys "
        f'"features" and "logits"{alone}.'
    )


def check_reachable(model: keras.Model, paths: Mapping[str, str | None], role: str) -> None:
    """Raise if a layer inside is named."""
    named = [path for path in paths.values() if path is not None]
    if named:
        reason = _of_torch(model) or (
            'It has its own `call`: let it return {"features": ..., "logits": ...} and pass '
            f"`{role}_features=None`."
        )
        raise ValueError(
            f"The layers inside `{role}` '{model.name}' cannot be reached by name. {reason} "
            f"Received: {named}."
        )


def output_spec(traced: Traced, role: str) -> Any:
    """Return the symbolic outputs of a model, from the shapes it was built with."""
    model = traced.model
    shapes = (model.get_build_config() or {}).get("input_shape")
    try:
        return traced.compute_output_spec(_symbolic(shapes, model.input_dtype))
    except Exception as error:
        mend = _of_torch(model) or (
            "Wrap it as `keras.Model(inputs, model(inputs))`, with a `compute_output_shape` in "
            "each layer whose output Keras cannot derive."
        )
        raise ValueError(
            f"The output of `{role}` '{model.name}' could not be derived from the input shapes it "
            f"was built with ({shapes}). {mend}"
        ) from error


def _of_torch(model: keras.Model) -> str:
    """Say what a model lacks that would be sequential or functional, but for modules of PyTorch."""
    unknown = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.TorchModuleWrapper) and layer.output_shape is None
    ]
    if not (unknown and isinstance(model, keras.Sequential)):
        return ""
    return (
        "Keras does not know what its PyTorch modules give, and so not its graph: write "
        f"`TorchModuleWrapper(module, output_shape=...)` for {unknown}."
    )


def _symbolic(shapes: Any, dtype: str) -> Any:
    """Symbolic inputs in plain containers: JAX does not know those that Keras tracks."""
    if isinstance(shapes, Mapping):
        return {name: _symbolic(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor((None, *shapes[1:]), dtype)
    return [_symbolic(shape, dtype) for shape in shapes]
