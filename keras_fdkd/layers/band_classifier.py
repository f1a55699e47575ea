"""BandClassifier: one classifier of a band, shared by both modalities."""

from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_integer
from keras_fdkd.layers.positions import mean_over_positions
from keras_fdkd.layers.resizing import are_sizes, resized


@keras.saving.register_keras_serializable(package="keras_fdkd")
class BandClassifier(keras.layers.Layer):
    """Classify a frequency band: `Dense(relu(band))`.

    For a distiller of your own; `FrequencyDistiller` makes one per band. The same instance is
    called on the teacher's and on the student's band, which puts both modalities into one decision
    space.

    Args:
        num_classes: Integer, the number of logits.
        positions: Sizes of the positions that are classified, `(steps,)` or `(height, width)`, to
            which the logits of the band's own positions are resized; `None` among them for as many
            as the band has. Defaults to `None`: the mean over the positions is classified.
        **kwargs: See `keras.layers.Layer`.

    Call args:
        inputs: Band, shape `(batch, dim)` or `(batch, positions..., dim)`. Unless `positions` are
            given, the rectified band is averaged over its positions.
        mask: Boolean, shape `(batch, positions...)`, true at the positions to average; the average
            over no position is 0. Defaults to `None`: all, or those of the mask that Keras attached
            to `inputs`.

    Returns:
        Logits, shape `(batch, num_classes)`, or `(batch, positions..., num_classes)`.

    Raises:
        ValueError: If `num_classes` is not a positive integer, or the mask or positions do not fit.

    Example:
    >>> import numpy as np
    >>> tuple(BandClassifier(3)(np.ones((2, 8), "float32")).shape)
    (2, 3)

    References:
        - [Liu et al., AAAI 2026](https://arxiv.org/abs/2511.19887), shared classifiers.
    """

    def __init__(
        self, num_classes: int, positions: tuple[int | None, ...] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_integer("num_classes", num_classes)
        self.num_classes = num_classes
        if positions is not None and not are_sizes(positions):
            raise ValueError(
                "`positions` must be `(steps,)`, `(height, width)` or three sizes, each a positive "
                f"integer or `None`; or `None`. Received: positions={positions!r}."
            )
        self.positions = None if positions is None else tuple(positions)
        self.dense = keras.layers.Dense(num_classes, dtype=self.dtype_policy, name="dense")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.positions is not None and len(input_shape) - 2 != len(self.positions):
            raise ValueError(
                "A classifier of positions needs a band with the same axes of positions. "
                f"Received: positions={self.positions}, band of shape {tuple(input_shape)}."
            )
        self.dense.build((None, input_shape[-1]))
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        # `call`: Keras has already done for this layer what it does around each.
        if self.positions is not None:
            logits = self.dense.call(ops.relu(inputs))
            for axis, size in enumerate(self.positions, 1):
                logits = logits if size is None else resized(logits, axis, size)
            return logits
        return self.dense.call(self.pooled(inputs, mask))

    def pooled(self, inputs: Any, mask: Any = None) -> Any:
        """Return what a classifier of whole samples judges, shape `(batch, channels)`."""
        return mean_over_positions(ops.relu(inputs), mask)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None  # No positions are left.

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple:
        if self.positions is None:
            return input_shape[0], self.num_classes
        sizes = [
            own if size is None else size
            for size, own in zip(self.positions, input_shape[1:-1], strict=True)
        ]
        return input_shape[0], *sizes, self.num_classes

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "positions": self.positions,
        }
