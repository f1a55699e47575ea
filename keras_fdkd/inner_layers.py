"""Layers inside models with their own `call`: found by path, recorded while they run."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import ops

PREDICTIONS = "predictions"


class UnreadableError(ValueError):
    """Raised for what a model does that a tap cannot read."""


class Recorder(keras.Model):
    """Runs a model, and returns the outputs of layers inside it along with its own.

    Args:
        model: Model or layer with its own `call`.
        layers: Layers inside it, by the name of the feature.
        paths: Their paths, for messages.
        role: `"teacher"` or `"student"`, for messages.

    Its call returns a dict of `"predictions"`, everything that the model returns, and the names.
    `fault` holds the message if the last call could not be read.
    """

    def __init__(
        self,
        model: keras.Layer,
        layers: Mapping[str, keras.Layer],
        paths: Mapping[str, Any],
        role: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=model.dtype_policy, **kwargs)
        self.autocast = False  # The model casts its own inputs.
        self.supports_masking = True
        self.model = model
        self.inner = dict(layers)
        self.paths = dict(paths)
        self.role = role
        self.fault: str | None = None
        self.built = True  # The model is built, and there are no further weights.

    def call(self, *args: Any, training: bool = False, **kwargs: Any) -> dict[str, Any]:
        with _heard(self.inner) as heard:
            outputs = self.model(*args, training=training, **kwargs)
        self.fault = None
        try:
            return self.read(outputs, {name: self._only(name, heard[name]) for name in heard})
        except UnreadableError as error:
            self.fault = str(error)  # Keras adds the arguments of the call to the error.
            raise

    def read(self, outputs: Any, heard: dict[str, Any]) -> dict[str, Any]:
        """Return what the call gives, from the outputs of the model and of the layers."""
        return {PREDICTIONS: outputs, **heard}

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Return no mask: the model has set its own."""

    def _only(self, name: str, values: list[Any]) -> Any:
        called = f"Layer '{self.paths[name]}' of `{self.role}`"
        if len(values) != 1:
            times = f"{len(values)} times" if values else "not at all"
            raise UnreadableError(
                f"{called} must run once in a call of the model, or its output does not name one "
                f"feature. Tap another layer. Received: a layer that runs {times}."
            )
        (value,) = values
        if not ops.is_tensor(value):
            raise UnreadableError(
                f"{called} does not give a single tensor. Tap another layer. "
                f"Received output: {value}."
            )
        if getattr(self.inner[name], "data_format", None) == "channels_first" and value.ndim > 2:
            raise UnreadableError(
                f"The feature of `{self.role}` must have its channels last, since losses compare "
                "along the last axis: put a `keras.layers.Permute` after the layer and tap that. "
                f"Received: '{self.paths[name]}' of shape {tuple(value.shape)}, channels first."
            )
        return value


def find_layer(model: Any, path: str) -> keras.Layer | None:
    """Return the layer at a path of attributes, indices in lists and names of layers.

    Example:
    >>> class Model(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.blocks = [keras.layers.Dense(2), keras.layers.Dense(3)]
    >>> find_layer(Model(), "blocks/1").units
    3
    """
    found = model
    for part in path.split("/"):
        found = _part(found, part)
    return found if isinstance(found, keras.Layer) else None


def layers_in(model: keras.Layer) -> list[str]:
    """Return the names of the attributes that are layers, for messages."""
    own = getattr(model, "layers", None) or [
        value for value in vars(model).values() if isinstance(value, keras.Layer)
    ]
    names = {id(value): name for name, value in vars(model).items()}
    # On PyTorch's backend attributes that are layers are kept here.
    names |= {id(value): name for name, value in vars(model).get("_modules", {}).items()}
    return [names.get(id(layer), layer.name) for layer in own]


def _part(holder: Any, part: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(part)
    if isinstance(holder, (list, tuple)):
        return holder[int(part)] if part.isdecimal() and int(part) < len(holder) else None
    with contextlib.suppress(Exception):  # Properties may raise anything.
        value = getattr(holder, part)
        if isinstance(value, (keras.Layer, Mapping, list, tuple)):
            return value
    named = [layer for layer in getattr(holder, "layers", ()) if layer.name == part]
    return named[0] if len(named) == 1 else None


@contextlib.contextmanager
def _heard(layers: Mapping[str, keras.Layer]) -> Iterator[dict[str, list[Any]]]:
    """Collect the outputs of layers, by name.

    A layer's own `call` is what Keras runs on every backend, in compiled steps too. It is replaced
    in the instance only, bypassing attribute tracking, and only while the model runs.
    """
    heard: dict[str, list[Any]] = {name: [] for name in layers}
    before: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, layer in layers.items():
            # Keras runs a quantized layer by this other method.
            method = "quantized_call" if getattr(layer, "quantization_mode", None) else "call"
            own = vars(layer)
            before.append((own, method, own.get(method)))
            own[method] = _noting(getattr(layer, method), heard[name])
        yield heard
    finally:
        for own, method, value in reversed(before):
            if value is None:
                own.pop(method, None)
            else:
                own[method] = value


def _noting(function: Callable[..., Any], values: list[Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        values.append(function(*args, **kwargs))
        return values[-1]

    return call
