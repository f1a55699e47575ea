"""A classifier for each modality. The input of the last `Dense` layer is the layer `feature`."""

import keras
from keras import ops

FEATURE = 128
# Chosen in a few tries of the models alone, by the validation drawers of the first split.
FILTERS = {"picture": (16, 32, 64), "pen": (32, 64, 128)}
DROPOUT = {"picture": 0.4, "pen": 0.2}


def build_model(modality: str, shape: tuple[int, ...], classes: int) -> keras.Model:
    """Return a new classifier.

    Args:
        modality: `"picture"` or `"pen"`, which also is the model's name.
        shape: Of one input, without the batch.
        classes: Number of logits.
    """
    inputs = keras.Input(shape)
    see = {"picture": _picture, "pen": _path}[modality]
    x = see(inputs, FILTERS[modality])
    x = keras.layers.Dropout(DROPOUT[modality])(x)
    x = keras.layers.Dense(FEATURE, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(name="feature")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name=modality)


def _picture(x: "keras.KerasTensor", filters: tuple[int, ...]) -> "keras.KerasTensor":
    """2-D convolutions; where something is drawn counts, so the last map is not pooled."""
    x = keras.layers.Rescaling(1 / 255)(x)
    for width in filters:
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.layers.Flatten()(x)


def _path(x: "keras.KerasTensor", filters: tuple[int, ...]) -> "keras.KerasTensor":
    """1-D convolutions along the path, pooled over its own steps.

    What follows the end of a path is zero before each convolution, and counts in no mean: a model
    says the same of a path however many zeros follow it.
    """
    # No step of a path is all zeros: see `path_steps`.
    mask = ops.any(ops.not_equal(x, 0.0), axis=-1)
    x = keras.layers.BatchNormalization(center=False, scale=False, name="scale")(x, mask=mask)
    x = _without_padding(x, mask)
    for width in filters:
        x = keras.layers.Conv1D(width, 5, strides=2, padding="same", use_bias=False)(x)
        mask = mask[:, ::2]
        x = keras.layers.BatchNormalization()(x, mask=mask)
        x = _without_padding(keras.layers.ReLU()(x), mask)
    mean = keras.layers.GlobalAveragePooling1D()(x, mask=mask)
    # The maximum needs no mask: after ReLU no value is below the zeros of the padding.
    return keras.layers.Concatenate()([mean, keras.layers.GlobalMaxPooling1D()(x)])


def _without_padding(x: "keras.KerasTensor", mask: "keras.KerasTensor") -> "keras.KerasTensor":
    return ops.multiply(x, ops.expand_dims(ops.cast(mask, x.dtype), -1))
