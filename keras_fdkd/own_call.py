"""Models with their own `call`: their outputs and inner layers, read by name."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.graphs import graph_of, runs_its_graph
from keras_fdkd.inner_layers import PREDICTIONS, Recorder, UnreadableError, find_layer, layers_in
from keras_fdkd.masks import MaskReader, Traced, mask_key
from keras_fdkd.torch_teacher import TorchTeacher

FEATURES, LOGITS = "features", "logits"


class OwnCall(Recorder):
    """A model with its own `call`, read as predictions, features and their masks.

    Args:
        model: Built `keras.Model` that returns a dict with `"logits"`, or a single tensor.
        paths: Where each feature is read: an entry of the dict, the path of a layer, or `None` for
            the entry `"features"`.
        role: `"teacher"` or `"student"`, for messages.

    Attributes:
        spec: Symbolic tensors by name.
        masks: The names of those that carry a mask.

    Raises:
        ValueError: If something is not found, is found twice, or its shape cannot be derived.
    """

    def __init__(self, model: keras.Model, paths: Mapping[str, str | None], role: str) -> None:
        if role == "student" and isinstance(model, TorchTeacher):
            raise ValueError(
                "A module of PyTorch learns nothing inside of Keras: the student must be a model "
                f"of Keras. Received: student '{model.name}' of `from_torch`."
            )
        layers = {
            name: layer
            for name, path in paths.items()
            if path is not None and (layer := find_layer(model, path)) is not None
        }
        super().__init__(model, layers, paths, role)
        self.readers = {name: MaskReader() for name in (PREDICTIONS, *paths)}
        # `read` asks for it while the outputs are derived, which in turn shows the masks.
        self.masks: frozenset[str] = frozenset()
        traced = Traced(self, lambda outputs: outputs)
        self.spec = self._derived(traced)
        self.masks = frozenset(traced.masked)
        for name in traced.masked:
            shape = (*self.spec[name].shape[:-1], 1)
            self.spec[mask_key(name)] = keras.KerasTensor(shape, "bool")

    def read(self, outputs: Any, heard: dict[str, Any]) -> dict[str, Any]:
        entries = outputs if isinstance(outputs, Mapping) else {}
        if LOGITS in entries:
            found = {PREDICTIONS: entries[LOGITS]}
        elif ops.is_tensor(outputs):
            found = {PREDICTIONS: outputs}
        else:
            raise UnreadableError(self._without_logits(outputs))
        for name, path in self.paths.items():
            key = FEATURES if path is None else path
            if key in entries and name in heard:
                raise UnreadableError(
                    f"`{self.role}_features` must name one thing in model '{self.model.name}'. "
                    "Rename the entry of its output or the layer. "
                    f"Received: {path!r}, which is both."
                )
            if key in entries:
                found[name] = self._one_tensor(key, entries[key])
            elif name in heard:
                found[name] = heard[name]
            else:
                raise UnreadableError(self._not_found(path, entries))
        masks = {mask_key(name): self.readers[name](found[name]) for name in sorted(self.masks)}
        return {**found, **masks}

    def _derived(self, traced: Traced) -> dict[str, Any]:
        """Return the symbolic outputs, from the shapes that the model was built with."""
        model = self.model
        # Without a graph there is no `input`; Keras keeps these to build a loaded model.
        shapes = (model.get_build_config() or {}).get("input_shape")
        try:
            return dict(traced.compute_output_spec(symbolic(shapes, model.input_dtype)))
        except Exception as error:
            if self.fault is not None:
                # What `read` says, without what Keras has added to it.
                raise ValueError(self.fault) from None
            fix = _of_torch(model) or (
                "Wrap it as `keras.Model(inputs, model(inputs))`, with a `compute_output_shape` in "
                "each layer whose output Keras cannot derive."
            )
            raise ValueError(
                f"The output of `{self.role}` '{model.name}' could not be derived from the input "
                f"shapes it was built with ({shapes}). {fix}"
            ) from error

    def _without_logits(self, outputs: Any) -> str:
        alone = "" if self.paths else ", or a single tensor, as no feature of it is read"
        wanted = _of_torch(self.model) or (
            f"`{self.role}` '{self.model.name}' has its own `call`: it must return a dict with the "
            f'keys "features" and "logits"{alone}. The features may have another key, or be the '
            f"output of a layer, which `{self.role}_features=` names; the logits may not."
        )
        if isinstance(outputs, (list, tuple)):
            wanted += (
                " Around a model that returns a tuple, put one whose `call` is `logits, features = "
                'self.model(inputs, training=training); return {"features": features, "logits": '
                "logits}`."
            )
        return f"{wanted} Received output: {_described(outputs)}."

    def _not_found(self, path: str | None, entries: Mapping[str, Any]) -> str:
        model, role = self.model, self.role
        if isinstance(model, TorchTeacher):
            return (
                f"`{role}` '{model.name}' is a module of PyTorch: say where its feature is when it "
                "is wrapped, as `from_torch(module, example, features=...)`, and leave "
                f"`{role}_features` out. Received: {role}_features={path!r}."
            )
        known = f"Entries of its output: {sorted(entries)}; layers: {layers_in(model)}."
        if path is None:
            reason = _of_torch(model) or (
                f"`{role}` '{model.name}' has its own `call`, and so no default feature: name a "
                f"layer or an entry of its output with `{role}_features=`, or let it return a dict "
                'with the keys "features" and "logits".'
            )
            return f"{reason} {known}"
        reason = _of_torch(model) or "Paths are of attributes that are layers, as 'encoder/pool'."
        return (
            f"There is no layer and no entry of the output '{path}' in `{role}` '{model.name}'. "
            f"{reason} {known}"
        )

    def _one_tensor(self, key: str, value: Any) -> Any:
        if not ops.is_tensor(value):
            raise UnreadableError(
                f"The entry {key!r} of the output of `{self.role}` '{self.model.name}' must be a "
                f"single tensor. Received: {_described(value)}."
            )
        return value


def symbolic_inputs(model: keras.Model) -> Any:
    """Return the inputs of a built model as symbolic tensors that belong to no graph.

    Example:
    >>> model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    >>> symbolic_inputs(model).shape
    (None, 6)
    """
    if runs_its_graph(model):
        return keras.tree.map_structure(
            lambda entry: keras.KerasTensor(entry.shape, entry.dtype), graph_of(model).input
        )
    return symbolic((model.get_build_config() or {}).get("input_shape"), model.input_dtype)


def symbolic(shapes: Any, dtype: str) -> Any:
    """Return symbolic inputs in plain containers: JAX does not know those that Keras tracks."""
    if isinstance(shapes, Mapping):
        return {name: symbolic(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        # The first size is that of the batch it was built with, and it takes any.
        return keras.KerasTensor((None, *shapes[1:]), dtype)
    return [symbolic(shape, dtype) for shape in shapes]


def _of_torch(model: keras.Layer) -> str:
    """Say which PyTorch modules keep an otherwise sequential or functional model from being one."""
    unknown = [
        layer.name
        for layer in getattr(model, "layers", ())
        if isinstance(layer, keras.layers.TorchModuleWrapper) and layer.output_shape is None
    ]
    if not (unknown and isinstance(model, keras.Sequential)):
        return ""
    return (
        "Keras does not know what its PyTorch modules give, and so not its graph: write "
        f"`TorchModuleWrapper(module, output_shape=...)` for {unknown}, with a shape such as "
        "`(None, 3)`, or use `keras_fdkd.from_torch(module, example)` instead, which finds it out."
    )


def _described(outputs: Any) -> str:
    """Describe the structure of an output."""
    if isinstance(outputs, Mapping):
        return f"a dict with the keys {sorted(outputs)}"
    if isinstance(outputs, (list, tuple)):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    return f"{type(outputs).__name__}"
