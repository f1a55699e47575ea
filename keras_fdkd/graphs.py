"""Walks through the graphs of functional models, including those of nested models."""

from typing import Any, NamedTuple

import keras


class Call(NamedTuple):
    """A functional model that runs inside another one, and the tensors it runs on."""

    model: keras.Model
    inputs: tuple[keras.KerasTensor, ...]


class Place(NamedTuple):
    """A symbolic tensor, and the calls of nested models around it, from the outside in."""

    tensor: keras.KerasTensor
    calls: tuple[Call, ...] = ()


class Step(NamedTuple):
    """One run of a layer or operation that is not a functional model."""

    operation: Any
    path: str  # with the names of the nested models around it
    inputs: tuple[Place, ...]
    output: Place  # where the result is, within the innermost model


def runs_its_graph(model: Any) -> bool:
    """Whether calling `model` runs the graph that its inputs and outputs describe."""
    has_graph = isinstance(model, keras.Model) and getattr(model, "inputs", None) is not None
    return has_graph and runs_code_of_keras(model)


def runs_code_of_keras(layer: Any) -> bool:
    """Whether the `call` of a layer or operation is Keras's own."""
    definer = next((cls for cls in type(layer).__mro__ if "call" in vars(cls)), type(layer))
    return definer.__module__.startswith("keras.")


def graph_of(model: keras.Model) -> keras.Model:
    """Return the plain functional view of a model, without its class and compile state."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return keras.Model(model.input, model.output)


def maker_of(tensor: keras.KerasTensor) -> Any:
    """Return the layer or operation that made a symbolic tensor, a nested model as a whole."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def made_by(place: Place) -> Step | None:
    """Return what made the tensor, inside nested models; `None` for an input of the whole model.

    Keras's public interface does not tell which call made a tensor, and from what:
    `operation.input` knows only the first call, which may belong to another model. Hence
    `_keras_history` and `_inbound_nodes`, on which `keras.Model` itself relies.
    """
    tensor, calls = place
    while True:
        history = getattr(tensor, "_keras_history", None)
        if history is None or history.operation is None:
            return None
        operation = history.operation
        node = operation._inbound_nodes[history.node_index]
        if isinstance(operation, keras.layers.InputLayer):
            if not calls:
                return None
            call, calls = calls[-1], calls[:-1]
            ids = [id(entry) for entry in call.model.inputs]
            if id(tensor) not in ids or len(ids) != len(call.inputs):
                return None
            tensor = call.inputs[ids.index(id(tensor))]
            continue
        # Keras passes masks as keyword arguments; they are not data.
        inputs = _data(node.arguments.args) or _data(
            [value for name, value in node.arguments.kwargs.items() if not name.endswith("mask")]
        )
        if not runs_its_graph(operation):
            path = "/".join([*(call.model.name for call in calls), operation.name])
            places = tuple(Place(entry, calls) for entry in inputs)
            return Step(operation, path, places, Place(tensor, calls))
        calls = (*calls, Call(operation, tuple(inputs)))
        tensor = operation.outputs[history.tensor_index]


def same_place(first: Place, second: Place) -> bool:
    """Whether two places hold the same tensor of the same run."""
    return first.tensor is second.tensor and len(first.calls) == len(second.calls) and all(
        one.model is other.model and list(map(id, one.inputs)) == list(map(id, other.inputs))
        for one, other in zip(first.calls, second.calls, strict=True)
    )  # fmt: skip


def settled(place: Place) -> Place:
    """Return the place inside nested models where the tensor was made."""
    step = made_by(place)
    return place if step is None else step.output


def _data(arguments: Any) -> list[keras.KerasTensor]:
    found = keras.tree.flatten(arguments)
    return [entry for entry in found if isinstance(entry, keras.KerasTensor)]
