"""TermWeights: the one place for the numbers that weigh the terms of a distiller."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.arguments import check_number
from keras_fdkd.running import give_values


class TermWeights(keras.layers.Layer):
    """Weights by the name of the term, which compiled steps follow when they change.

    They are variables, because a number would be a constant of the step compiled with it. As
    variables they are also saved with the state of the training, like the learning rate.

    Args:
        weights: Numbers >= 0 by the name of the term in the logs.
        numbers: Further variables that the step reads: those of the losses.

    Example:
    >>> weights = TermWeights({"kd_loss": 0.3})
    >>> weights["kd_loss"] = 0.5
    >>> dict(weights.items())
    {'kd_loss': 0.5}
    """

    def __init__(self, weights: Mapping[str, float], numbers: Sequence[Any] = ()) -> None:
        super().__init__(name="term_weights", dtype="float32", trainable=False)
        self.variable_of = {
            name: self.add_weight(
                name=name,
                shape=(),
                initializer=keras.initializers.Constant(weight),
                trainable=False,
                autocast=False,  # Mixed precision must not round it.
            )
            for name, weight in weights.items()
        }
        self.numbers = list(numbers)
        self.built = True

    def __getitem__(self, name: str) -> float:
        """Return a weight as a number."""
        # The shortest number that rounds to the variable's value: 0.3, not 0.30000001.
        return float(str(np.float32(ops.convert_to_numpy(self._variable(name)))))

    def __setitem__(self, name: str, weight: float) -> None:
        """Set a weight, also during training."""
        variable = self._variable(name)
        check_number(name, weight)
        # On JAX a variable has no value while an epoch runs.
        give_values()
        variable.assign(weight)

    def __iter__(self) -> Iterator[str]:
        return iter(self.variable_of)

    def items(self) -> list[tuple[str, float]]:
        """Return names and weights."""
        return [(name, self[name]) for name in self]

    def tensor(self, name: str) -> Any:
        """Return a weight to compute with."""
        return self.variable_of[name].value

    def _variable(self, name: str) -> Any:
        if name not in self.variable_of:
            raise ValueError(
                f"There is no term {name!r} to weigh: a term whose weight was 0 when the distiller "
                "was made is not part of it. Build a new distiller. "
                f"Terms: {sorted(self.variable_of)}."
            )
        return self.variable_of[name]

    def load_own_variables(self, store: Any) -> None:
        if store.keys():  # Files of earlier versions hold no weights: keep those of the arguments.
            super().load_own_variables(store)


def lasting(weight: float, first: float) -> float:
    """Return the weight of a term for a configuration: the first one if it is 0 now.

    A term made with weight 0 would not exist. A file holds the 0 too, as the variable's value.
    """
    return weight or first


class TermWeight:
    """A distiller's attribute for the weight of a term in its `term_weights`, 0 without it."""

    def __init__(self, term: str) -> None:
        self.term = term

    def __get__(self, distiller: Any, owner: type | None = None) -> Any:
        if distiller is None:
            return self
        weights = distiller.term_weights
        return dict(weights.items()).get(self.term, 0.0)

    def __set__(self, distiller: Any, weight: float) -> None:
        if weight or self.term in distiller.term_weights:
            distiller.term_weights[self.term] = weight
