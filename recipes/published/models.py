"""The paper's models: a backbone of KerasHub and a plain head.

The head sees pooled features after the backbone's last activation; compared are those before it,
see `with_features`.
"""

import math

import keras
import numpy as np
from keras import ops

from recipes.published.backbones import (
    image_backbone,
    sound_converter,
    sound_encoder,
    text_backbone,
    without_activation,
)
from recipes.published.random_resized_crop import RandomResizedCrop
from recipes.published.random_slice import RandomSlice

COMPARED = "before_activation"
# Of ImageNet's pictures, from 0 to 255.
_MEAN = [123.675, 116.28, 103.53]
_DEVIATION = [58.395, 57.12, 57.375]


def picture_model(
    shape: tuple[int, int, int, int],
    size: tuple[int, int],
    classes: int,
    backbone: str,
    seen: int = 1,
) -> keras.Model:
    """Return a classifier of several pictures a sample, of which it sees one or some.

    While training it sees any of them, a random part of each, perhaps mirrored; else those in the
    middle, whole. The backbone sees each by itself, and pooling is the mean over all of them.

    Args:
        shape: Frames, height, width and channels of a sample, from 0 to 255.
        size: Height and width that the backbone sees.
        classes: Number of classes.
        backbone: See `recipes.published.backbones.image_backbone`.
        seen: How many neighbouring frames it sees. Defaults to `1`.
    """
    inputs = keras.Input(shape, name="pictures")
    x = RandomSlice(seen)(inputs)
    # Several frames become samples of their own, which no layer of Keras does.
    x = keras.layers.Reshape(shape[1:])(x) if seen == 1 else ops.reshape(x, (-1, *shape[1:]))
    x = RandomResizedCrop(*size)(x)
    x = keras.layers.RandomFlip("horizontal")(x)
    x = _normalized(x)
    inner = image_backbone(backbone, (*size, 3))
    return _pooled(inputs, x, inner, classes, "picture", seen)


def sound_model(
    shape: tuple[int, int], classes: int, backbone: str, steps: int | None = None
) -> keras.Model:
    """Return a classifier of spectrograms, which its backbone sees as pictures of one channel.

    Args:
        shape: Bins and steps of a spectrogram.
        classes: Number of classes.
        backbone: As of pictures; one for three channels sees the spectrogram in each.
        steps: How many neighbouring steps it sees: any while training, else the middle. Defaults to
            `None`: all.
    """
    inputs = keras.Input(shape, name="spectrogram")
    x = inputs if steps is None else RandomSlice(steps, axis=2)(inputs)
    x = keras.layers.Reshape((shape[0], steps or shape[1], 1))(x)
    inner = image_backbone(backbone, tuple(x.shape[1:]))
    if inner.input_shape[-1] == 3:
        x = keras.layers.Concatenate()([x, x, x])
    return _pooled(inputs, x, inner, classes, "sound")


def heard_model(samples: int, classes: int, backbone: str) -> keras.Model:
    """Return a classifier of sounds by the mean over time of an audio backbone's encoder.

    Args:
        samples: Of a clip, at the rate of the backbone.
        classes: Number of classes.
        backbone: See `recipes.published.backbones.sound_encoder`.
    """
    converter = sound_converter(backbone)
    shape = converter(np.zeros((1, samples), "float32")).shape[1:]
    encoder, names = sound_encoder(backbone)
    masks = [name for name in names if name.endswith("mask")]
    [features] = [name for name in names if name not in masks]
    inputs = keras.Input(shape, name="sound")
    # All clips are of one length.
    there = {name: ops.ones_like(inputs[..., 0], dtype="bool") for name in masks}
    x = encoder({features: inputs, **there})
    if window := getattr(converter, "num_samples", None):
        # Whisper's converter fills a window of 30 seconds: what follows the clip is silence.
        x = x[:, : math.ceil(x.shape[1] * min(1.0, samples / window))]
    x = keras.layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name="sound")


