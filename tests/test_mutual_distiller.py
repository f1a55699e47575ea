"""MutualDistiller: both directions in one loop, each as if it were alone."""

import keras
import numpy as np
import pytest
from conftest import assert_golden, classifier, cross_entropy
from keras import ops
from test_golden import SIDES, TorchSchedule

from keras_fdkd import PUBLISHED, C2KDDistiller, FrequencyDistiller, MutualDistiller
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss

SIZES = {"audio": 4, "video": 6}


def directions(**layers):
    """Two distillers between small models, the teachers without `layers`."""
    return {
        "audio": FrequencyDistiller(classifier(6), classifier(4, **layers)),
        "video": FrequencyDistiller(classifier(4), classifier(6, **layers)),
    }


def data(samples=24):
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(samples, size)).astype("float32") for name, size in SIZES.items()}
    return x, rng.integers(3, size=samples).astype("int32")


def compiled(optimizer="adam", distillers=None, **kwargs):
    distiller = MutualDistiller(distillers or directions())
    distiller.compile(optimizer, loss=cross_entropy(), **kwargs)
    return distiller


def test_training_trajectory(golden):
    """Three epochs of the authors' loop: one optimizer, both directions, all weights at the end."""
    data = golden("fdcmkd_trajectory")

    def network(prefix):
        inputs = keras.Input((data[f"{prefix}_k1"].shape[0],))
        feature = keras.layers.Dense(512, name="feature")
        logits = keras.layers.Dense(6, name="logits")
        model = keras.Model(inputs, logits(keras.layers.ReLU()(feature(inputs))))
        feature.set_weights([data[f"{prefix}_k1"], data[f"{prefix}_b1"]])
        logits.set_weights([data[f"{prefix}_k2"], data[f"{prefix}_b2"]])
        return model

    variables, distillers = {}, {}
    for side, other in SIDES.items():
        student = network(f"init_student_{side}")
        inner = distillers[side] = FrequencyDistiller(
            network(f"init_teacher_{other}"),
            student,
            teacher_features="feature",
            student_features="feature",
            **PUBLISHED,
        )
        for kind, heads in (("align", inner.align_heads), ("task", inner.band_task_heads)):
            for band, head in heads.items():
                name = f"{kind}_{side}_{band}"
                head.set_weights([data[f"init_kernel_{name}"], data[f"init_bias_{name}"]])
                variables[f"kernel_{name}"] = head.dense.kernel
                variables[f"bias_{name}"] = head.dense.bias
        for layer, number in (("feature", 1), ("logits", 2)):
            variables[f"student_{side}_k{number}"] = student.get_layer(layer).kernel
            variables[f"student_{side}_b{number}"] = student.get_layer(layer).bias
    distiller = compiled(keras.optimizers.SGD(momentum=0.9), distillers)
    history = distiller.fit(
        {side: data[f"x_{side}"].reshape(-1, data[f"x_{side}"].shape[-1]) for side in SIDES},
        data["labels"].reshape(-1).astype("int32"),
        batch_size=data["labels"].shape[1],
        epochs=len(data["lr"]),
        shuffle=False,
        verbose=0,
        callbacks=[TorchSchedule([float(rate) for rate in data["lr"]])],
    ).history
    losses = np.stack([history[name] for name in ("loss", "a_loss", "v_loss")], axis=1)
    assert_golden(losses, data["epoch_losses_f64"])
    assert len(variables) == 24
    for name, variable in variables.items():
        reference = data[f"final_{name}_f64"]
        error = np.abs(ops.convert_to_numpy(variable) - reference).max()
        assert error <= 1e-5 * np.abs(reference).max(), name


@pytest.mark.parametrize(
    "weighting",
    [
        {"sample_weight": np.linspace(0, 2, 16, dtype="float32")},
        {"class_weight": {0: 0.5, 1: 1.0, 2: 3.0}},
    ],
)
def test_equals_two_distillers(weighting):
    x, y = data(samples=16)
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0, **weighting}
    together = directions(batch_norm=True)
    alone = {name: keras.models.clone_model(inner) for name, inner in together.items()}
    for name, inner in alone.items():
        inner.set_weights(together[name].get_weights())
    eager = {"weighted_metrics": ["accuracy"], "run_eagerly": True}  # The others run compiled.
    distiller = compiled(distillers=together, **eager)
    history = distiller.fit(x, y, **options).history
    total = 0
    for name, other in (("audio", "video"), ("video", "audio")):
        alone[name].compile("adam", loss=cross_entropy(), **eager)
        expected = alone[name].fit({"student": x[name], "teacher": x[other]}, y, **options).history
        assert {f"{name}_{log}" for log in expected} == {n for n in history if n.startswith(name)}
        for log, values in expected.items():
            assert history[f"{name}_{log}"] == pytest.approx(values, rel=1e-4, abs=1e-6), log
        weights = together[name].get_weights()
        for old, new in zip(alone[name].get_weights(), weights, strict=True):
            np.testing.assert_allclose(new, old, atol=1e-5)
        total = total + np.array(expected["loss"])
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)


