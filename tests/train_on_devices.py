"""Train a few steps on one or two devices of this machine and write what came of it.

`XLA_FLAGS=--xla_force_host_platform_device_count=2 python tests/train_on_devices.py 2 FILE`
"""

import contextlib
import json
import sys
from pathlib import Path

import keras
from keras.distillation import FeatureDistillation, LogitsDistillation

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from conftest import cross_entropy, pairs

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, MutualDistiller
from keras_fdkd.losses import DKD, KD


def smooth(inputs, features=16):
    """No `relu`: a rounding error that flips one is no error of distribution."""
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(features, "tanh", name="pool"),
            keras.layers.Dense(3),
        ]
    )


def scope(devices):
    """Let Keras spread batches over the devices, as each backend does."""
    if keras.config.backend() == "jax":
        found = keras.distribution.list_devices()
        assert len(found) == devices
        if devices > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found))
        return contextlib.nullcontext()
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, logical)
    if devices == 1:
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)]).scope()


def frequency():
    extra = [KD(), DKD()]
    return FrequencyDistiller(
        smooth(6, features=20), smooth(4), band_task_weight=0.2, extra_losses=extra
    )


def losses_of_keras():
    """As objects, which know of replicas, and as functions, which do not."""
    student = smooth(4)
    student.layers[0].kernel_regularizer = keras.regularizers.L2(0.01)
    feature = {"teacher_layer_name": "pool", "student_layer_name": "pool"}
    losses = [
        FeatureDistillation(keras.losses.MeanSquaredError(), **feature),
        FeatureDistillation("mse", **feature),
        LogitsDistillation(2.0, loss=keras.losses.KLDivergence()),
    ]
    return CrossModalDistiller(smooth(6), student, losses=losses)


def mutual():
    return MutualDistiller(
        {
            "student": FrequencyDistiller(smooth(6), smooth(4)),
            "teacher": FrequencyDistiller(smooth(4), smooth(6)),
        }
    )


def main(devices, file):
    """Train distillers of all kinds of terms that are means over the samples."""
    results = {}
    with scope(devices):
        for make in (frequency, losses_of_keras, mutual):
            keras.utils.set_random_seed(0)
            distiller = make()
            distiller.compile(
                keras.optimizers.SGD(0.05, momentum=0.9), loss=cross_entropy(), metrics=["accuracy"]
            )
            x, y = pairs(samples=64)
            weight = None if make is losses_of_keras else 0.5 + (y > 0)
            history = distiller.fit(
                x, y, sample_weight=weight, batch_size=16, epochs=2, shuffle=False, verbose=0
            ).history
            weights = [weight.tolist() for weight in distiller.get_weights()]
            results[make.__name__] = {"history": history, "weights": weights}
    Path(file).write_text(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
