"""How the studies of classes train their models: the same for all."""

from typing import Any

import keras

from keras_fdkd.study.labels import UNLABELLED

BATCH_SIZE = 64
RATE = 2e-3


def loss() -> keras.losses.Loss:
    """Return a cross-entropy on logits that leaves samples without a label out."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=UNLABELLED)


def adam(steps: int) -> keras.optimizers.Optimizer:
    """Return Adam whose rate falls to 0 over training, by half a cosine."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps))


def compile_arguments() -> dict[str, Any]:
    """Return what `keras_fdkd.study.Study` compiles models with."""
    return {"optimizer": adam, "loss": loss(), "metrics": ["accuracy"]}
