"""Each kind of task with each method: it works, or the error says what to do."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import (
    AT,
    CRD,
    DIST,
    DKD,
    KD,
    PKD,
    RKD,
    BinaryKD,
    FitNet,
    FrequencyDistillation,
)

SAMPLES = 16
X, CLASSES = pairs(SAMPLES)
X["index"] = np.arange(SAMPLES)
RNG = np.random.default_rng(0)
LABELS = (RNG.random((SAMPLES, 3)) > 0.6).astype("float32")
VALUES = RNG.normal(size=(SAMPLES, 3)).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
SOME = np.where(np.arange(SAMPLES) % 2, CLASSES, -1)


def some(y):
    """The same labels, but none of every other sample."""
    return np.where((np.arange(SAMPLES) % 2)[:, None] > 0, y, np.nan).astype("float32")


def binary(**kwargs):
    return keras.losses.BinaryCrossentropy(from_logits=True, **kwargs)


#: The compiled loss, labels, and number of outputs of both models.
TASKS = {
    "classes": (cross_entropy, CLASSES, 3),
    "some classes": (lambda: cross_entropy(ignore_class=-1), SOME, 3),
    "one-hot": (
        lambda: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        ONE_HOT,
        3,
    ),
    "focal": (lambda: keras.losses.CategoricalFocalCrossentropy(from_logits=True), ONE_HOT, 3),
    "labels": (binary, LABELS, 3),
    "some labels": (binary, some(LABELS), 3),
    "one logit": (binary, LABELS[:, :1], 1),
    "values": (lambda: "mse", VALUES, 3),
    "some values": (lambda: keras.losses.Huber(), some(VALUES), 3),
    "one value": (lambda: "mae", VALUES[:, 0], 1),
    "nothing": (lambda: None, None, 3),
}
OF_CLASSES = {"classes", "some classes", "one-hot", "focal", "nothing"}
OF_LABELS = {"labels", "some labels", "one logit"}
EVERY = set(TASKS)


def of(*losses):
    return lambda teacher, student: CrossModalDistiller(
        teacher, student, losses=[loss() for loss in losses]
    )


#: How the distiller is made, and the tasks that it takes. All others it refuses.
METHODS = {
    "KD": (of(KD), OF_CLASSES),
    "DKD": (of(DKD), OF_CLASSES),
    "DIST": (of(DIST), OF_CLASSES),
    "BinaryKD": (of(BinaryKD), OF_LABELS | {"nothing"}),
    "PKD": (of(PKD), EVERY),
    "RKD": (of(RKD), EVERY),
    "FitNet": (of(FitNet), EVERY),
    "CRD": (of(lambda: CRD(SAMPLES, dim=4, negatives=5)), EVERY),
    "AT": (
        of(lambda: AT(teacher_layer_name="feature", student_layer_name="feature")),
        set(),  # It compares maps.
    ),
    "imitation": (of(lambda: keras.distillation.FeatureDistillation("mse")), EVERY),
    "FrequencyDistillation": (of(FrequencyDistillation), EVERY),
    "FrequencyDistiller": (FrequencyDistiller, EVERY - {"nothing"}),
    "FrequencyDistiller without heads": (
        lambda teacher, student: FrequencyDistiller(
            teacher,
            student,
            teacher_features="feature",
            student_features="feature",
            align_weight=0,
        ),
        EVERY,
    ),
    "C2KDDistiller": (C2KDDistiller, {"classes", "some classes", "one-hot"}),
}


# Without a task, nothing trains the head of a student whose features are compared.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_matrix(task, method):
    loss, y, outputs = TASKS[task]
    make, takes = METHODS[method]
    x = X if method == "CRD" else {side: X[side] for side in ("teacher", "student")}
    if task in takes:
        distiller = make(classifier(6, classes=outputs), classifier(4, classes=outputs))
        before = [weights.copy() for weights in distiller.student.get_weights()]
        distiller.compile(keras.optimizers.SGD(0.1), loss())
        history = distiller.fit(x, y, batch_size=8, verbose=0).history
        assert np.isfinite([value for values in history.values() for value in values]).all()
        after = distiller.student.get_weights()
        assert all(np.isfinite(weights).all() for weights in after)
        assert any((one != other).any() for one, other in zip(before, after, strict=True))
        return

    def compiled():
        distiller = make(classifier(6, classes=outputs), classifier(4, classes=outputs))
        distiller.compile(keras.optimizers.SGD(0.1), loss())

    with pytest.raises(ValueError, match=r"Received"):  # What came, and before it what to do.
        compiled()


@pytest.mark.parametrize(("loss", "y"), [(lambda: "mse", VALUES), (binary, LABELS)])
def test_samples_without_labels_teach(loss, y):
    """The task is that of the labelled samples, the terms are those of all."""
    teacher, student = classifier(6), classifier(4)
    weights = student.get_weights()
    came = []
    half = np.arange(SAMPLES) % 2 == 1
    for x, labels in (
        (X, some(y)),
        ({name: values[half] for name, values in X.items()}, y[half]),
        (X, y),
    ):
        student.set_weights(weights)
        x = {side: x[side] for side in ("teacher", "student")}
        keras.utils.set_random_seed(0)
        distiller = FrequencyDistiller(teacher, student)
        distiller.compile(keras.optimizers.SGD(0.0), loss(), weighted_metrics=["mae"])
        fit = {"batch_size": SAMPLES, "verbose": 0, "shuffle": False}
        history = distiller.fit(x, labels, validation_data=(x, labels), **fit).history
        came.append({name: values[0] for name, values in history.items()})
    mixed, labelled, whole = came
    for name in ("task_loss", "align_loss", "mae", "val_mae", "val_task_loss"):
        assert mixed[name] == pytest.approx(labelled[name], rel=1e-5), name
    for name in ("low_loss", "high_loss"):
        assert mixed[name] == pytest.approx(whole[name], rel=1e-5), name


@pytest.mark.parametrize(
    ("loss", "y", "metrics"),
    [
        ("mse", some(VALUES), ["mae"]),  # A plain metric would count what is not there.
        ("mse", np.where(np.arange(3) == 1, np.nan, VALUES), None),
        (lambda y, z: keras.ops.mean(keras.ops.abs(z - y)), some(VALUES), None),
        (binary(), np.where(np.isnan(some(LABELS)), -1, LABELS), None),
    ],
)
def test_labels_that_say_nothing(loss, y, metrics):
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_weight=0)
    distiller.compile("adam", loss, metrics=metrics)
    x = {side: X[side] for side in ("teacher", "student")}
    with pytest.raises(ValueError, match="NaN"):
        distiller.fit(x, y, verbose=0)


# Several outputs.


def two_headed(size, nested=dict, names=("kind", "age")):
    inputs = keras.Input((size,))
    hidden = keras.layers.Dense(16, "relu", name="feature")(inputs)
    heads = [
        keras.layers.Dense(units, name=name)(hidden)
        for name, units in zip(names, (3, 1), strict=True)
    ]
    outputs = dict(zip(names, heads, strict=True)) if nested is dict else heads
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("nested", [dict, list])
@pytest.mark.parametrize("task_output", [None, "kind"])
def test_terms_of_one_of_several_outputs(nested, task_output):
    """They are those of a student with that output alone."""
    teacher, student = classifier(6), two_headed(4, nested)
    alone = keras.Model(student.input, student.get_layer("kind").output)
    losses = [cross_entropy(), "mse"]
    y = [CLASSES, VALUES[:, :1]]
    if nested is dict:
        losses, y = (dict(zip(("kind", "age"), values, strict=True)) for values in (losses, y))
    x = {side: X[side] for side in ("teacher", "student")}
    fit = {"batch_size": SAMPLES, "verbose": 0, "shuffle": False}
    weight = np.linspace(0.5, 2, SAMPLES)
    weights = [weight, weight] if nested is list else {"kind": weight, "age": weight}
    came = []
    for model, loss, labels, sample_weight, output in (
        (student, losses, y, weights, task_output),
        (alone, cross_entropy(), CLASSES, weight, None),
    ):
        keras.utils.set_random_seed(0)
        distiller = FrequencyDistiller(
            teacher, model, extra_losses=[KD(), DKD()], task_output=output
        )
        distiller.compile(keras.optimizers.SGD(0.0), loss)
        history = distiller.fit(x, labels, sample_weight=sample_weight, **fit).history
        came.append({name: values[0] for name, values in history.items()})
    for name in ("low_loss", "high_loss", "align_loss", "kd_loss", "dkd_loss"):
        assert came[0][name] == pytest.approx(came[1][name], rel=1e-5), name


def test_several_outputs_that_fit():
    student = two_headed(4, names=("one", "two"))
    with pytest.raises(ValueError, match="`task_output` must name one of several"):
        FrequencyDistiller(classifier(6), student, task_output="three")
    with pytest.raises(ValueError, match="which has one"):
        FrequencyDistiller(classifier(6), classifier(4), task_output="one")


def test_choice_is_saved(tmp_path):
    distiller = FrequencyDistiller(classifier(6), two_headed(4), task_output="kind")
    distiller.compile("adam", {"kind": cross_entropy(), "age": "mse"})
    x = {side: X[side] for side in ("teacher", "student")}
    y = {"kind": CLASSES, "age": VALUES[:, :1]}
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(distiller.evaluate(x, y, verbose=0))


def test_other_class_lists():
    """Logits of the student's classes among the teacher's, by the one line that the error gives."""
    teacher, student = classifier(6, classes=5), classifier(4)
    with pytest.raises(ValueError, match=r"keras\.ops\.take"):
        CrossModalDistiller(teacher, student, losses=[KD()])
    chosen = keras.Model(teacher.inputs, keras.ops.take(teacher.outputs[0], [4, 0, 2], axis=-1))
    distiller = FrequencyDistiller(chosen, student, extra_losses=[KD(1.0)])
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    x = {side: X[side] for side in ("teacher", "student")}
    fit = {"batch_size": SAMPLES, "verbose": 0, "shuffle": False}
    came = distiller.fit(x, CLASSES, **fit).history["kd_loss"][0]

    def log_softmax(z):
        z = z - z.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    p = log_softmax(teacher.predict(x["teacher"], verbose=0)[:, [4, 0, 2]])
    q = log_softmax(student.predict(x["student"], verbose=0))
    assert came == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-4)
