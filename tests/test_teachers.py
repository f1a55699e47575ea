"""Several teachers, recorded teachers, and teachers that are missing for some samples."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import (
    C2KDDistiller,
    CrossModalDistiller,
    FrequencyDistiller,
    MutualDistiller,
    RecordedTeacher,
)
from keras_fdkd.data import cache_teacher, checked
from keras_fdkd.losses import (
    AFD,
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

SAMPLES = 24
X, Y = pairs(SAMPLES)
TEXT = np.random.default_rng(9).normal(size=(SAMPLES, 5)).astype("float32")
THERE = np.arange(SAMPLES) % 3 != 1
BOTH = {"teacher": {"video": X["teacher"], "text": TEXT}, "student": X["student"]}
STILL = {"batch_size": SAMPLES, "shuffle": False, "verbose": 0}


def logs(distiller, x, y=Y, loss=None, **kwargs):
    """The terms of one step on one batch, and the weights of the student after it."""
    keras.utils.set_random_seed(0)
    distiller.compile(keras.optimizers.SGD(0.1), loss or cross_entropy())
    kwargs = {**STILL, "batch_size": len(x["student"]), **kwargs}
    history = distiller.fit(x, y, **kwargs).history
    return {name: values[0] for name, values in history.items()}


def twins(make):
    """Two equal distillers."""
    first, second = make(), make()
    for model in ("teacher", "student"):
        getattr(second, model).set_weights(getattr(first, model).get_weights())
    for one, other in zip(first.adapters.values(), second.adapters.values(), strict=True):
        other.set_weights(one.get_weights())
    if isinstance(first, FrequencyDistiller):
        for kind in ("align_heads", "band_task_heads"):
            for band, head in getattr(first, kind).items():
                getattr(second, kind)[band].set_weights(head.get_weights())
    return first, second


def missing(x):
    """The same pairs with nothing of the teacher where it is not there, and only those with it."""
    gone = x["teacher"].copy()
    gone[~THERE] = np.nan
    some = {**x, "teacher": gone, "teacher_weight": THERE.astype("float32")}
    return some, {name: values[THERE] for name, values in x.items()}


def without(name):
    return lambda: CrossModalDistiller(classifier(6), classifier(4), losses=[name()])


MISSING = {
    "KD": without(KD),
    "DKD": without(DKD),
    "BinaryKD": without(BinaryKD),
    "DIST": without(DIST),
    "PKD": without(PKD),
    "RKD": without(RKD),
    "FitNet": without(FitNet),
    "FrequencyDistillation": without(FrequencyDistillation),
    "AFD": lambda: CrossModalDistiller(
        convolutional(2),
        convolutional(1),
        losses=[AFD(teacher_layer_name=["early"], student_layer_name=["early", "late"], dim=4)],
    ),
    "FrequencyDistiller": lambda: FrequencyDistiller(
        classifier(6), classifier(4), band_task_weight=0.5
    ),
}


def convolutional(channels):
    layers = [
        keras.Input((6, 6, channels)),
        keras.layers.Conv2D(4, 3, name="early"),
        keras.layers.Conv2D(5, 3, name="late"),
    ]
    return keras.Sequential(
        [*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="head")]
    )


@pytest.mark.parametrize("name", MISSING)
def test_missing_teacher(name):
    """Terms and gradients are those of the pairs that exist; what lies in the inputs is nothing."""
    x = X
    if name == "AFD":
        rng = np.random.default_rng(3)
        x = {
            side: rng.normal(size=(SAMPLES, 6, 6, channels)).astype("float32")
            for side, channels in (("teacher", 2), ("student", 1))
        }
    some, rest = missing(x)
    first, second = twins(MISSING[name])
    loss = keras.losses.BinaryCrossentropy(from_logits=True) if name == "BinaryKD" else None
    y = np.eye(3, dtype="float32")[Y] if name == "BinaryKD" else Y
    # No task: what is left are the gradients of the terms.
    kwargs = {"loss": loss} if loss else {}
    for distiller, data, labels in ((first, some, y), (second, rest, y[THERE])):
        distiller.compile(keras.optimizers.SGD(0.1), kwargs.get("loss", cross_entropy()), 0.0)
        keras.utils.set_random_seed(0)
        size = len(data["student"])
        distiller.came = distiller.fit(data, labels, **{**STILL, "batch_size": size}).history
    for term, values in second.came.items():
        if term not in ("loss", "task_loss"):
            np.testing.assert_allclose(first.came[term], values, rtol=1e-4, atol=1e-5, err_msg=term)
    for one, other in zip(first.student.get_weights(), second.student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_crd_remembers_only_what_is_there():
    loss = CRD(num_samples=SAMPLES, dim=4, negatives=6, seed=0)
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[loss])
    some, _ = missing(X)
    (memory,) = distiller.adapters.values()
    before = ops.convert_to_numpy(memory.teacher_memory).copy()
    came = logs(distiller, {**some, "index": np.arange(SAMPLES)})
    moved = np.abs(ops.convert_to_numpy(memory.teacher_memory) - before).max(axis=1) > 0
    np.testing.assert_array_equal(moved, THERE)
    assert np.isfinite(came["crd_loss"])


@pytest.mark.parametrize("make", [without(KD), without(RKD), MISSING["FrequencyDistiller"]])
def test_batch_without_any_teacher(make):
    distiller = make()
    nothing = {**X, "teacher": np.full_like(X["teacher"], np.nan)}
    came = logs(distiller, {**nothing, "teacher_weight": np.zeros(SAMPLES)})
    terms = {name: came[name] for name in came if name.endswith("_loss") and name != "task_loss"}
    assert set(terms.values()) == {0.0}
    assert came["loss"] == pytest.approx(came["task_loss"])
    assert all(np.isfinite(weights).all() for weights in distiller.student.get_weights())


def test_task_is_that_of_all_samples():
    some, _ = missing(X)
    first, second = twins(without(KD))
    assert logs(first, some)["task_loss"] == pytest.approx(logs(second, X)["task_loss"])


def test_weights_are_degrees_of_trust():
    """Half the weight is half the term; and what a sample counts is its weight."""
    first, second = twins(without(KD))
    half = {**X, "teacher_weight": np.full(SAMPLES, 0.5)}
    assert logs(first, half)["kd_loss"] == pytest.approx(logs(second, X)["kd_loss"] / 2, rel=1e-5)


def test_weights_multiply_sample_weights():
    first, second = twins(MISSING["FrequencyDistiller"])
    weights = np.linspace(0.5, 2, SAMPLES).astype("float32")
    one = logs(first, {**X, "teacher_weight": weights})
    other = logs(second, X, sample_weight=weights)
    for name in ("low_loss", "high_loss", "align_loss", "band_task_loss"):
        assert one[name] == pytest.approx(other[name], rel=1e-5), name


def test_missing_in_data_sets_and_evaluation():
    some, _ = missing(X)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            rows = slice(12 * number, 12 * number + 12)
            return {name: values[rows] for name, values in some.items()}, Y[rows]

    distiller = without(KD)()
    distiller.compile("adam", cross_entropy())
    history = distiller.fit(Batches(), shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for step in range(2):
        checked(Batches())[step]  # Rows without a teacher may hold NaN.
    assert np.isfinite(distiller.evaluate(some, Y, verbose=0)).all()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(SAMPLES), "numbers >= 0"),
        (np.full(SAMPLES, np.nan), "finite"),
        (np.ones(3), "the same samples"),
        (np.array(["a"] * SAMPLES), "numbers >= 0"),
        ({"sound": np.ones(SAMPLES)}, "names of the teachers"),
    ],
)
def test_malformed_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        logs(without(KD)(), {**X, "teacher_weight": weight})


def test_weights_where_the_teacher_trains():
    distiller = C2KDDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())
    with pytest.raises(ValueError, match="must have both modalities"):
        distiller.fit({**X, "teacher_weight": np.ones(SAMPLES)}, Y, verbose=0)
    inner = {
        name: FrequencyDistiller(classifier(a), classifier(b))
        for name, a, b in (("audio", 6, 4), ("video", 4, 6))
    }
    mutual = MutualDistiller(inner)
    mutual.compile("adam", cross_entropy())
    x = {"audio": X["student"], "video": X["teacher"], "teacher_weight": np.ones(SAMPLES)}
    with pytest.raises(ValueError, match="teacher_weight"):
        mutual.fit(x, Y, verbose=0)


def test_losses_of_keras_take_no_weights():
    loss = keras.distillation.FeatureDistillation("mse")
    with pytest.raises(ValueError, match="teacher_weight"):
        logs(CrossModalDistiller(classifier(6), classifier(4), losses=[loss]), missing(X)[0])


# Several teachers.


def named(where):
    return {"teacher_layer_name": where, "name": f"kd_{where.partition(':')[0]}"}


def two(**kwargs):
    teachers = {"video": classifier(6), "text": classifier(5)}
    losses = [KD(**named("video")), KD(student_layer_name="logits", **named("text:logits"))]
    return CrossModalDistiller(teachers, classifier(4), losses=losses, **kwargs)


def test_several_teachers_are_the_sum_of_each():
    distiller = two()
    student = distiller.student.get_weights()
    came = logs(distiller, BOTH)
    for name, inputs in BOTH["teacher"].items():
        distiller.student.set_weights(student)
        alone = CrossModalDistiller(
            distiller.teacher[name], distiller.student, losses=[KD(name="kd")]
        )
        alone_came = logs(alone, {"teacher": inputs, "student": X["student"]})
        assert alone_came["kd_loss"] == pytest.approx(came[f"kd_{name}_loss"], rel=1e-5)


def test_several_teachers_of_bands():
    """By default the feature of each is compared; the terms are summed."""
    distiller = FrequencyDistiller(
        {"video": classifier(6), "text": classifier(5, features=20)}, classifier(4)
    )
    assert [pair.projector is None for pair in distiller.pairs] == [True, False]
    came = logs(distiller, BOTH)
    assert {"low_similarity_1", "low_similarity_2"} <= set(came)
    before = [teacher.get_weights() for teacher in distiller.teacher.values()]
    distiller.fit(BOTH, Y, verbose=0)
    for teacher, weights in zip(distiller.teacher.values(), before, strict=True):
        for one, other in zip(teacher.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_several_teachers_saved_and_cached(tmp_path):
    distiller = two()
    logs(distiller, BOTH)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    expected = distiller.evaluate(BOTH, Y, verbose=0, return_dict=True)
    assert loaded.evaluate(BOTH, Y, verbose=0, return_dict=True) == pytest.approx(expected)
    stored = cache_teacher(distiller, BOTH, tmp_path / "cache", verbose=0)
    assert set(stored["teacher_outputs"]) == {"video:predictions", "text:layer:logits"}
    assert distiller.evaluate(stored, Y, verbose=0, return_dict=True) == pytest.approx(expected)
    # The outputs of one stand beside the inputs of the other.
    mixed = {
        "teacher": {"text": TEXT},
        "teacher_outputs": {
            "video:predictions": np.array(stored["teacher_outputs"]["video:predictions"])
        },
        "student": X["student"],
    }
    assert distiller.evaluate(mixed, Y, verbose=0, return_dict=True) == pytest.approx(expected)


def test_one_of_several_is_missing():
    distiller = two()
    gone = X["teacher"].copy()
    gone[~THERE] = np.nan
    x = {
        "teacher": {"video": gone, "text": TEXT},
        "student": X["student"],
        "teacher_weight": {"video": THERE.astype("float32")},
    }
    student = distiller.student.get_weights()
    whole = logs(distiller, BOTH)
    distiller.student.set_weights(student)
    came = logs(distiller, x)
    assert came["kd_text_loss"] == pytest.approx(whole["kd_text_loss"], rel=1e-5)
    distiller.student.set_weights(student)
    rows = {
        "teacher": {name: values[THERE] for name, values in BOTH["teacher"].items()},
        "student": X["student"][THERE],
    }
    rest = logs(distiller, rows, Y[THERE])
    assert came["kd_video_loss"] == pytest.approx(rest["kd_video_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("teacher", "losses", "message"),
    [
        ([classifier(6), classifier(5)], [KD()], "dict by name"),
        ({}, [KD()], "dict by name"),
        ({"a:b": classifier(6)}, [KD()], "Names of teachers"),
        ({"video": 3}, [KD(teacher_layer_name="video")], "must be a `keras.Model`"),
        ({"video": classifier(6), "text": classifier(5)}, [KD()], "say which one is read"),
        (
            {"video": classifier(6), "text": classifier(5)},
            [KD(teacher_layer_name="sound:logits")],
            "say which one is read",
        ),
        (
            {"video": classifier(6), "text": classifier(5)},
            [KD(teacher_layer_name="video")],
            r"none that reads \['text'\]",
        ),
        (None, [KD()], "RecordedTeacher"),
    ],
)
def test_teachers_that_do_not_fit(teacher, losses, message):
    with pytest.raises(ValueError, match=message):
        CrossModalDistiller(teacher, classifier(4), losses=losses)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (X["teacher"], "by name"),
        ({"video": X["teacher"], "sound": TEXT}, "by name"),
        ({"video": X["teacher"]}, "teacher_outputs"),
    ],
)
def test_inputs_of_several_teachers(teacher, message):
    with pytest.raises(ValueError, match=message):
        logs(two(), {"teacher": teacher, "student": X["student"]})


# Recorded teachers.


def recorded(seed=0, classes=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(SAMPLES, classes)).astype("float32")
    exp = np.exp(logits)
    return logits, (exp / exp.sum(-1, keepdims=True)).astype("float32")


def test_recorded_outputs_are_those_of_a_model():
    model = CrossModalDistiller(classifier(6), classifier(4), losses=[KD(), PKD()])
    outputs = model.predict_teacher(X["teacher"])
    student = model.student.get_weights()
    expected = logs(model, X)
    model.student.set_weights(student)
    teacher = RecordedTeacher(features=(16,), logits=(3,))
    distiller = CrossModalDistiller(teacher, model.student, losses=[KD(), PKD()])
    x = {
        "teacher_outputs": {"features": outputs["features"], "logits": outputs["predictions"]},
        "student": X["student"],
    }
    assert logs(distiller, x) == pytest.approx(expected, rel=1e-5)
    assert len(distiller.non_trainable_variables) < len(model.non_trainable_variables)


def test_recorded_probabilities():
    logits, probabilities = recorded()
    came = []
    for kwargs in ({"logits": (3,)}, {"probabilities": (3,)}):
        keras.utils.set_random_seed(0)
        distiller = CrossModalDistiller(RecordedTeacher(**kwargs), classifier(4), losses=[KD()])
        (name,) = kwargs
        values = {"logits": logits, "probabilities": probabilities}[name]
        came.append(logs(distiller, {"teacher_outputs": {name: values}, "student": X["student"]}))
    assert came[0]["kd_loss"] == pytest.approx(came[1]["kd_loss"], rel=1e-4)


@pytest.mark.parametrize(("kind", "wrong"), [("logits", 1), ("probabilities", 0)])
def test_what_was_recorded_is_what_is_declared(kind, wrong):
    distiller = CrossModalDistiller(RecordedTeacher(**{kind: (3,)}), classifier(4), losses=[KD()])
    x = {"teacher_outputs": {kind: recorded()[wrong]}, "student": X["student"]}
    with pytest.raises(ValueError, match="probabilities"):
        logs(distiller, x)


def test_recorded_layers_and_saving(tmp_path):
    teacher = RecordedTeacher(layers={"block": (4, 8)}, masked=("block",))
    student = keras.Sequential(
        [
            keras.Input((4, 2)),
            keras.layers.Conv1D(8, 1, name="frames"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    loss = PKD(teacher_layer_name="block", student_layer_name="frames")
    distiller = CrossModalDistiller(teacher, student, losses=[loss])
    rng = np.random.default_rng(0)
    block = rng.normal(size=(SAMPLES, 4, 8)).astype("float32")
    mask = np.ones((SAMPLES, 4, 1), "bool")
    mask[:, 3] = False
    x = {
        "teacher_outputs": {"block": block, "block_mask": mask},
        "student": rng.normal(size=(SAMPLES, 4, 2)).astype("float32"),
    }
    weights = student.get_weights()
    came = logs(distiller, x)
    student.set_weights(weights)
    changed = block.copy()
    changed[:, 3] = 7  # in the padding
    x["teacher_outputs"]["block"] = changed
    assert logs(distiller, x)["pkd_loss"] == pytest.approx(came["pkd_loss"], rel=1e-6)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    expected = distiller.evaluate(x, Y, verbose=0)
    assert loaded.evaluate(x, Y, verbose=0) == pytest.approx(expected)
    assert loaded.teacher.shapes == teacher.shapes


def test_recorded_beside_one_that_runs():
    teachers = {"video": classifier(6), "text": RecordedTeacher(features=(20,), logits=(3,))}
    distiller = FrequencyDistiller(
        teachers, classifier(4), extra_losses=[KD(teacher_layer_name="text")]
    )
    logits, _ = recorded()
    features = np.random.default_rng(1).normal(size=(SAMPLES, 20)).astype("float32")
    x = {
        "teacher": {"video": X["teacher"]},
        "teacher_outputs": {"text:features": features, "text:logits": logits},
        "student": X["student"],
    }
    assert np.isfinite(logs(distiller, x)["loss"])
    with pytest.raises(ValueError, match="text:logits"):
        logs(distiller, {**x, "teacher_outputs": {"text:features": features}})
    stored = cache_teacher(distiller, x, verbose=0)
    assert set(stored["teacher_outputs"]) == {"text:features", "text:logits", "video:features"}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "Say what is recorded"),
        ({"features": 16}, "a tuple of sizes"),
        ({"features": (16, None)}, "known last size"),
        ({"logits": (3,), "probabilities": (3,)}, "logits` or of `probabilities"),
        ({"features": (16,), "masked": ("logits",)}, "`masked`"),
        ({"layers": {"features": (3,)}}, "`layers`"),
    ],
)
def test_malformed_records(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RecordedTeacher(**kwargs)


def test_recorded_teacher_must_hold_what_is_read():
    with pytest.raises(ValueError, match="not recorded"):
        CrossModalDistiller(RecordedTeacher(features=(16,)), classifier(4), losses=[KD()])
    distiller = FrequencyDistiller(RecordedTeacher(features=(16,)), classifier(4))
    with pytest.raises(ValueError, match="teacher_outputs"):
        logs(distiller, X)
    with pytest.raises(ValueError, match="cannot be run"):
        distiller.predict_teacher(X["teacher"])
    with pytest.raises(ValueError, match="RecordedTeacher"):
        C2KDDistiller(RecordedTeacher(features=(16,), logits=(3,)), classifier(4))
