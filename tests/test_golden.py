"""FD-CMKD against the numbers of the authors' code: each term, each gradient, training."""

import keras
import numpy as np
import pytest
from conftest import assert_golden, cross_entropy, gradient, momentum_of
from keras import ops

from keras_fdkd import PUBLISHED, FrequencyDistiller
from keras_fdkd.layers import FrequencySplit, Standardize
from keras_fdkd.losses import LogMeanSquaredError

BANDS = ("low", "high")
SIDES = {"a": "v", "v": "a"}  # student: teacher


@pytest.mark.parametrize("include_dc", [False, True])
def test_filter(golden, include_dc):
    data = golden("fdcmkd_filter_n4")
    suffix = "_dc" if include_dc else ""
    split = FrequencySplit(include_dc=include_dc)
    low, high = split(data["x"])
    assert_golden(low, data[f"low{suffix}_f64"])
    assert_golden(high, data["high_f64"])

    def weighted(x):
        low, high = split(x)
        cotangents = [ops.convert_to_tensor(data[f"cot_{band}"], "float32") for band in BANDS]
        return ops.sum(cotangents[0] * low) + ops.sum(cotangents[1] * high)

    assert_golden(gradient(weighted, data["x"].astype("float32")), data[f"grad_x{suffix}_f64"])


def test_normalization_and_compression(golden):
    data = golden("fdcmkd_norm_sigma")
    norm = Standardize("norm", center=False)
    x, cotangent = data["x"].astype("float32"), data["cot"].astype("float32")
    assert_golden(norm(x), data["norm_f64"])
    found = gradient(lambda v: ops.sum(ops.convert_to_tensor(cotangent) * norm(v)), x)
    alive = np.abs(x).sum(1) > 0
    assert_golden(found[alive], data["grad_norm_f64"][alive])
    assert not found[~alive].any()

    # g is inside the loss: against 0 and with one value a row, the loss is g(x) ** 2.
    grid = data["grid"].astype("float32")[:, None]
    loss = LogMeanSquaredError(reduction="none")
    values = ops.convert_to_numpy(loss(np.zeros_like(grid), grid))
    assert_golden(np.sign(grid[:, 0]) * np.sqrt(values), data["sigma_grid_f64"])
    slopes = gradient(lambda v: ops.sum(loss(ops.zeros_like(v), v)), grid)[:, 0]
    assert_golden(slopes, 2 * data["sigma_grid_f64"] * data["dsigma_grid_f64"])


def reference_distiller(data, side, **kwargs):
    """The stored features and logits as a teacher and a student, with the stored heads."""
    samples, classes = data["logits_student_a"].shape
    feature = keras.Input((512,))
    logits = keras.layers.Lambda(lambda x: x[:, :classes])(feature)
    teacher = keras.Model(feature, {"features": feature, "logits": logits})
    index = keras.Input((), dtype="int32")
    student_feature = keras.layers.Embedding(samples, 512, name="feature")(index)
    student_logits = keras.layers.Embedding(samples, classes, name="logits")(index)
    student = keras.Model(index, {"features": student_feature, "logits": student_logits})
    student.get_layer("feature").set_weights([data[f"student_{side}"]])
    student.get_layer("logits").set_weights([data[f"logits_student_{side}"]])
    distiller = FrequencyDistiller(teacher, student, **{**PUBLISHED, **kwargs})
    for kind, heads in (("align", distiller.align_heads), ("task", distiller.band_task_heads)):
        for band, head in heads.items():
            name = f"{kind}_{side}_{band}"
            head.set_weights([data[f"kernel_{name}"], data[f"bias_{name}"]])
    x = {
        "teacher": data[f"teacher_{SIDES[side]}"].astype("float32"),
        "student": np.arange(samples, dtype="int32"),
    }
    return distiller, x, data["labels"].astype("int32")


def step(distiller, x, y, loss):
    """One training step; returns its logs and the gradient of any variable."""
    distiller.compile(keras.optimizers.SGD(1.0, momentum=0.9), loss=loss)
    history = distiller.fit(x, y, batch_size=len(y), shuffle=False, verbose=0)
    logs = {name: values[0] for name, values in history.history.items()}
    return logs, lambda variable: -ops.convert_to_numpy(momentum_of(distiller.optimizer, variable))


