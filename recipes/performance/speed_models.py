"""The pairs of models whose steps `recipes.performance.speed` times."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from recipes.published import models

BATCH_SIZE = 64
CLASSES = 6
FEATURE = "feature"


@dataclass(frozen=True)
class Pair:
    """Two models that see inputs of the same shape.

    `keras.distillation.Distiller` wants it so, and it is timed beside ours.

    Attributes:
        shape: Of a sample.
        make: From a role, `"teacher"` or `"student"`, to a new model that has the compared layer.
        optimizer: Of the student.
        steps: Of an epoch, the unit that is timed.
        rounds: How often each trainer is timed.
        options: Arguments of our distiller, besides the layers.
        positions: Shape of the labels of a sample, `()` for one label.
        batch_size: Samples in a step.
        feature: Name of the layer that is compared, "feature" by default.
    """

    shape: tuple[int, ...]
    make: Callable[[str], keras.Model]
    optimizer: Callable[[], keras.optimizers.Optimizer]
    steps: int
    rounds: int
    options: dict[str, Any] = field(default_factory=dict)
    positions: tuple[int, ...] = ()
    batch_size: int = BATCH_SIZE
    feature: str = FEATURE


def _momentum() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(1e-3, momentum=0.9)


def resnet(role: str) -> keras.Model:
    """Return three stages of one residual block, of 64 (teacher) or 32 base filters."""
    layers = keras.layers
    base = {"teacher": 64, "student": 32}[role]

    def normalized(x: keras.KerasTensor, width: int, size: int, strides: int) -> keras.KerasTensor:
        x = layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(normalized(inputs, base, 3, 1))
    for stage in range(3):
        width, strides = base * 2**stage, 1 + (stage > 0)
        y = layers.ReLU()(normalized(x, width, 3, strides))
        y = normalized(y, width, 3, 1)
        x = normalized(x, width, 1, strides) if stage else x
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dense(512, name=FEATURE)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.ReLU()(x)), name=role)


def hub_resnet(role: str) -> keras.Model:
    """Return a ResNet-18 of KerasHub."""
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    x = keras.layers.GlobalAveragePooling2D(name=FEATURE)(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(CLASSES)(x), name=role)


def mlp(role: str) -> keras.Model:
    """Return three small hidden layers."""
    layers = keras.layers
    inputs = x = keras.Input((32,))
    for number in range(3):
        x = layers.BatchNormalization()(layers.Dense(64)(x))
        x = layers.ReLU(name=FEATURE if number == 2 else None)(x)
        x = layers.Dropout(0.2)(x) if number < 2 else x
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name=role)


def segmenter(role: str) -> keras.Model:
    """Return an encoder, its map, and a decoder that classifies pixels."""
    layers = keras.layers
    base = {"teacher": 32, "student": 16}[role]
    inputs = x = keras.Input((32, 32, 3))
    for stage in range(2):
        for strides in (2, 1) if stage else (1, 1):
            x = layers.Conv2D(base * 2**stage, 3, strides, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(64, 1, name=FEATURE)(x)
    x = layers.Conv2DTranspose(base, 3, strides=2, padding="same")(layers.ReLU()(x))
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1)(layers.ReLU()(x)), name=role)


def deeplab(role: str) -> keras.Model:
    """Return DeepLabV3+ of KerasHub, whose feature is its map at a quarter of the size."""
    return models.segmenter((64, 64, 3), CLASSES, "resnet_18", role)


def recurrent(role: str) -> keras.Model:
    """Return a GRU over masked steps, whose states are the feature."""
    return _recurrent((40, 16), {"teacher": (128,), "student": (64,)}[role], 64)


def speech(role: str) -> keras.Model:
    """Return two layers of GRUs over a hundred masked frames of a spectrogram."""
    return _recurrent((100, 80), {"teacher": (512, 512), "student": (256, 256)}[role], 128)


def _recurrent(shape: tuple[int, int], units: tuple[int, ...], size: int) -> keras.Model:
    layers = keras.layers
    inputs = keras.Input(shape)
    x = layers.Masking()(inputs)
    for width in units:
        x = layers.GRU(width, return_sequences=True)(x)
    x = layers.Dense(size, name=FEATURE)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


PAIRS = {
    "resnet": Pair((32, 32, 3), resnet, _momentum, steps=5, rounds=15),
    "hub": Pair((64, 64, 3), hub_resnet, _momentum, 2, 5),
    "maps": Pair(
        (32, 32, 3),
        segmenter,
        _momentum,
        steps=3,
        rounds=9,
        options={"axis": (1, 2)},
        positions=(32, 32),
    ),
    "deeplab": Pair(
        (64, 64, 3),
        deeplab,
        _momentum,
        steps=2,
        rounds=5,
        options={"axis": (1, 2)},
        positions=(64, 64),
        batch_size=8,
        feature=models.COMPARED,
    ),
    "speech": Pair((100, 80), speech, _momentum, 2, 5),
    "masked": Pair((40, 16), recurrent, _momentum, steps=5, rounds=9),
    "tiny": Pair((32,), mlp, keras.optimizers.Adam, 100, 40),
}
