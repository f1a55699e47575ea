"""Small nets for padded sequences: a feature for each step, at a rate of the modality's own."""

import keras

from recipes.grid.layers import (
    BlankPadding,
    LengthMask,
    MaskedConv1D,
    MaskedMaxPooling1D,
    MeanSubtraction,
)

_POOL = 2  # Pixels of a picture that are averaged, along either side.
_SIZE = 5  # Steps that a convolution sees.
_WIDTH, _DROPOUT = 64, 0.4


def build_model(
    modality: str, shape: tuple[int, ...], letters: int, words: int | None = None
) -> keras.Model:
    """Return a net for the inputs of a modality of `recipes.grid.data.GridData`.

    The layer `feature` has a value for each step and channel, `(batch, steps, dim)`, with a Keras
    mask: of the mouth at 25 steps a second, of the sound at 50.

    Args:
        modality: `"mouth"` or `"sound"`.
        shape: Of its padded frames, without the batch.
        letters: Number of letters. The layer `logits` judges the largest value of each channel.
        words: Number of words, of which, and of the blank, the layer `logits` judges each step
            instead. The model's output then suits `keras.losses.CTC`. Defaults to `None`.
    """
    frames = keras.Input(shape, dtype="uint8", name="frames")
    length = keras.Input((), dtype="int32", name="length")
    x = keras.layers.Rescaling(1 / 128, -1.0)(frames)
    if modality == "mouth":
        # What stands still tells of the speaker and the light.
        x = MeanSubtraction()(LengthMask()([_pixels(x), length]))
        x = keras.layers.Dense(_WIDTH // 2)(x)
        x = _block(x)
    else:
        x = _block(LengthMask()([x, length]), strides=2)
    x = _block(x)
    x = _block(x, dilation_rate=2, name="feature")
    inputs = {"frames": frames, "length": length}
    if words is not None:
        x = keras.layers.Dropout(_DROPOUT)(x)
        x = keras.layers.Dense(words + 1, name="logits")(x)
        return keras.Model(inputs, BlankPadding(name="words")(x), name=modality)
    x = MaskedMaxPooling1D(name="pool")(x)
    x = keras.layers.Dropout(_DROPOUT)(x)
    return keras.Model(inputs, keras.layers.Dense(letters, name="logits")(x), name=modality)


def _pixels(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the pixels of each picture, averaged, shape `(batch, steps, values)`."""
    x = keras.layers.Reshape((*x.shape[1:], 1))(x)
    x = keras.layers.AveragePooling3D((1, _POOL, _POOL))(x)
    return keras.layers.Reshape((x.shape[1], -1))(x)


def _block(
    x: keras.KerasTensor,
    strides: int = 1,
    dilation_rate: int = 1,
    name: str | None = None,
) -> keras.KerasTensor:
    options = {"strides": strides, "dilation_rate": dilation_rate}
    x = MaskedConv1D(_WIDTH, _SIZE, padding="same", use_bias=False, **options)(x)
    x = keras.layers.BatchNormalization()(x)  # Of the valid steps.
    return keras.layers.ReLU(name=name)(x)
