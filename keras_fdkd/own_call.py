"""Models with their own `call`: what they have to hand out, and its symbolic form."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.masks import Traced


def advice(model: keras.Model, role: str, paths: Mapping[str, str | None]) -> str:
    """Say what a model with its own `call` must return."""
    alone = "" if paths else ", or a single tensor, as no feature of it is read"
    return (
        f"`{role}` '{model.name}' has its own `call`: it must return a dict with the keys "
        f'"features" and "logits"{alone}.'
    )


def check_reachable(model: keras.Model, paths: Mapping[str, str | None], role: str) -> None:
    """Raise if a layer inside is named."""
    named = [path for path in paths.values() if path is not None]
    if named:
        raise ValueError(
            f"The layers inside `{role}` '{model.name}' cannot be reached by name, since it has "
            'its own `call`. Let it return {"features": ..., "logits": ...} and pass '
            f"`{role}_features=None`. Received: {named}."
        )


def output_spec(traced: Traced, role: str) -> Any:
    """Return the symbolic outputs of a model, from the shapes it was built with."""
    model = traced.model
    shapes = (model.get_build_config() or {}).get("input_shape")
    try:
        return traced.compute_output_spec(_symbolic(shapes, model.input_dtype))
    except Exception as error:
        raise ValueError(
            f"The output of `{role}` '{model.name}' could not be derived from the input shapes it "
            f"was built with ({shapes}). {_mend(model)}"
        ) from error


def _mend(model: keras.Model) -> str:
    unknown = [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.TorchModuleWrapper) and layer.output_shape is None
    ]
    if unknown:
        return (
            "Keras does not know what a PyTorch module gives: write "
            f"`TorchModuleWrapper(module, output_shape=...)`. Received: {unknown} without one."
        )
    return (
        "Wrap it as `keras.Model(inputs, model(inputs))`, with a `compute_output_shape` in each "
        "layer whose output Keras cannot derive."
    )


def _symbolic(shapes: Any, dtype: str) -> Any:
    """Symbolic inputs in plain containers: JAX does not know those that Keras tracks."""
    if isinstance(shapes, Mapping):
        return {name: _symbolic(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor((None, *shapes[1:]), dtype)
    return [_symbolic(shape, dtype) for shape in shapes]
