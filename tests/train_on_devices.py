"""Train a few steps on one device, on two of this machine, or in two processes.

`python tests/train_on_devices.py WAY FILE`, WAY one of `one`, `devices` (JAX: `DataParallel`,
TensorFlow: `MirroredStrategy`), `model` (JAX: `ModelParallel`) and `processes`, which
`tests/test_devices.py` starts twice (PyTorch: `torchrun`, TensorFlow: workers).
"""

import contextlib
import json
import os
import sys
from pathlib import Path

WAY = sys.argv[1] if __name__ == "__main__" else "one"
if WAY in ("devices", "model"):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
from keras.distillation import FeatureDistillation, LogitsDistillation

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from conftest import cross_entropy, pairs

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, MutualDistiller
from keras_fdkd.data import shard
from keras_fdkd.losses import DKD, KD
from keras_fdkd.processes import process

BACKEND = keras.config.backend()


def smooth(inputs, features=16):
    """No `relu`: a rounding error that flips one is no error of distribution."""
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(features, "tanh", name="pool"),
            keras.layers.Dense(3),
        ]
    )


@contextlib.contextmanager
def spread():
    """Let Keras spread batches, as each backend does."""
    if WAY == "devices" and BACKEND == "jax":
        found = keras.distribution.list_devices()
        assert len(found) == 2
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found))
    elif WAY == "model":
        mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"])
        layout = keras.distribution.LayoutMap(mesh)
        layout["teacher_.*/kernel"] = (None, "model")
        distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
        keras.distribution.set_distribution(distribution)
    elif WAY == "processes" and BACKEND == "torch":
        import torch

        torch.distributed.init_process_group("gloo")
    elif BACKEND == "tensorflow" and WAY != "one":
        import tensorflow as tf

        if WAY == "processes":
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        else:
            cpu = tf.config.list_physical_devices("CPU")[0]
            logical = [tf.config.LogicalDeviceConfiguration()] * 2
            tf.config.set_logical_device_configuration(cpu, logical)
            strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            yield
        return
    yield


def uneven(x, y):
    """Return a data set of all samples, on PyTorch 16 of 64 in the first process."""
    rows = slice(None)
    if WAY == "processes" and BACKEND == "torch":
        rows = [slice(16), slice(16, None)][process()[0]]
    return Batches(keras.tree.map_structure(lambda values: values[rows], x), y[rows])


class Batches(keras.utils.PyDataset):
    """Batches of 16, in their order."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[1]) // 16

    def __getitem__(self, step):
        rows = slice(16 * step, 16 * step + 16)
        return keras.tree.map_structure(lambda array: array[rows], self.arrays)


def frequency():
    return FrequencyDistiller(
        smooth(6, features=20), smooth(4), band_task_weight=0.2, extra_losses=[KD(), DKD()]
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


def normalized():
    """Each process has statistics of its own samples, which are averaged; dropout is there too."""
    layers = [keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.Dropout(0.1)]
    student = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])
    return FrequencyDistiller(smooth(6), student)


def unused():
    """A student with a layer that no loss reaches, and a teacher with a name to lay out by."""
    inputs = keras.Input((6,))
    feature = keras.layers.Dense(16, "tanh", name="teacher_hidden")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(4, name="teacher_logits")(feature))
    inputs = keras.Input((4,))
    feature = keras.layers.Dense(16, "tanh")(inputs)
    outputs = {"logits": keras.layers.Dense(4)(feature), "features": feature}
    outputs["unused"] = keras.layers.Dense(2)(feature)
    return FrequencyDistiller(teacher, keras.Model(inputs, outputs))


def train(make, folder):
    """Train one distiller and return what came of it; the first process writes its weights."""
    # Each process draws weights of its own: those of the first count.
    keras.utils.set_random_seed(process()[0])
    distiller = make()
    distiller.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), loss=cross_entropy(), metrics=["accuracy"]
    )
    x, y = pairs(samples=64)
    weights = () if make is losses_of_keras else (0.5 + (y > 0),)
    data = Batches(x, y, *weights)
    data = shard(data) if BACKEND == "torch" else data
    history = distiller.fit(data, epochs=2, shuffle=False, verbose=0, validation_data=data).history
    judged = uneven(x if make is mutual else x["student"], y)
    logs = distiller.evaluate(judged, verbose=0, return_dict=True)
    file = folder / f"{make.__name__}-{process()[0]}.weights.h5"
    distiller.save_weights(file)
    distiller.save(folder / f"{make.__name__}-{process()[0]}.keras")
    return {
        "history": {**history, **{f"evaluate_{name}": value for name, value in logs.items()}},
        "weights": [weight.tolist() for weight in distiller.get_weights()],
        "written": sorted(path.name for path in folder.glob(f"{make.__name__}-{process()[0]}*")),
        "parts": [
            variable.value.addressable_shards[0].data.size / variable.value.size
            for variable in (
                distiller.teacher.variables if make is unused and WAY == "model" else ()
            )
        ],
    }


def main(file):
    """Train distillers of all kinds of terms that are means over the samples."""
    makers = [frequency, losses_of_keras, mutual]
    makers += [] if BACKEND == "tensorflow" else [unused]  # Keras refuses it there.
    makers += [normalized] if BACKEND == "torch" else []
    with spread():
        number = process()[0]
        results = {make.__name__: train(make, file.parent) for make in makers}
    file.with_name(f"{file.stem}-{number}.json").write_text(json.dumps(results))
    if BACKEND == "torch" and WAY == "processes":
        import torch

        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[2]))
