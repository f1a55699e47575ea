"""Taps: one forward pass of a model that gives its predictions and its features."""

import difflib
from collections.abc import Mapping
from typing import Any

import keras

# The keys of the models that hand out their features themselves.
FEATURES, LOGITS = "features", "logits"
PREDICTIONS = "predictions"


class FeatureTap:
    """One forward pass of `model` that returns its predictions and named features.

    The tap shares the layers of `model`; nothing is copied and no weight is created.

    Args:
        model: Built `keras.Model`: functional, sequential, or any model whose output is a dict
            with the keys `"features"` and `"logits"` (a subclassed model has to be one).
        features: Where to read each feature, a dict from name to one of
            - `None`: the input of the model's last `Dense` layer, or the entry `"features"` of the
              model's output if that is such a dict;
            - `str`: the output of a layer, with `/` between nested models (`"backbone/pool"`);
            - `keras.KerasTensor`: the output of a layer of a functional `model` that runs once.
        role: `"teacher"` or `"student"`, for error messages.

    Call args:
        inputs: Inputs of `model`.
        training: Boolean.

    Returns:
        Dict with `"predictions"` (the model's output, or its entry `"logits"`) and every name of
        `features`, a tensor of shape `(batch, ...)`.

    Raises:
        ValueError: If the model is not a built Keras model, or a feature cannot be found.

    Example:
    >>> import numpy as np
    >>> model = keras.Sequential(
    ...     [keras.Input((6,)), keras.layers.Dense(8, name="pool"), keras.layers.Dense(3)]
    ... )
    >>> tap = FeatureTap(model, {"pooled": "pool"}, role="student")
    >>> outputs = tap(np.ones((2, 6), "float32"))
    >>> {name: tuple(value.shape) for name, value in sorted(outputs.items())}
    {'pooled': (2, 8), 'predictions': (2, 3)}
    """

    def __init__(
        self,
        model: keras.Model,
        features: Mapping[str, "str | keras.KerasTensor | None"],
        role: str,
    ) -> None:
        check_model(model, role)
        # The path in words that `get_config` can store: a KerasTensor becomes its layer's name.
        self.paths = {name: _to_path(model, where, role) for name, where in features.items()}
        self._handed_out: list[str] = []
        self._rebuilt = _runs_its_graph(model)
        if not self._rebuilt:
            _check_hands_out(model, self.paths, role)
            self._model: Any = model
            self._handed_out = list(features)
            self.spec = self._select(_output_spec(model, role))
            return
        graph = _graph(model)
        if _hands_out(graph.output):
            self._handed_out = [name for name, path in self.paths.items() if path is None]
        targets = {}
        for name, path in self.paths.items():
            if name not in self._handed_out:
                targets[name] = _last_dense_input(model, role) if path is None else (path, False)
        self._model = _expose(model, targets, role)
        self.spec = self._select(self._model.output)

    def __call__(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        return self._select(self._model(inputs, training=training))

    def predict(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Return the same as NumPy arrays, computed batch by batch."""
        return self._select(self._model.predict(inputs, batch_size=batch_size, verbose=0))

    def predict_on_batch(self, inputs: Any) -> dict[str, Any]:
        """Return the same as NumPy arrays, of one batch."""
        return self._select(self._model.predict_on_batch(inputs))

    def _select(self, outputs: Any) -> dict[str, Any]:
        if not self._rebuilt:  # The model hands out its features itself.
            outputs = {PREDICTIONS: outputs}
        selected = dict(outputs)
        if _hands_out(outputs[PREDICTIONS]):
            selected[PREDICTIONS] = outputs[PREDICTIONS][LOGITS]
            for name in self._handed_out:
                selected[name] = outputs[PREDICTIONS][FEATURES]
        return selected


def check_model(model: Any, role: str) -> None:
    """Raise unless `model` is a built `keras.Model`."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`{role}` must be a `keras.Model`. Received: {model!r}.")
    if not model.built:
        raise ValueError(
            f"`{role}` must be built. Give it a `keras.Input`, or call it once on a batch. "
            f"Received: unbuilt model '{model.name}'."
        )


def _runs_its_graph(model: keras.Layer) -> bool:
    """Whether calling `model` runs the graph that `model.input` and `model.output` describe."""
    definer = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    has_graph = isinstance(model, keras.Model) and getattr(model, "inputs", None) is not None
    return has_graph and definer.__module__.startswith("keras.")


def _graph(model: keras.Model) -> keras.Model:
    """The plain functional view of a model, without its class and compile state."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return keras.Model(model.input, model.output)


def _hands_out(output: Any) -> bool:
    return isinstance(output, Mapping) and {FEATURES, LOGITS} <= set(output)


def _check_hands_out(model: keras.Model, paths: Mapping[str, str | None], role: str) -> None:
    named = [path for path in paths.values() if path is not None]
    if named:
        raise ValueError(
            f"The layers inside `{role}` '{model.name}' cannot be reached by name, since it has "
            'its own `call`. Let it return {"features": ..., "logits": ...} and pass '
            f"`{role}_features=None`. Received: {named}."
        )


def _output_spec(model: keras.Model, role: str) -> dict[str, Any]:
    """Symbolic outputs of a model with its own `call`, from the shapes it was built with."""
    advice = (
        f"`{role}` '{model.name}' has its own `call`: it must return a dict with the keys "
        '"features" and "logits".'
    )
    shapes = (model.get_build_config() or {}).get("input_shape")
    try:
        inputs = _symbolic(shapes, model.input_dtype)
        spec = model.compute_output_spec(inputs)
    except Exception as error:
        raise ValueError(
            f"{advice} Its output could not be derived from the input shapes it was built with "
            f"({shapes}); wrap it as `keras.Model(inputs, model(inputs))`."
        ) from error
    if not _hands_out(spec):
        raise ValueError(f"{advice} Received output: {spec}.")
    return spec


def _symbolic(shapes: Any, dtype: str) -> Any:
    """Symbolic inputs in plain containers: JAX does not know those that Keras tracks."""
    if isinstance(shapes, Mapping):
        return {name: _symbolic(shape, dtype) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor((None, *shapes[1:]), dtype)
    return [_symbolic(shape, dtype) for shape in shapes]


def _to_path(model: keras.Model, where: Any, role: str) -> str | None:
    if where is None or (isinstance(where, str) and where):
        return where
    if not isinstance(where, keras.KerasTensor):
        raise ValueError(
            f"`{role}_features` must be `None`, a layer path such as 'backbone/pool', or a "
            f"`keras.KerasTensor`. Received: {role}_features={where!r}."
        )
    try:
        # Operations are sorted by depth, so the one that makes the tensor is the last.
        maker = keras.Model(_graph(model).input, where).operations[-1]
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"The tensor `{role}_features` is not computed from the inputs of model "
            f"'{model.name}'. Inside a nested model, name the layer by its path instead. "
            f"Received: {where}."
        ) from error
    if isinstance(maker, keras.layers.InputLayer):
        raise ValueError(
            f"`{role}_features` must be computed by model '{model.name}', not be its input. "
            f"Received: {where}."
        )
    return maker.name


def _last_dense_input(model: keras.Model, role: str) -> tuple[str, bool]:
    path = _last_dense(model)
    if path is None:
        raise ValueError(
            f"`{role}` '{model.name}' has no `Dense` layer whose input could be its feature. "
            f"Name a layer with `{role}_features=`. {_names(model)}"
        )
    return path, True


def _last_dense(model: keras.Model) -> str | None:
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.Dense):
            return layer.name
        if _runs_its_graph(layer) and (inner := _last_dense(layer)):
            return f"{layer.name}/{inner}"
    return None


def _expose(model: keras.Model, targets: Mapping[str, tuple[str, bool]], role: str) -> keras.Model:
    """Rebuild `model` on the same layers, with the target tensors as further outputs.

    `targets` maps a name to a path and whether the layer's input is wanted (else its output).
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
            if not _runs_its_graph(operation):
                path = next(path for path, _ in here.values())
                raise ValueError(
                    f"'{operation.name}' in the path {path!r} is not a functional model, so "
                    "layers inside it cannot be reached. Tap its output, or a layer around it."
                )
            outputs = _expose(operation, inner, role)(*args, **kwargs)
            captured.update({name: outputs[name] for name in inner})
            result = outputs[PREDICTIONS]
        else:
            result = operation(*args, **kwargs)
        for name in set(here) - set(inner):
            captured[name] = args[0] if here[name][1] else result
        return result

    rebuilt = keras.models.clone_model(
        _graph(model), clone_function=lambda layer: layer, call_function=run
    )
    for name, (path, _) in targets.items():
        if name not in captured:
            raise ValueError(
                f"There is no layer '{path}' in `{role}` '{model.name}', from which "
                f"`{role}_features` or a loss could read. {_names(model, path)}"
            )
        if not isinstance(captured[name], keras.KerasTensor):
            raise ValueError(
                f"Layer '{path}' of `{role}` does not give a single tensor. Tap another layer. "
                f"Received output: {captured[name]}."
            )
    return keras.Model(
        rebuilt.input, {PREDICTIONS: rebuilt.output, **captured}, name=f"{model.name}_tap"
    )


def _names(model: keras.Model, wanted: str = "") -> str:
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    names = [layer.name for layer in layers]
    close = difflib.get_close_matches(wanted.split("/")[0], names, n=3, cutoff=0.4)
    return f"Nearest names: {close}." if close else f"Layers: {names}."