def text_model(classes: int, backbone: str, length: int) -> keras.Model:
    """Return a classifier of texts by the first token of a backbone's last layer.

    Args:
        classes: Number of classes.
        backbone: See `recipes.published.backbones.text_backbone`.
        length: Tokens of a text.
    """
    inner = text_backbone(backbone)
    given = inner.input if isinstance(inner.input, dict) else {"token_ids": inner.input}
    inputs = {
        name: keras.Input((length,), dtype=one.dtype, name=name) for name, one in given.items()
    }
    output = inner.output
    # BERT's own pooling of the first token is left out.
    last = output["sequence_output"] if isinstance(output, dict) else output
    inner = keras.Model(inner.input, last, name=inner.name)
    sequence = inner(inputs if isinstance(inner.input, dict) else inputs["token_ids"])
    # The rate that BERT is fine-tuned with (Devlin et al., NAACL 2019).
    first = keras.layers.Dropout(0.1)(sequence[:, 0])
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(first), name="text")


def segmenter(shape: tuple[int, int, int], classes: int, backbone: str, name: str) -> keras.Model:
    """Return DeepLabV3+ for pictures.

    Args:
        shape: Of a picture: colours from 0 to 255, or a single channel of any scale.
        classes: Number of classes.
        backbone: Of the encoder, see `recipes.published.backbones.image_backbone`.
        name: Of the model.
    """
    import keras_hub

    inputs = keras.Input(shape, name=name)
    x = inputs
    if shape[-1] == 3:
        x = _normalized(x)
    else:
        # Distances have no fixed scale as colours do: the training batches tell it.
        x = keras.layers.BatchNormalization(center=False, scale=False, name="scale")(x)
        x = keras.layers.Concatenate()([x, x, x])
    encoder = image_backbone(backbone, (*shape[:2], 3))
    deeplab = keras_hub.models.DeepLabV3Backbone(
        encoder,
        spatial_pyramid_pooling_key="P5",
        low_level_feature_key="P2",
        # From P5, a 32nd of the picture's size, to P2, a quarter.
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
        image_shape=(*shape[:2], 3),
    )
    # At a quarter of the picture's size. What DeepLab does after it follows here.
    before = deeplab.get_layer("segmentation_head_norm").output
    x = keras.Model(deeplab.input, before, name="deeplab")(x)
    x = keras.layers.Identity(name=COMPARED)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.UpSampling2D(4, interpolation="bilinear")(x)
    logits = keras.layers.Conv2D(classes, 1, name="logits")(x)
    return keras.Model(inputs, logits, name=name)


def with_features(model: keras.Model) -> keras.Model:
    """Return the same model, weights shared, that hands out what is compared beside its logits.

    Args:
        model: Of this module. Of pictures and sounds the pooled map before the last activation, of
            a segmenter the map itself; models of texts, and of sounds by an audio backbone, are
            returned as they are, since the input of their head is compared.
    """
    if not any(layer.name == COMPARED for layer in model.layers):
        return model
    before = model.get_layer(COMPARED).output
    is_dense = len(model.output.shape) > 2
    feature = before if is_dense else keras.layers.GlobalAveragePooling2D(name="feature")(before)
    outputs = {"features": feature, "logits": model.output}
    return keras.Model(model.input, outputs, name=model.name)


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    variance = [value**2 for value in _DEVIATION]
    return keras.layers.Normalization(mean=_MEAN, variance=variance)(x)


def _pooled(
    inputs: keras.KerasTensor,
    x: keras.KerasTensor,
    backbone: keras.Model,
    classes: int,
    name: str,
    seen: int = 1,
) -> keras.Model:
    inner, activation = without_activation(backbone)
    x = inner(x)
    if seen > 1:
        # The maps of a sample's frames, one below the other.
        x = ops.reshape(x, (-1, seen * x.shape[1], *x.shape[2:]))
    # Last layers have other names in other backbones: this one marks the place.
    x = keras.layers.Identity(name=COMPARED)(x)
    if activation is not None:
        x = activation(x)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(pooled), name=name)
