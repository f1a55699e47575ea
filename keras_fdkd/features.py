"""Taps: one forward pass of a model that returns its predictions and its features."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.default_feature import classifier_of
from keras_fdkd.expose import PREDICTIONS, expose, to_path
from keras_fdkd.graphs import Place, graph_of, runs_its_graph
from keras_fdkd.layouts import channels_first_by
from keras_fdkd.masks import MaskReader, mask_key, masked_outputs
from keras_fdkd.outputs import Ending, ending_of
from keras_fdkd.own_call import FEATURES, LOGITS, OwnCall


class FeatureTap:
    """One forward pass of a model that returns its predictions and named features.

    For distillers of your own, and to look at the features of a trained model.

    The tap shares the layers of `model`; nothing is copied and no weight is created.

    Args:
        model: Built `keras.Model`: functional, sequential, or with its own `call`. The latter must
            return a single tensor, or a dict whose entry `"logits"` is one.
        features: Where to read each feature, a dict from name to one of
            - `None`: the input of the `Dense` layer that makes the model's output (ignoring
              activations and whatever only changes the view of it), or the entry `"features"` of
              the model's output if that is a dict with this entry and `"logits"`;
            - `str`: the output of a layer, with `/` between nested models (`"backbone/pool"`). In a
              model with its own `call`: an entry of its output, or a layer that is an attribute
              (`"pool"`, `"encoder/pool"`, `"blocks/0"`) and runs once in the `call`;
            - `keras.KerasTensor`: the output of a layer of a functional `model` that runs once.
        role: `"teacher"` or `"student"`, for error messages.

    Call args:
        inputs: Inputs of `model`.
        training: Boolean.

    Returns:
        Dict with `"predictions"` (the model's output, or its entry `"logits"`) and every name of
        `features`, each a tensor of shape `(batch, ...)`. For each tensor of shape
        `(batch, ..., dim)` that carries a Keras mask there is also `"{name}_mask"`, boolean, shape
        `(batch, ..., 1)`.

    Attributes:
        spec: The same as symbolic tensors.
        paths: Where each feature is read, in a form that `get_config` can store.
        resolved: The same for messages: where a default was found, such as `"dense_1 (input)"`.
        masks: The names of the outputs that carry a mask.

    Raises:
        ValueError: If the model is not a built Keras model, a feature cannot be found, or it is a
            map with the channels first.

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
        self.model = model
        #: Of several outputs, the one that `meaning` and `kind` are about.
        self.task_output: str | None = None
        self.paths = {name: to_path(model, where, role) for name, where in features.items()}
        self.resolved = {name: path for name, path in self.paths.items() if path is not None}
        self._handed_out: list[str] = []
        self._rebuilt = runs_its_graph(model)
        if self._rebuilt:
            self._tap_graph(model, role)
        else:
            self._tap_call(model, role)
        self.resolved.update(dict.fromkeys(self._handed_out, f"{FEATURES} (output)"))
        self.spec = self._received(self._outputs)

    def _tap_graph(self, model: keras.Model, role: str) -> None:
        """Rebuild the graph with further outputs."""
        if _hands_out(graph_of(model).output):
            self._handed_out = [name for name, path in self.paths.items() if path is None]
        targets = {}
        for name, path in self.paths.items():
            if path is not None:
                targets[name] = path, False
            elif name not in self._handed_out:
                targets[name] = classifier_of(model, role), True
                self.resolved[name] = f"{targets[name][0]} (input)"
        tapped = expose(model, targets, role)
        tensors = self._select(tapped.output)
        for name in targets:
            _check_channels_last(tensors[name], self.resolved[name], role)
        self.masks = frozenset(masked_outputs(tapped, tensors))
        # As outputs, because arrays and batches lose the mask that Keras attaches to a tensor.
        # Sorted, because a set of names has another order in each process.
        masks = {mask_key(name): MaskReader()(tensors[name]) for name in sorted(self.masks)}
        if masks:
            tapped = keras.Model(tapped.input, {**tapped.output, **masks}, name=tapped.name)
        self._model: Any = tapped
        self._outputs = tapped.output

    def _tap_call(self, model: keras.Model, role: str) -> None:
        """Read what a model with its own `call` returns, and what its layers return."""
        own = OwnCall(model, self.paths, role)
        self._handed_out = [name for name, path in self.paths.items() if path is None]
        self.masks, self._model, self._outputs = own.masks, own, own.spec

    def __call__(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        return self._received(self._model(inputs, training=training))

    def predict(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Return the same as NumPy arrays, computed batch by batch."""
        return self._received(self._model.predict(inputs, batch_size=batch_size, verbose=0))

    def predict_on_batch(self, inputs: Any) -> dict[str, Any]:
        """Return the same as NumPy arrays, for one batch."""
        return self._received(self._model.predict_on_batch(inputs))

    def meaning(self, name: str) -> str | None:
        """Return what an output means, `"logits"` or `"probabilities"`; `None` if it is unknown.

        The model's graph tells. It is unknown for a model with its own `call`, and after layers
        that are not Keras's own.
        """
        return self._ending(name).meaning

    def kind(self, name: str) -> str | None:
        """Return what made an output's probabilities: `"softmax"`, `"sigmoid"`, or `None`."""
        return self._ending(name).kind

    def ends_in(self, name: str) -> str:
        """Return what makes an output, for messages: `"Dense 'head' with softmax"`."""
        return self._ending(name).by

    def channels_first_by(self, name: str) -> str | None:
        """Return the path of the layer that puts an output's channels first, or `None`."""
        tensor = self.spec[name]
        one = self._rebuilt and isinstance(tensor, keras.KerasTensor)
        return channels_first_by(tensor) if one else None

    # With these, distillers need not tell a tap from a `RecordedTap` or a `GroupTap`.
    @property
    def converted(self) -> frozenset[str]:
        """The names of outputs recorded as probabilities and read as logits: none here."""
        return frozenset()

    @property
    def data_names(self) -> dict[str, str]:
        """The names in data of what is read, where they differ: none here."""
        return {}

    def received(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs that were computed before, by the names under which they are read."""
        return dict(outputs)

    def _ending(self, name: str) -> Ending:
        tensor = self.spec[name]
        if isinstance(tensor, Mapping) and self.task_output in tensor:
            tensor = tensor[self.task_output]
        if not isinstance(tensor, keras.KerasTensor):
            return Ending(None, "several outputs")
        if not self._rebuilt:
            return Ending(None, f"the `call` of '{self._model.model.name}'")
        return ending_of(Place(tensor))

    def _received(self, outputs: Any) -> dict[str, Any]:
        return self._select(outputs) if self._rebuilt else dict(outputs)

    def _select(self, outputs: Any) -> dict[str, Any]:
        selected = dict(outputs)
        if _hands_out(outputs[PREDICTIONS]):
            selected[PREDICTIONS] = outputs[PREDICTIONS][LOGITS]
            for name in self._handed_out:
                selected[name] = outputs[PREDICTIONS][FEATURES]
        return selected


def check_model(model: Any, role: str) -> None:
    """Raise unless `model` is a built `keras.Model`."""
    if not isinstance(model, keras.Model):
        # By name, because PyTorch may not be installed.
        of_torch = any(cls.__module__.startswith("torch.nn") for cls in type(model).__mro__)
        fix = (
            " Around a module of PyTorch, put `keras_fdkd.from_torch(module, example)`."
            if of_torch and not isinstance(model, keras.Layer)
            else ""
        )
        raise ValueError(f"`{role}` must be a `keras.Model`.{fix} Received: {model!r}.")
    if not model.built:
        raise ValueError(
            f"`{role}` must be built. Give it a `keras.Input`, or call it once on a batch. "
            f"Received: unbuilt model '{model.name}'."
        )


def _hands_out(output: Any) -> bool:
    return isinstance(output, Mapping) and {FEATURES, LOGITS} <= set(output)


def _check_channels_last(tensor: keras.KerasTensor, where: str, role: str) -> None:
    if path := channels_first_by(tensor):
        # `Permute` counts axes from 1, without the batch.
        axes = (*range(2, len(tensor.shape)), 1)
        raise ValueError(
            f"The feature of `{role}` must have its channels last, since losses compare along the "
            f"last axis. Put `keras.layers.Permute({axes})` after it and tap that. "
            f"Received: '{where}' of shape {tensor.shape}, channels first by '{path}'."
        )
