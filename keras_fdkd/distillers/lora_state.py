"""LoraState: the factors of LoRA as they are, which Keras merges into the kernels of its files."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

# Keras walks the attributes of a model by name and private ones last, so after the layers whose
# factors it sets to zero: https://github.com/keras-team/keras/issues/23244.
ATTRIBUTE = "_unmerged"


class LoraState(keras.Layer):
    """Kernels and factors of LoRA in a file, beside what Keras writes of them.

    Keras writes `kernel + a @ b` where the kernel was, and sets both factors to zero when it reads
    a file. That is right for serving; training could not go on, as two factors of zero get no
    gradient. This layer, an attribute of a model, writes all variables of the layers with factors,
    quantized ones too, and puts them back. The file holds the kernels of these layers twice.

    Args:
        variables: Function that returns the variables of the model.
        trained: Whether the model trains. To a frozen one merged kernels are as good.
    """

    def __init__(self, variables: Callable[[], list[Any]], trained: bool = True) -> None:
        super().__init__(name="lora_state")
        self._find = variables
        self._trained = trained

    def _unmerged(self) -> list[Any]:
        """Return the variables of all layers with factors; those of a layer share a path."""
        found = self._find()
        layers = {_layer(variable) for variable in found if variable.name.startswith("lora_")}
        return [variable for variable in found if _layer(variable) in layers]

    def save_own_variables(self, store: Any) -> None:
        for number, variable in enumerate(self._unmerged()):
            store[str(number)] = variable

    def load_own_variables(self, store: Any) -> None:
        variables, count = self._unmerged(), len(list(store.keys()))
        if not (variables and count):
            if variables or count:
                self._warn(count, variables)
            return
        values = [np.asarray(store[str(number)]) for number in range(count)]
        shapes = [tuple(variable.shape) for variable in variables]
        if [value.shape for value in values] != shapes:
            raise ValueError(
                "The file was written by a model with other LoRA layers or of another rank. Call "
                "`enable_lora` on the same layers with the same rank, or pass "
                "`skip_mismatch=True` to begin anew with factors of zero. "
                f"Received: shapes {[value.shape for value in values]} in the file for {shapes}."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _warn(self, count: int, variables: list[Any]) -> None:
        if not self._trained:
            return
        if count:
            message = (
                "The file was written by a model with LoRA, and this one has none: the factors are "
                "merged into its kernels, which all train from here. To go on with LoRA, call "
                "`enable_lora` on the layers, build and compile the distiller, and call its "
                f"`load_weights` with this file. Received: {count} variables of layers with LoRA."
            )
        else:
            message = (
                "The file holds no factors of LoRA, and Keras has set those of this model to zero, "
                "where they get no gradient. Load such a file before `enable_lora`. "
                f"Received: a model with LoRA in {len({*map(_layer, variables)})} layers."
            )
        warnings.warn(message, stacklevel=2)


@contextlib.contextmanager
def with_lora_state(model: keras.Model) -> Iterator[None]:
    """Let files that are written or read meanwhile hold the factors of any model's LoRA.

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
    attach(model, ATTRIBUTE, lambda: model.variables)
    try:
        yield
    finally:
        object.__delattr__(model, ATTRIBUTE)


def attach(model: keras.Model, name: str, *args: Any, **kwargs: Any) -> None:
    """Give a model a `LoraState`, which Keras finds in its attributes and does not track."""
    object.__setattr__(model, name, LoraState(*args, **kwargs))


def _layer(variable: Any) -> str:
    return variable.path.rpartition("/")[0]