def test_evaluation_and_prediction():
    x, y = data()
    distillers = directions(batch_norm=True, dropout=0.5)
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    distiller = compiled(distillers=distillers, metrics=["accuracy", top])
    history = distiller.fit(x, y, batch_size=8, verbose=0, validation_data=(x, y)).history
    before = [np.array(weight) for weight in distiller.get_weights()]
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert {f"val_{name}" for name in logs} == {n for n in history if n.startswith("val_")}
    terms = ("accuracy", "top2", "loss", "task_loss", "low_loss", "high_loss", "align_loss")
    assert {f"{name}_{term}" for name in SIZES for term in terms} < set(logs)
    assert logs["loss"] == pytest.approx(logs["audio_loss"] + logs["video_loss"], rel=1e-5)
    values = distiller.evaluate(x, y, verbose=0)
    assert values[0] == logs["loss"]
    assert sorted(values) == pytest.approx(sorted(logs.values()))
    predicted = distiller.predict(x, verbose=0)
    assert set(predicted) == set(SIZES)
    for name, logits in predicted.items():
        expected = ops.convert_to_numpy(distillers[name].student(x[name]))
        np.testing.assert_allclose(logits, expected, atol=1e-6)
        # The metric objects are each side's own.
        assert logs[f"{name}_accuracy"] == pytest.approx((logits.argmax(1) == y).mean())
        second = (np.argsort(logits, axis=1)[:, 1:] == y[:, None]).any(1).mean()
        assert logs[f"{name}_top2"] == pytest.approx(second)
    for old, new in zip(before, distiller.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_teachers_stay_bit_identical():
    x, y = data()
    distillers = directions()
    distiller = MutualDistiller(distillers)
    distiller.trainable = True
    distiller.compile(keras.optimizers.AdamW(0.1, weight_decay=0.1), loss=cross_entropy())
    teachers = [inner.teacher for inner in distillers.values()]
    before = [np.array(weight) for teacher in teachers for weight in teacher.get_weights()]
    start = [np.array(inner.student.get_weights()[0]) for inner in distillers.values()]
    for train in (distiller.fit, distiller.train_on_batch):
        for teacher in teachers:
            teacher.trainable = True  # By the user, behind the distiller's back.
        train(x, y)
    after = [weight for teacher in teachers for weight in teacher.get_weights()]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    for old, inner in zip(start, distillers.values(), strict=True):
        assert np.abs(inner.student.get_weights()[0] - old).min() > 0


def test_losses_of_layers_count_once_and_for_their_student():
    x, y = data()

    def model(size, rate):
        hidden = keras.layers.Dense(
            16, kernel_regularizer=keras.regularizers.L2(rate), activity_regularizer="l1"
        )
        return keras.Sequential([keras.Input((size,)), hidden, keras.layers.Dense(3)])

    distillers = {
        "audio": FrequencyDistiller(model(6, 0.1), model(4, 0.1)),
        "video": FrequencyDistiller(model(4, 0.1), model(6, 0.5)),
    }
    expected = {}
    for name, inner in distillers.items():
        inner.student.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
        expected[name] = inner.student.evaluate(x[name], y, batch_size=24, verbose=0)
    distiller = compiled(keras.optimizers.SGD(0.0), distillers)
    logs = distiller.fit(x, y, batch_size=24, epochs=2, verbose=0).history
    for name, value in expected.items():
        assert logs[f"{name}_task_loss"] == pytest.approx([value, value], rel=1e-5)
    assert logs["loss"][0] == pytest.approx(logs["audio_loss"][0] + logs["video_loss"][0])


def test_data_sets_and_means_over_the_epoch():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(8 * index, 8 * index + 8)
            return {name: value[rows] for name, value in x.items()}, y[rows]

    x, y = data(samples=20)  # batches of 8, 8 and 4
    distiller = compiled(keras.optimizers.SGD(0.0))
    history = distiller.fit(Batches(), verbose=0).history
    whole = distiller.evaluate(x, y, batch_size=20, verbose=0, return_dict=True)
    for name, value in whole.items():
        assert history[name][0] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_save_and_go_on(tmp_path):
    x, y = data()
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    distiller = compiled(metrics=["accuracy", top])
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    distiller.fit(x, y, **options)
    distiller.save(tmp_path / "mutual.keras")
    loaded = keras.saving.load_model(tmp_path / "mutual.keras")
    histories = [model.fit(x, y, **options).history for model in (distiller, loaded)]
    assert "audio_top2" in histories[1]
    assert set(histories[0]) == set(histories[1])
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    # A direction that was compiled inside, without an optimizer, can be saved alone.
    distiller.distillers["audio"].save(tmp_path / "audio.keras")
    alone = keras.saving.load_model(tmp_path / "audio.keras")
    for old, new in zip(loaded.distillers["audio"].get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_teachers_that_train():
    x, y = data()
    distillers = {
        "audio": C2KDDistiller(classifier(6, batch_norm=True), classifier(4)),
        "video": FrequencyDistiller(classifier(4), classifier(6)),
    }
    before = [np.array(w) for w in distillers["audio"].teacher.get_weights()]
    history = compiled("adam", distillers).fit(x, y, verbose=0).history
    assert {"audio_teacher_loss", "audio_selected", "video_low_loss"} < set(history)
    for old, new in zip(before, distillers["audio"].teacher.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_unlabelled_data():
    x, _ = data()
    distillers = {
        "audio": FrequencyDistiller(classifier(6), classifier(4), align_weight=0),
        "video": FrequencyDistiller(classifier(4), classifier(6), align_weight=0),
    }
    distiller = MutualDistiller(distillers)
    distiller.compile("adam")
    history = distiller.fit(x, epochs=2, verbose=0).history
    assert history["audio_task_loss"] == [0.0, 0.0]
    assert history["loss"][1] < history["loss"][0]


def test_loss_scaling_if_one_side_needs_it():
    keras.config.set_dtype_policy("mixed_float16")
    half = classifier(6)
    keras.config.set_dtype_policy("float32")
    distillers = {**directions(), "video": FrequencyDistiller(classifier(4), half)}
    assert MutualDistiller(directions()).dtype_policy.name == "float32"
    distiller = compiled("sgd", distillers)
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)


class Numbered(CrossModalLoss):
    needs_index = True

    def call(self, teacher, student, y=None):
        return ops.mean(student, axis=-1)


def shared(kind):
    first, second = directions().values()
    if kind == "student":
        second = FrequencyDistiller(classifier(4), first.student)
    elif kind == "teacher":
        second = FrequencyDistiller(classifier(4), first.teacher)
    elif kind == "taught":
        second = FrequencyDistiller(first.student, classifier(6))
    elif kind == "same":
        second = first
    return {"audio": first, "video": second}


@pytest.mark.parametrize(
    ("distillers", "message"),
    [
        (lambda: list(directions().values()), "must be a dict with two entries"),
        (lambda: {"audio": directions()["audio"]}, "must be a dict with two entries"),
        (lambda: {**directions(), "text": directions()["audio"]}, "with two entries"),
        (lambda: {**directions(), "video": classifier(4)}, "must be a dict with two entries"),
        (lambda: dict(zip((0, 1), directions().values(), strict=True)), "with two entries"),
        (lambda: shared("student"), "must not share variables"),
        (lambda: shared("teacher"), "must not share variables"),
        (lambda: shared("taught"), "must not share variables"),
        (lambda: shared("same"), "must not share variables"),
        (
            lambda: {
                **directions(),
                "video": FrequencyDistiller(
                    classifier(4), classifier(6), extra_losses=[Numbered(name="numbered")]
                ),
            },
            "Received: such a loss in 'video'",
        ),
    ],
)
def test_arguments(distillers, message):
    with pytest.raises(ValueError, match=message):
        MutualDistiller(distillers())


def test_one_frozen_teacher_may_teach_both():
    teacher = classifier(4)
    distiller = compiled(
        distillers={name: FrequencyDistiller(teacher, classifier(4)) for name in SIZES}
    )
    ids = {id(variable) for variable in distiller.trainable_variables}
    assert ids
    assert not any(id(variable) in ids for variable in teacher.variables)


@pytest.mark.parametrize(
    "x",
    [
        lambda x: x["audio"],
        lambda x: {"audio": x["audio"]},
        lambda x: {**x, "text": x["audio"]},
        lambda x: {"student": x["audio"], "teacher": x["video"]},
    ],
)
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "train_on_batch"])
def test_data_must_hold_both_modalities(x, method):
    inputs, y = data()
    distiller = compiled()
    labels = () if method == "predict" else (y,)
    with pytest.raises(ValueError, match="inputs of both modalities"):
        getattr(distiller, method)(x(inputs), *labels)


def test_labels_are_checked():
    x, y = data()
    with pytest.raises(ValueError, match="Labels must be in 0..2"):
        compiled().fit(x, y + 1)
