"""BandSimilarity: how similar the bands of both features are, after each epoch."""

from typing import Any

import keras

from keras_fdkd.analysis.similarity import band_similarity
from keras_fdkd.arguments import check_integer


class BandSimilarity(keras.callbacks.Callback):
    """Log the band similarities of held-out pairs, with their controls, after each epoch.

    Use it to see whether a `FrequencyDistiller` brings the features of both modalities together.
    The logs gain `similarity_raw`, `similarity_low_with_dc`, `similarity_low`, `similarity_high`
    and the `_shuffled` controls, see `keras_fdkd.analysis.band_similarity`.

    Args:
        data: Pairs, see `keras_fdkd.analysis.extract_features`.
        every: Integer, number of epochs between two measurements; in between the last one is
            repeated, so that the history has one value per epoch. Defaults to `1`.
        **kwargs: See `keras_fdkd.analysis.band_similarity`.

    Example:
    >>> import numpy as np
    >>> from keras_fdkd import FrequencyDistiller
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = FrequencyDistiller(model(6), model(4), align_weight=0)
    >>> distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> history = distiller.fit(x, np.zeros(8, "int32"), verbose=0, callbacks=[BandSimilarity(x)])
    >>> "similarity_low_shuffled" in history.history
    True
    """

    def __init__(self, data: Any, every: int = 1, **kwargs: Any) -> None:
        super().__init__()
        check_integer("every", every)
        self.data = data
        self.every = every
        self.kwargs = kwargs
        self._last: dict[str, float] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # A resumed training may begin between two measurements, without a last one.
        if epoch % self.every == 0 or not self._last:
            means = band_similarity(self.model, self.data, **self.kwargs).mean
            self._last = {f"similarity_{kind}": value for kind, value in means.items()}
        # All callbacks get the same dict, and Keras's `History` gets it last.
        if logs is not None:
            logs.update(self._last)
