"""Small models for the recipes."""

import keras
import numpy as np


def signal_classifier(
    signals: np.ndarray, classes: int, filters: tuple[int, ...], name: str
) -> keras.Model:
    """Return a 1-D convolutional net for signals of shape `(samples, steps, channels)`.

    Raw signals go in: the first layer scales them as `signals` says. The input of the last `Dense`
    layer is the pooled feature, of size `filters[-1]`.
    """
    scale = keras.layers.Normalization(axis=-1)
    scale.adapt(signals)
    inputs = keras.Input(signals.shape[1:])
    x = scale(inputs)
    for width in filters:
        x = keras.layers.Conv1D(width, 5, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling1D(name="feature")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name=name)
