"""Rebuilds models so that they also return what their layers compute."""

import difflib
from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.graphs import graph_of, maker_of, runs_code_of_keras, runs_its_graph
from keras_fdkd.inner_layers import PREDICTIONS, Recorder, find_layer, layers_in


def to_path(model: keras.Model, where: Any, role: str) -> str | None:
    """Return where to read a feature, in a form that `get_config` can store."""
    if where is None or (isinstance(where, str) and where):
        return where
    if not isinstance(where, keras.KerasTensor):
        raise ValueError(
            f"`{role}_features` must be `None`, a layer path such as 'backbone/pool', or a "
            f"`keras.KerasTensor`. Received: {role}_features={where!r}."
        )
    try:
        keras.Model(graph_of(model).input, where)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"The tensor `{role}_features` is not computed from the inputs of model "
            f"'{model.name}'. Inside a nested model, name the layer by its path instead. "
            f"Received: {where}."
        ) from error
    # If it runs more than once, its name names no single tensor, which `expose` refuses.
    maker = maker_of(where)
    if isinstance(maker, keras.layers.InputLayer):
        raise ValueError(
            f"`{role}_features` must be computed by model '{model.name}', not be its input. "
            f"Received: {where}."
        )
    return maker.name


def expose(model: keras.Model, targets: Mapping[str, tuple[str, bool]], role: str) -> keras.Model:
    """Rebuild `model` on the same layers, with the target tensors as further outputs.

    The outputs are a dict: `"predictions"`, everything that the model returns, and the names of
    `targets`, which maps a name to a path and to whether the layer's input is wanted (else its
    output).
    """
    captured: dict[str, Any] = {}

    def run(operation: Any, *args: Any, **kwargs: Any) -> Any:
        here = {name: (path, at_input) for name, (path, at_input) in targets.items()
                if path.split("/")[0] == operation.name}  # fmt: skip
        inner = {
            name: (path.partition("/")[2], at_input)
            for name, (path, at_input) in here.items()
            if "/" in path
        }
        if repeated := sorted(set(here) & set(captured)):
            raise ValueError(
                f"Layer '{operation.name}' runs more than once in `{role}`, so its output does "
                f"not name one feature. Tap another layer. Received: {targets[repeated[0]][0]!r}."
            )
        if inner:
            if runs_its_graph(operation):
                outputs = expose(operation, inner, role)(*args, **kwargs)
            else:
                outputs = _recorded(operation, inner, role, args, kwargs)
            captured.update({name: outputs[name] for name in inner})
            result = outputs[PREDICTIONS]
        else:
            result = operation(*args, **kwargs)
        for name in set(here) - set(inner):
            captured[name] = _first(args, kwargs) if here[name][1] else result
        return result

    # Each layer stands for itself: a clone would have weights of its own.
    rebuilt = keras.models.clone_model(
        graph_of(model), clone_function=lambda layer: layer, call_function=run
    )
    for name, (path, _) in targets.items():
        if name not in captured:
            raise ValueError(
                f"There is no layer '{path}' in `{role}` '{model.name}', from which "
                f"`{role}_features` or a loss could read. {names_in(model, path)}"
            )
        if not isinstance(captured[name], keras.KerasTensor):
            raise ValueError(
                f"Layer '{path}' of `{role}` does not give a single tensor. Tap another layer. "
                f"Received output: {captured[name]}."
            )
    return keras.Model(
        rebuilt.input, {PREDICTIONS: rebuilt.output, **captured}, name=f"{model.name}_tap"
    )


def names_in(model: keras.Model, wanted: str = "") -> str:
    """List the layers of a model for a message: those with names near the wanted one, or all."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    names = [layer.name for layer in layers]
    close = difflib.get_close_matches(wanted.split("/")[0], names, n=3, cutoff=0.4)
    return f"Nearest names: {close}." if close else f"Layers: {names}."


def _recorded(
    layer: Any, targets: Mapping[str, tuple[str, bool]], role: str, args: Any, kwargs: Any
) -> dict[str, Any]:
    """Run a layer or model that has its own `call`, and record the outputs of layers inside it."""
    paths = {name: f"{layer.name}/{path}" for name, (path, _) in targets.items()}
    found = {name: find_layer(layer, path) for name, (path, _) in targets.items()}
    if runs_code_of_keras(layer) or None in found.values():
        missing = [paths[name] for name in paths if found[name] is None]
        path = (missing or list(paths.values()))[0]
        raise ValueError(
            f"'{layer.name}' in the path {path!r} is not a functional model, and has no layer of "
            f"this name to reach. Tap its output, or a layer around it. Layers: {layers_in(layer)}."
        )
    # It takes the layer's place in the graph, where paths are made of names.
    recorder = Recorder(layer, found, paths, role, name=layer.name)
    try:
        return recorder(*args, **kwargs)
    except ValueError:
        if recorder.fault is None:
            raise
        # Keras has added the arguments of the call to the message.
        raise ValueError(recorder.fault) from None


def _first(args: Any, kwargs: Any) -> Any:
    """Return the first tensor that a layer was called on, positional or by keyword."""
    flat = keras.tree.flatten([args, kwargs])
    return next(entry for entry in flat if isinstance(entry, keras.KerasTensor))
