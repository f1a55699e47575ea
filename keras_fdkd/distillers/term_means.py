"""TermMeans: the means of a distiller's terms over an epoch."""

from collections.abc import Collection, Mapping
from typing import Any

import keras
from keras import ops


class TermMeans(keras.metrics.Metric):
    """Means over the samples of several scalars, in one variable: one update per step.

    Args:
        names: Names of the scalars.

    Example:
    >>> means = TermMeans(["low_loss", "high_loss"])
    >>> means.update_state({"low_loss": 1.0, "high_loss": 4.0}, 30)
    >>> means.update_state({"low_loss": 2.0, "high_loss": 4.0}, 10)
    >>> {name: float(value) for name, value in means.result().items()}
    {'low_loss': 1.25, 'high_loss': 4.0}
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(name="terms")
        self.names = tuple(names)
        self.total = self.add_variable((len(self.names),), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, values: Mapping[str, Any], size: Any) -> None:
        """Add the terms of a batch.

        Args:
            values: Scalars by name; one that is missing counts as 0.
            size: Number of samples in the batch.

        Raises:
            ValueError: If there is a scalar with another name.
        """
        if unknown := sorted(set(values) - set(self.names)):
            raise ValueError(
                "Terms and monitors must be named in `logs` of the distiller. "
                f"Received: {unknown}, beside {list(self.names)}."
            )
        size = ops.cast(size, self.dtype)
        row = [ops.cast(values.get(name, 0.0), self.dtype) for name in self.names]
        self.total.assign_add(size * ops.stack(row))
        self.count.assign_add(size)

    def result(self) -> dict[str, Any]:
        """Return the means by name."""
        # 0 before the first batch, like Keras's own `Mean`.
        means = ops.divide_no_nan(self.total, self.count)
        return {name: means[number] for number, name in enumerate(self.names)}
