"""Keras masks of the tensors that a tap returns."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_fdkd.graphs import Place, made_by, runs_code_of_keras, settled

_MISFIT = "The Keras mask of an output must tell of each of its positions."


class MaskReader(keras.layers.Layer):
    """Returns the Keras mask of its input, shape `(batch, ..., 1)` for `(batch, ..., dim)`.

    Without a mask, all entries are true. `found` tells whether there was one in the last run.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.found = False

    def call(self, inputs: Any, mask: Any = None) -> Any:  # Keras fills in `mask`.
        self.found = mask is not None
        everything = ops.ones_like(inputs[..., :1], dtype="bool")
        if mask is None:
            return everything
        _check_shape(mask, inputs)
        for _ in range(len(inputs.shape) - len(mask.shape)):
            mask = ops.expand_dims(mask, -1)
        return ops.logical_and(ops.cast(mask, "bool"), everything)

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor((*inputs.shape[:-1], 1), dtype="bool")

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None


class Traced(keras.layers.Layer):
    """Runs a model as training would, to see its outputs and which of them carry masks.

    Args:
        model: Any built model.
        select: Function from its outputs to the tensors, by name, whose masks are wanted.

    After `compute_output_spec`, `masked` holds the names of those with a mask.
    """

    def __init__(self, model: keras.Model, select: Callable[[Any], Mapping[str, Any]]) -> None:
        super().__init__(dtype=model.dtype_policy)
        self.model = model
        self.select = select
        self.masked: list[str] = []

    def call(self, inputs: Any) -> Any:
        outputs = self.model(inputs, training=False)
        self.masked = []
        for name, tensor in self.select(outputs).items():
            if may_be_masked(tensor):
                reader = MaskReader()
                reader(tensor)
                self.masked += [name] if reader.found else []
        return outputs


def mask_key(name: str) -> str:
    """Return the name under which the mask of an output is returned."""
    return f"{name}_mask"


def may_be_masked(tensor: Any) -> bool:
    """Whether this is one tensor of positions, some of which a mask may leave out."""
    return hasattr(tensor, "shape") and len(tensor.shape) >= 3


def masked_outputs(model: keras.Model, tensors: Mapping[str, Any]) -> list[str]:
    """Return the names of the outputs of a functional model that carry a mask when it runs.

    Args:
        model: Model whose output is a dict.
        tensors: Outputs of the model by name, symbolic.
    """
    asked = {name: tensor for name, tensor in tensors.items() if may_be_masked(tensor)}
    if not any(_may_meet_mask(tensor) for tensor in asked.values()):
        return []
    # Masks enter and leave nested models only when they run: symbolic tensors do not show it.
    # https://github.com/keras-team/keras/issues/18417.
    readers = {name: MaskReader() for name in asked}
    probe = keras.Model(model.input, {name: readers[name](asked[name]) for name in asked})
    traced = Traced(probe, lambda outputs: {})
    inputs = keras.tree.map_structure(
        lambda entry: keras.KerasTensor(entry.shape, entry.dtype), model.input
    )
    try:
        traced.compute_output_spec(inputs)
    except Exception as error:
        if _MISFIT in str(error):
            raise
        # A layer inside runs on real values only: what the symbolic tensors tell remains.
        return [name for name, tensor in asked.items() if _is_noted(Place(tensor))]
    return [name for name, reader in readers.items() if reader.found]


def _is_noted(place: Place) -> bool:
    """Whether Keras noted a mask, also inside nested models; it has no public name for that."""
    ends = (place.tensor, settled(place).tensor)
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in ends)


def _may_meet_mask(tensor: keras.KerasTensor) -> bool:
    waiting, seen = [Place(tensor)], set()
    while waiting:
        place = waiting.pop()
        step = made_by(place)
        if step is None or id(settled(place).tensor) in seen:
            continue
        seen.add(id(step.output.tensor))
        # Code that is not Keras's may make masks inside.
        if _is_noted(place) or not runs_code_of_keras(step.operation):
            return True
        waiting += step.inputs
    return False


def _check_shape(mask: Any, inputs: Any) -> None:
    came, wanted = tuple(mask.shape), tuple(inputs.shape[:-1])
    fits = len(came) <= len(wanted) and all(
        one == other or None in (one, other) for one, other in zip(came, wanted, strict=False)
    )
    if not fits:
        raise ValueError(
            f"{_MISFIT} A layer that changes their number hands on the mask of its input: give it "
            "a `compute_mask`, or tap another layer. "
            f"Received: mask of shape {came} for an output of shape {tuple(inputs.shape)}."
        )
