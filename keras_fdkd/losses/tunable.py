"""Tunable: a number of a loss that may change during training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.arguments import check_number
from keras_fdkd.running import give_values


class Tunable:
    """A number of a loss that compiled steps follow when it changes, by a callback for example.

    Until a distiller takes the loss, it is a plain number. Then a variable holds it, which the
    distiller tracks: a compiled step reads variables each time, but plain numbers only once. `use`
    gives the loss the value to compute with; reading the attribute gives the number itself.

    Args:
        above: Whether the number must be above 0, rather than 0 or above.
    """

    def __init__(self, *, above: bool = False) -> None:
        self.above = above

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, loss: Any, owner: type | None = None) -> Any:
        if loss is None:
            return self
        variable = loss.variables.get(self.name)
        if variable is None:
            return loss.numbers[self.name]
        # The shortest number that rounds to the variable's value: 0.3, not 0.30000001.
        return float(str(np.float32(ops.convert_to_numpy(variable))))

    def __set__(self, loss: Any, value: Any) -> None:
        check_number(self.name, value, above=self.above)
        variable = loss.variables.get(self.name)
        if variable is None:
            loss.numbers[self.name] = value
        else:
            # On JAX a variable has no value while an epoch runs.
            give_values()
            variable.assign(value)


def tunable_names(loss: Any) -> list[str]:
    """Return the names of the numbers of a loss that may change."""
    return [
        name
        for cls in reversed(type(loss).__mro__)
        for name, value in vars(cls).items()
        if isinstance(value, Tunable)
    ]


def number_variable(name: str, value: float) -> keras.Variable:
    """Return a variable that holds a number of a loss."""
    return keras.Variable(value, dtype="float32", trainable=False, name=name)
