"""LoraState: unmerged LoRA factors, which Keras merges into the kernels of its files."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

# Keras walks the attributes of a model by name with private ones last, so after the layers whose
# factors it sets to zero: https://github.com/keras-team/keras/issues/23244.
ATTRIBUTE = "_unmerged"
_ALPHA = "alpha"


class LoraState(keras.Layer):
    """Kernels and factors of LoRA in a file, next to what Keras writes of them.

    Keras writes `kernel + a @ b` in place of the kernel, and sets both factors to zero when it
    reads a file. That is right for serving, but training could not resume, because two factors of
    zero get no gradient. This layer, an attribute of a model, writes all variables of the layers
    with factors, quantized ones too, and their `lora_alpha`, and restores them. The file holds the
    kernels of these layers twice.

    Args:
        layers: Function that returns the layers of the model, nested ones too.
        trained: Whether the model trains. For a frozen one merged kernels are just as good.
    """

    def __init__(self, layers: Callable[[], list[keras.Layer]], trained: bool = True) -> None:
        super().__init__(name="lora_state")
        self._find = layers
        self._trained = trained

    def _adapted(self) -> list[keras.Layer]:
        return [layer for layer in self._find() if has_lora(layer)]

    def save_own_variables(self, store: Any) -> None:
        for number, layer in enumerate(self._adapted()):
            # Keras loses it: a layer made from its configuration has its rank here.
            store[f"{number}_{_ALPHA}"] = np.asarray(layer.lora_alpha, "float64")
            for position, variable in enumerate(layer.variables):
                store[f"{number}_{position}"] = variable

    def load_own_variables(self, store: Any) -> None:
        layers, names = self._adapted(), set(store.keys())
        if not (layers and names):
            if layers or names:
                self._warn(layers, sum(name.endswith(_ALPHA) for name in names))
            return
        values = {name: np.asarray(store[name]) for name in names}
        variables = {
            f"{number}_{position}": variable
            for number, layer in enumerate(layers)
            for position, variable in enumerate(layer.variables)
        }
        alphas = {f"{number}_{_ALPHA}": layer for number, layer in enumerate(layers)}
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        came = {name: value.shape for name, value in values.items() if not name.endswith(_ALPHA)}
        if came != shapes:
            raise ValueError(
                "The file was written by a model with other LoRA layers or of another rank. Call "
                "`enable_lora` on the same layers with the same rank, or pass "
                "`skip_mismatch=True` to begin with factors of zero. "
                f"Received: shapes {[*came.values()]} in the file for {[*shapes.values()]}."
            )
        for name, variable in variables.items():
            variable.assign(values[name])
        for name, layer in alphas.items():
            layer.lora_alpha = float(values[name])

    def _warn(self, layers: list[keras.Layer], count: int) -> None:
        if not self._trained:
            return
        if count:
            message = (
                "The file was written by a model with LoRA, and this one has none: the factors are "
                "merged into its kernels, which all train from here. To continue with LoRA, call "
                "`enable_lora` on the layers, build and compile the distiller, and call its "
                f"`load_weights` with this file. Received: LoRA in {count} layers of the file."
            )
        else:
            message = (
                "The file holds no factors of LoRA, and Keras has set those of this model to zero, "
                "where they get no gradient. Load such a file before `enable_lora`. "
                f"Received: LoRA in {len(layers)} layers of the model."
            )
        warnings.warn(message, stacklevel=2)


@contextlib.contextmanager
def with_lora_state(model: keras.Model) -> Iterator[None]:
    """Let files that are written or read in this context hold the LoRA factors of any model.

    Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> model.layers[0].enable_lora(1)
    >>> before, path = model.get_weights(), Path(tempfile.mkdtemp()) / "model.weights.h5"
    >>> with with_lora_state(model):
    ...     model.save_weights(path)
    ...     model.load_weights(path)
    >>> all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    True
    """
    if hasattr(model, ATTRIBUTE):  # A distiller has its own.
        yield
        return
    attach(model, ATTRIBUTE, lambda: flat_layers(model))
    try:
        yield
    finally:
        # Not `delattr`: it was attached without Keras's tracking.
        object.__delattr__(model, ATTRIBUTE)


def attach(model: keras.Model, name: str, *args: Any, **kwargs: Any) -> None:
    """Give a model a `LoraState`, which Keras finds among its attributes but does not track."""
    object.__setattr__(model, name, LoraState(*args, **kwargs))


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers inside a model, and the layers inside those."""
    # `layers` has only the first level, and only in models: no public name has all of them.
    return model._flatten_layers(include_self=False)


def has_lora(layer: keras.Layer) -> bool:
    """Whether `enable_lora` was called on a layer."""
    return getattr(layer, "lora_enabled", False)
