"""Losses stand beside the task that they are for; labels are what the compiled loss takes."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import DIST, DKD, KD, PKD, BinaryKD

BINARY = keras.losses.BinaryCrossentropy(from_logits=True)


def distiller_of(loss, compiled, classes=3, **kwargs):
    models = classifier(6, classes=classes), classifier(4, classes=classes)
    distiller = CrossModalDistiller(*models, losses=[loss])
    distiller.compile(keras.optimizers.SGD(0.0), compiled, **kwargs)
    return distiller


@pytest.mark.parametrize("make", [KD, DKD, DIST])
@pytest.mark.parametrize(
    ("compiled", "advice"),
    [
        (BINARY, "BinaryKD"),
        (keras.losses.BinaryFocalCrossentropy(from_logits=True), "BinaryKD"),
        ([BINARY], "BinaryKD"),
        ("mse", "FeatureDistillation"),
        (keras.losses.Huber(), "PKD"),
        (keras.losses.mean_absolute_error, "imitate the predictions"),
    ],
)
def test_losses_of_classes_beside_other_tasks(make, compiled, advice):
    with pytest.raises(ValueError, match=advice):
        distiller_of(make(), compiled)


def test_a_loss_of_labels_beside_other_tasks():
    with pytest.raises(ValueError, match=r"use `keras_fdkd.losses.KD`"):
        distiller_of(BinaryKD(), cross_entropy())
    with pytest.raises(ValueError, match="imitate the predictions"):
        distiller_of(BinaryKD(), "mse")


@pytest.mark.parametrize(
    ("loss", "compiled"),
    [
        (BinaryKD(), BINARY),
        (KD(), keras.losses.CategoricalFocalCrossentropy(from_logits=True)),
        (KD(), lambda y, z: keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True)),
        (KD(), None),
        (PKD(), "mse"),
    ],
)
def test_what_fits_is_accepted(loss, compiled):
    distiller_of(loss, compiled)


@pytest.mark.parametrize(
    "compiled",
    [
        "sparse_categorical_crossentropy",
        ["sparse_categorical_crossentropy"],
        {"logits": "sparse_categorical_crossentropy"},
        keras.losses.CategoricalFocalCrossentropy(),
        keras.losses.categorical_crossentropy,
    ],
)
def test_losses_on_probabilities_beside_logits(compiled):
    with pytest.raises(ValueError, match="compares logits"):
        distiller_of(KD(), compiled)


def test_one_of_several_outputs_is_compared():
    def model(size):
        inputs = keras.Input((size,))
        hidden = keras.layers.Dense(16, name="hidden")(inputs)
        heads = {"cls": keras.layers.Dense(3, name="cls"), "reg": keras.layers.Dense(1, name="reg")}
        return keras.Model(inputs, {name: head(hidden) for name, head in heads.items()})

    layers = {"teacher_layer_name": "cls", "student_layer_name": "cls"}
    losses = {"cls": cross_entropy(), "reg": "mse"}
    distiller = CrossModalDistiller(model(6), model(4), losses=[KD(**layers)])
    distiller.compile("adam", losses)
    with pytest.raises(ValueError, match="imitate the predictions"):
        distiller.compile("adam", {**losses, "cls": "mse"})


def test_binary_kd_is_the_divergence_of_each_label():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 5, 4)).astype("float64")
    p, q = (1 / (1 + np.exp(-z / 2.0)) for z in (teacher, student))
    expected = 4.0 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    value = BinaryKD(2.0).compute_loss(teacher.astype("float32"), student.astype("float32"))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_a_single_output_may_be_named():
    """As plain Keras takes a loss and metrics by the name of the only output."""
    x, y = pairs()

    def functional(size):
        inputs = keras.Input((size,))
        hidden = keras.layers.Dense(16, name="hidden")(inputs)
        return keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))

    distiller = CrossModalDistiller(functional(6), functional(4), losses=[PKD(), KD()])
    distiller.compile("adam", {"head": cross_entropy()}, metrics={"head": ["accuracy"]})
    history = distiller.fit(x, y, verbose=0).history
    assert {"kd_loss", "pkd_loss", "task_loss"} <= set(history)
    assert any("accuracy" in name for name in history)


# Labels


@pytest.mark.parametrize("make", [lambda: PKD(), lambda: KD()])
@pytest.mark.parametrize("bad", [-1, 3])
def test_labels_out_of_range_are_refused_by_every_distiller(make, bad):
    x, y = pairs()
    y[4] = bad
    with pytest.raises(ValueError, match=r"Labels must be in 0..2"):
        distiller_of(make(), cross_entropy()).fit(x, y, verbose=0)


def test_labels_of_pixels_out_of_range():
    def maps(channels):
        inputs = keras.Input((4, 4, channels))
        return keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))

    x = {"teacher": np.ones((2, 4, 4, 3)), "student": np.ones((2, 4, 4, 1))}
    distiller = CrossModalDistiller(maps(3), maps(1), losses=[KD()])
    distiller.compile("adam", cross_entropy())
    with pytest.raises(ValueError, match="Received labels from 0 to 255"):
        distiller.fit(x, np.array([[[0] * 4] * 4, [[255] * 4] * 4]), verbose=0)


def test_targets_that_are_nan():
    x, _ = pairs()
    y = np.zeros((24, 3))
    y[5, 1] = np.nan  # All of a row would mean a sample without labels.
    with pytest.raises(ValueError, match=r"NaN in the labels of 1 of 24 samples, the first: \[5\]"):
        distiller_of(PKD(), "mse").fit(x, y, verbose=0)


def test_no_label_in_several_labels():
    x, _ = pairs()
    y = np.zeros((24, 3), "float32")
    y[12:] = -1
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        distiller_of(BinaryKD(), BINARY).fit(x, y, verbose=0)


def test_no_labels_at_all():
    x, _ = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())
    with pytest.raises(ValueError, match="labels are needed"):
        distiller.fit(x, verbose=0)
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    distiller.compile("adam")
    assert np.isfinite(distiller.fit(x, verbose=0).history["kd_loss"][0])


def test_align_loss_on_probabilities():
    with pytest.raises(ValueError, match="from_logits=True"):
        FrequencyDistiller(
            classifier(6),
            classifier(4),
            align_loss=keras.losses.SparseCategoricalCrossentropy(from_logits=False),
        )


def test_features_of_models_without_a_task():
    """Nothing says whether the last `Dense` layer classifies or embeds."""
    models = classifier(6, classes=8), classifier(4, classes=8)
    distiller = FrequencyDistiller(*models, align_weight=0)
    with pytest.raises(ValueError, match="Name the features"):
        distiller.compile("adam")
    distiller = FrequencyDistiller(*models, align_weight=0, teacher_features="pool")
    with pytest.raises(ValueError, match="Name the features"):  # of the student
        distiller.compile("adam")
    named = {"teacher_features": "logits", "student_features": "logits", "cutoff": None}
    models = classifier(6, classes=8), classifier(4, classes=8)
    distiller = FrequencyDistiller(*models, align_weight=0, high_weight=0, **named)
    distiller.compile("adam")
    x, _ = pairs()
    assert np.isfinite(distiller.fit(x, verbose=0).history["low_loss"][0])


# Names in the logs


@pytest.mark.parametrize(
    "metrics",
    [
        {"metrics": [keras.metrics.SparseCategoricalAccuracy(name="low_similarity")]},
        {"weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="align_loss")]},
    ],
)
def test_metrics_named_like_terms(metrics):
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    with pytest.raises(ValueError, match="has the name of a term"):
        distiller.compile("adam", cross_entropy(), **metrics)


def test_outputs_named_like_terms():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(16, name="hidden")(inputs)
    student = keras.Model(
        inputs,
        {
            "main": keras.layers.Dense(3, name="main")(hidden),
            "low": keras.layers.Dense(2, name="low")(hidden),
        },
    )
    distiller = FrequencyDistiller(
        classifier(6), student, align_weight=0, student_features="hidden"
    )
    with pytest.raises(ValueError, match=r"Received: \['low_loss'\]"):
        distiller.compile("adam", {"main": cross_entropy(), "low": "mse"})


# Recorded outputs


@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("loss", [KD(), DIST(), PKD()])
def test_recorded_outputs_of_another_width(loss, columns):
    x, y = pairs()
    distiller = distiller_of(loss, cross_entropy())
    (name,) = distiller._teacher.needs.outputs[None]
    data = {"teacher_outputs": {name: np.ones((24, columns))}, "student": x["student"]}
    with pytest.raises(ValueError, match=rf"'{name}' of shape \(24, {columns}\)"):
        distiller.fit(data, y, verbose=0)


def test_recorded_probabilities():
    x, y = pairs()
    distiller = distiller_of(KD(), cross_entropy())
    outputs = np.random.default_rng(0).dirichlet(np.ones(3), size=24).astype("float32")
    data = {"teacher_outputs": {"predictions": outputs}, "student": x["student"]}
    with pytest.raises(ValueError, match="before its softmax"):
        distiller.fit(data, y, verbose=0)


# Policies


def test_heads_and_adapters_have_the_policy_of_the_student(tmp_path):
    from keras_fdkd.losses import FitNet

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        models = classifier(6, features=20), classifier(4)
        distiller = FrequencyDistiller(*models, extra_losses=[FitNet()])
        distiller.save(tmp_path / "a.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    for one in (distiller, loaded):
        layers = [one.align_heads["low"], one.projector, one.adapters["fitnet"].regressor]
        assert {layer.dtype_policy.name for layer in layers} == {"mixed_bfloat16"}
    assert keras.config.dtype_policy().name == "float32"


def test_logits_with_the_channels_first():
    def maps(data_format):
        shape = (3, 4, 4) if data_format == "channels_first" else (4, 4, 3)
        inputs = keras.Input(shape)
        return keras.Model(inputs, keras.layers.Conv2D(4, 1, data_format=data_format)(inputs))

    with pytest.raises(ValueError, match="must give classes last"):
        CrossModalDistiller(maps("channels_last"), maps("channels_first"), losses=[KD()])
