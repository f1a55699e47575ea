"""BestEpoch: keep the weights of the best epoch of a whole training."""

import math
from typing import Any

import keras


class BestEpoch(keras.callbacks.EarlyStopping):
    """Restore the weights of the best epoch at the end, and never stop early.

    An epoch whose value is NaN counts as the worst. Keras would take the first for the best then,
    and nothing is better than NaN.

    Args:
        monitor: Name in the logs.
        mode: `"min"`, `"max"` or `"auto"`.
        epochs: Of the training, which it must not cut short.
    """

    def __init__(self, monitor: str, mode: str, epochs: int) -> None:
        super().__init__(monitor, mode=mode, patience=epochs, restore_best_weights=True)

    def get_monitor_value(self, logs: dict[str, Any] | None) -> Any:
        if self.monitor.startswith("val_") and not any(n.startswith("val_") for n in logs or {}):
            return None  # An epoch without validation, of which Keras would warn.
        value = super().get_monitor_value(logs)
        if value is None or not math.isnan(value):
            return value
        return math.inf if self.monitor_op(0.0, 1.0) else -math.inf
