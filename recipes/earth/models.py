"""A small U-Net, the same for both modalities."""

import keras
from keras import layers

FEATURE = "feature"
WIDTHS = (16, 32, 48, 64)  # At strides 2, 4, 8 and 16.
FEATURE_WIDTH = 48
# What 0.99 does in few steps: https://github.com/keras-team/keras/issues/7177.
MOMENTUM = 0.9  # Trainings are short: with 0.99 the averages would lag behind.


def segmenter(shape: tuple[int, int, int], classes: int, name: str) -> keras.Model:
    """Return a U-Net that gives logits for each pixel.

    The layer `feature` is the decoder's map at a quarter of the resolution, before its activation:
    a corner of it has seen the middle of the tile, and nothing is drawn in detail yet.

    Args:
        shape: Of a picture, `(height, width, channels)` of values from 0 to 255. Height and width
            are multiples of 16.
        classes: Number of classes.
        name: Of the model.
    """
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    skips = []
    for width in WIDTHS:
        x = _block(_block(x, width, strides=2), width)
        skips.append(x)
    half, quarter, eighth, x = skips
    x = _block(_joined(x, eighth), WIDTHS[2])
    x = layers.Conv2D(FEATURE_WIDTH, 3, padding="same", use_bias=False)(_joined(x, quarter))
    x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM, name=FEATURE)(x))
    x = _block(_joined(x, half), WIDTHS[0])
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name=name)


def _block(x: keras.KerasTensor, width: int, strides: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))


def _joined(x: keras.KerasTensor, skip: keras.KerasTensor) -> keras.KerasTensor:
    """Return a map at twice the size, beside what the encoder had there."""
    return layers.Concatenate()([layers.UpSampling2D(2)(x), skip])
