"""Small models for the recipes. The input of the last `Dense` layer is the layer `feature`."""

import keras


def signal_classifier(
    shape: tuple[int, int], classes: int, filters: tuple[int, ...], name: str
) -> keras.Model:
    """Return a 1-D convolutional net for signals of shape `(steps, channels)`, of any scale.

    The maps after each convolution are the layers `stage1`, `stage2`, ...; the pooled feature has
    the size `filters[-1]`.
    """
    inputs = keras.Input(shape)
    # Scales raw signals as the training batches say.
    x = keras.layers.BatchNormalization(center=False, scale=False, name="scale")(inputs)
    for stage, width in enumerate(filters, 1):
        x = keras.layers.Conv1D(width, 5, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU(name=f"stage{stage}")(x)
    x = keras.layers.GlobalAveragePooling1D(name="feature")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name=name)


def picture_classifier(
    shape: tuple[int, int, int], classes: int, filters: tuple[int, ...], name: str
) -> keras.Model:
    """Return a 2-D convolutional net for pictures of shape `(height, width, channels)`."""
    inputs = keras.Input(shape)
    x = inputs
    for stage, width in enumerate(filters, 1):
        # The digits have 8 x 8 pixels: the first stage keeps them all.
        x = keras.layers.Conv2D(width, 3, strides=1 + (stage > 1), padding="same", use_bias=False)(
            x
        )
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU(name=f"stage{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="feature")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name=name)


def feature_classifier(
    size: int, classes: int, width: int, dropout: float, name: str
) -> keras.Model:
    """Return a head of one hidden layer for the features of a frozen encoder."""
    inputs = keras.Input((size,))
    x = keras.layers.BatchNormalization(center=False, scale=False, name="scale")(inputs)
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Dense(width, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(name="feature")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name=name)