JOINT = ["fdcmkd_joint_b8_c6", "fdcmkd_joint_b8_c10", "fdcmkd_joint_b64_c6", "fdcmkd_edge_b8_c6"]


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("side", SIDES)
def test_whole_loss(golden, name, side):
    data = golden(name)
    distiller, x, y = reference_distiller(data, side)
    logs, found = step(distiller, x, y, cross_entropy())

    assert_golden(logs["low_loss"], data[f"loss_kd_{side}_low_f64"])
    assert_golden(logs["high_loss"], data[f"loss_kd_{side}_high_f64"])
    assert_golden(logs["align_loss"], sum(data[f"loss_align_{side}_{b}_f64"] for b in BANDS))
    assert_golden(logs["task_loss"], data[f"ce_task_{side}_main_f64"])
    assert_golden(logs["band_task_loss"], sum(data[f"ce_task_{side}_{b}_f64"] for b in BANDS))
    assert_golden(logs["loss"], data[f"loss_{side}_f64"])

    student = distiller.student
    logits_gradient = found(student.get_layer("logits").embeddings)
    assert_golden(logits_gradient, data[f"grad_logits_student_{side}_f64"])
    rows = slice(None)
    feature_gradient = found(student.get_layer("feature").embeddings)
    assert np.isfinite(feature_gradient).all()
    if "edge" in name and side == "a":
        rows = slice(1, None)  # Row 0 is zero: the reference's gradient there is noise / 1e-8.
        assert not feature_gradient[0].any()
    if f"grad_student_{side}_f64" in data:
        assert_golden(feature_gradient[rows], data[f"grad_student_{side}_f64"][rows])
    for kind, heads in (("align", distiller.align_heads), ("task", distiller.band_task_heads)):
        for band, head in heads.items():
            head_name = f"{kind}_{side}_{band}"
            assert_golden(found(head.dense.bias), data[f"grad_bias_{head_name}_f64"])
            if f"grad_kernel_{head_name}_f64" in data:
                assert_golden(found(head.dense.kernel), data[f"grad_kernel_{head_name}_f64"])


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # the logits are in no term here
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("term", ["low", "high", "align", "band_task"])
def test_each_term_alone(golden, side, term):
    """A term switched on alone has the reference's gradient, unmixed with larger ones."""
    data = golden("fdcmkd_joint_b8_c6")
    weights = {f"{name}_weight": float(name == term) for name in (*BANDS, "align", "band_task")}
    distiller, x, y = reference_distiller(data, side, align_loss=cross_entropy(), **weights)
    _, found = step(distiller, x, y, loss=None)
    names = {
        "low": [f"loss_kd_{side}_low"],
        "high": [f"loss_kd_{side}_high"],
        "align": [f"ce_align_{side}_{band}_student" for band in BANDS],
        "band_task": [f"ce_task_{side}_{band}" for band in BANDS],
    }[term]
    expected = sum(data[f"grad_student_{side}__{name}_f64"] for name in names)
    assert_golden(found(distiller.student.get_layer("feature").embeddings), expected)


class TorchSchedule(keras.callbacks.Callback):
    """Set the rate of each epoch as PyTorch does.

    Keras's SGD keeps `rate * gradient` in its momentum, PyTorch's the gradient alone: where the
    rate changes, the momentum has to change with it.
    """

    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        for variable in optimizer.variables:
            if epoch and variable.path.endswith("_momentum"):
                variable.assign(variable * (self.rates[epoch] / self.rates[epoch - 1]))
        optimizer.learning_rate = self.rates[epoch]


@pytest.mark.parametrize("side", SIDES)
def test_training_trajectory(golden, side):
    """Three epochs of the authors' loop: losses of each epoch, and all weights at the end."""
    data = golden("fdcmkd_trajectory")

    def network(prefix):
        size = data[f"{prefix}_k1"].shape[0]
        inputs = keras.Input((size,))
        feature = keras.layers.Dense(512, name="feature")
        logits = keras.layers.Dense(6, name="logits")
        model = keras.Model(inputs, logits(keras.layers.ReLU()(feature(inputs))))
        feature.set_weights([data[f"{prefix}_k1"], data[f"{prefix}_b1"]])
        logits.set_weights([data[f"{prefix}_k2"], data[f"{prefix}_b2"]])
        return model

    other = SIDES[side]
    teacher, student = network(f"init_teacher_{other}"), network(f"init_student_{side}")
    distiller = FrequencyDistiller(
        teacher, student, teacher_features="feature", student_features="feature", **PUBLISHED
    )
    heads = {f"align_{side}_{band}": head for band, head in distiller.align_heads.items()}
    heads |= {f"task_{side}_{band}": head for band, head in distiller.band_task_heads.items()}
    for name, head in heads.items():
        head.set_weights([data[f"init_kernel_{name}"], data[f"init_bias_{name}"]])
    distiller.compile(keras.optimizers.SGD(momentum=0.9), loss=cross_entropy())
    x = {
        role: data[f"x_{modality}"].astype("float32").reshape(-1, data[f"x_{modality}"].shape[-1])
        for role, modality in (("teacher", other), ("student", side))
    }
    rates = data["lr"]
    history = distiller.fit(
        x,
        data["labels"].reshape(-1).astype("int32"),
        batch_size=data["labels"].shape[1],
        epochs=len(rates),
        shuffle=False,
        verbose=0,
        callbacks=[TorchSchedule([float(rate) for rate in rates])],
    )
    assert_golden(history.history["loss"], data["epoch_losses_f64"][:, 1 + (side == "v")])

    def assert_weights(variable, name):
        reference = data[f"final_{name}_f64"]
        error = np.abs(ops.convert_to_numpy(variable) - reference).max()
        assert error <= 1e-5 * np.abs(reference).max(), name

    for layer, number in (("feature", 1), ("logits", 2)):
        assert_weights(student.get_layer(layer).kernel, f"student_{side}_k{number}")
        assert_weights(student.get_layer(layer).bias, f"student_{side}_b{number}")
    for name, head in heads.items():
        assert_weights(head.dense.kernel, f"kernel_{name}")
        assert_weights(head.dense.bias, f"bias_{name}")
