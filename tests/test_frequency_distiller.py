"""What FrequencyDistiller guarantees, each with a test that fails if it is broken."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import PUBLISHED, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.layers import FrequencySplit
from keras_fdkd.losses import KD

TERMS = {"low_loss", "high_loss", "align_loss"}
MONITORS = {"low_similarity", "high_similarity"}


def distill(distiller, x, y, loss=None, **kwargs):
    distiller.compile("adam", loss=loss or cross_entropy(), metrics=["accuracy"])
    return distiller.fit(x, y, **{"epochs": 2, "batch_size": 8, "verbose": 0, **kwargs}).history


def test_logs():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    validation = (x, y)
    history = distill(distiller, x, y, validation_data=validation)
    names = {"loss", "task_loss", "accuracy"} | TERMS | MONITORS
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(np.isfinite(values).all() for values in history.values())
    total = history["task_loss"][0] + sum(
        getattr(distiller, name.replace("_loss", "_weight")) * history[name][0] for name in TERMS
    )
    assert history["loss"][0] == pytest.approx(total, rel=1e-5)
    # The student alone: only its task can be judged.
    alone = distiller.evaluate(x["student"], y, verbose=0, return_dict=True)
    assert set(alone) == {"loss", "task_loss", "accuracy"}
    assert alone["loss"] == pytest.approx(history["val_task_loss"][-1], rel=1e-5)


def test_logs_are_means_over_the_epoch():
    """With a rate of 0 nothing changes, so the epoch's logs are those of the whole set at once."""
    x, y = pairs(samples=20)  # batches of 8, 8 and 4
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    history = distiller.fit(x, y, batch_size=8, verbose=0).history
    whole = distiller.evaluate(x, y, batch_size=20, verbose=0, return_dict=True)
    for name, value in whole.items():
        assert history[name][0] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_training_helps_the_bands():
    x, y = pairs()
    x["teacher"][:, :4] = x["student"]
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_weight=0)
    distiller.compile(keras.optimizers.Adam(0.01), loss=cross_entropy())
    history = distiller.fit(x, y, epochs=40, batch_size=8, verbose=0).history
    assert history["low_loss"][-1] < 0.8 * history["low_loss"][0]
    assert history["low_similarity"][-1] > history["low_similarity"][0] + 0.1


def test_teacher_stays_bit_identical():
    teacher = classifier(6, batch_norm=True, dropout=0.5)
    x, y = pairs()
    teacher(x["teacher"], training=True)  # Running statistics that differ from the start.
    before = [np.array(weight) for weight in teacher.get_weights()]
    # Weight decay moves every variable that counts as trainable, gradient or none.
    distiller = FrequencyDistiller(teacher, classifier(4))
    distiller.trainable = True
    distiller.compile(keras.optimizers.AdamW(0.1, weight_decay=0.1), loss=cross_entropy())
    distiller.fit(x, y, epochs=2, verbose=0)
    teacher.trainable = True  # By the user, behind the distiller's back.
    distiller.fit(x, y, epochs=2, verbose=0)
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_teacher_sees_inference_mode():
    """With dropout in the teacher the terms are still the same in each of two evaluations."""
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6, dropout=0.9), classifier(4))
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    logs = [distiller.fit(x, y, verbose=0, shuffle=False).history for _ in range(2)]
    assert logs[0] == logs[1]


def test_evaluate_changes_no_student_state():
    student = classifier(4, batch_norm=True, dropout=0.5)
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), student)
    distill(distiller, x, y)
    before = [np.array(value) for value in student.get_weights()]
    distiller.evaluate(x, y, verbose=0)
    distiller.evaluate(x["student"], y, verbose=0)
    distiller.predict(x, verbose=0)
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@keras.saving.register_keras_serializable(package="tests")
class Count(keras.layers.Layer):
    """Counts in a variable how often the compiled step really runs it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs


def test_one_student_forward_a_step():
    x = keras.Input((4,))
    counter = Count()
    student = keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(16)(counter(x))))
    distiller = FrequencyDistiller(classifier(6), student, **PUBLISHED)
    inputs, y = pairs(samples=24)
    distill(distiller, inputs, y, epochs=1)
    assert float(counter.calls) == 3  # 24 samples in batches of 8


def test_one_teacher_forward_a_step():
    """State inside the teacher is dropped, so its passes are counted where they are made."""
    calls = []

    class Noted(keras.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    x = keras.Input((6,))
    teacher = keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(16)(Noted()(x))))
    distiller = FrequencyDistiller(teacher, classifier(4), **PUBLISHED)
    distiller.compile("sgd", loss=cross_entropy(), run_eagerly=True)
    inputs, y = pairs(samples=24)
    calls.clear()
    distiller.fit(inputs, y, batch_size=8, epochs=2, verbose=0)
    assert len(calls) == 6


def test_no_gradient_through_the_teacher():
    """The teacher's side of each term is a constant: scaling it must not train the teacher."""
    x, y = pairs()
    teacher = classifier(6)
    distiller = FrequencyDistiller(teacher, classifier(4), **PUBLISHED)
    distill(distiller, x, y)
    assert len(teacher.trainable_variables) == 4  # Its own flags stay as they were.
    ids = {id(variable) for variable in teacher.variables}
    assert not any(id(variable) in ids for variable in distiller.trainable_variables)
    if keras.config.backend() == "torch":
        outputs = distiller._with_teacher_outputs(
            ({name: ops.convert_to_tensor(value) for name, value in x.items()}, y), train=True
        )[0]["teacher_outputs"]
        assert not any(value.requires_grad for value in outputs.values())


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_without_weights_equals_plain_training():
    """All weights set to 0 after construction: the teacher's side cannot matter."""
    x, y = pairs()
    plain = classifier(4, batch_norm=True)
    start = plain.get_weights()
    plain.compile("adam", loss=cross_entropy())
    keras.utils.set_random_seed(1)
    plain.fit(x["student"], y, batch_size=8, epochs=3, verbose=0)
    for scale in (1.0, 100.0):
        student = classifier(4, batch_norm=True)
        student.set_weights(start)
        distiller = FrequencyDistiller(classifier(6), student)
        distiller.low_weight = distiller.high_weight = distiller.align_weight = 0.0
        distiller.compile("adam", loss=cross_entropy())
        keras.utils.set_random_seed(1)
        pair = {"teacher": scale * x["teacher"], "student": x["student"]}
        distiller.fit(pair, y, batch_size=8, epochs=3, verbose=0)
        for old, new in zip(plain.get_weights(), student.get_weights(), strict=True):
            np.testing.assert_allclose(old, new, atol=1e-6)


@pytest.mark.parametrize("how", ["sample_weight", "class_weight"])
def test_weights_reach_every_term(how):
    """Samples of weight 0 have no effect on any term; the rest count as in plain Keras."""
    x, y = pairs(samples=24)
    kept = y != 0
    weighting = (
        {"sample_weight": kept.astype("float32")}
        if how == "sample_weight"
        else {"class_weight": {0: 0.0, 1: 1.0, 2: 1.0}}
    )
    distiller = FrequencyDistiller(classifier(6), classifier(4), **PUBLISHED)
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    logs = distiller.fit(x, y, batch_size=24, verbose=0, **weighting).history
    subset = {name: value[kept] for name, value in x.items()}
    expected = distiller.evaluate(subset, y[kept], batch_size=24, verbose=0, return_dict=True)
    # Keras divides by the number of samples, whatever their weights.
    for name in ("task_loss", "band_task_loss", *sorted(TERMS)):
        assert logs[name][0] == pytest.approx(expected[name] * kept.mean(), rel=1e-4), name


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_sample_weight_of_further_axes():
    """Weights of time steps count in the distillation terms by their mean."""
    x, y = pairs(samples=8)
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_weight=0)
    distiller.compile(keras.optimizers.SGD(0.0), loss=None)
    weights = np.random.default_rng(0).random((8, 8)).astype("float32")
    logs = [
        distiller.fit(x, y, sample_weight=w, batch_size=8, verbose=0).history
        for w in (weights, weights.mean(1))
    ]
    assert logs[0]["low_loss"] == pytest.approx(logs[1]["low_loss"], rel=1e-5)


def test_students_of_several_outputs():
    x, y = pairs()
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(16)(inputs)
    outputs = [keras.layers.Dense(3, name="a")(hidden), keras.layers.Dense(1, name="b")(hidden)]
    distiller = FrequencyDistiller(
        classifier(6), keras.Model(inputs, outputs), student_features=hidden, align_weight=0
    )
    losses, metrics = {"a": cross_entropy(), "b": "mse"}, {"a": ["accuracy"], "b": ["mae"]}
    distiller.compile("adam", loss=losses, metrics=metrics)
    targets = {"a": y, "b": x["student"][:, :1]}
    history = distiller.fit(x, targets, verbose=0).history
    assert {"a_accuracy", "a_loss", "b_loss", "b_mae", "low_loss"} <= set(history)


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
def test_no_way_to_train_reaches_the_teacher(how):
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile(keras.optimizers.AdamW(0.1, weight_decay=0.1), loss=cross_entropy())
    before = [np.array(weight) for weight in distiller.teacher.get_weights()]
    distiller.teacher.trainable = True
    if how == "fit":
        distiller.fit(x, y, verbose=0)
    else:
        distiller.train_on_batch(x, y)
    for old, new in zip(before, distiller.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


ABLATION = {
    "feature MSE": {"cutoff": None, "high_weight": 0, "align_weight": 0, "standardize": None},
    "frequency": {"high_loss": "mse", "align_weight": 0, "standardize": None},
    "align": {"cutoff": None, "high_weight": 0, "standardize": None},
    "frequency + align": {"high_loss": "mse", "standardize": None},
    "frequency + scale": {"high_loss": "mse", "align_weight": 0},
    "frequency + align + scale": {"high_loss": "mse"},
    "all with logMSE": {},
    "MSE + MSE": {"high_loss": "mse"},
    "logMSE + logMSE": {"low_loss": "log_mse"},
    "swapped": {"low_loss": "log_mse", "high_loss": "mse"},
    "low alone": {"high_weight": 0, "align_weight": 0},
    "high alone": {"low_weight": 0, "align_weight": 0},
    "align alone": {"low_weight": 0, "high_weight": 0},
    "published": PUBLISHED,
}


@pytest.mark.parametrize("row", ABLATION)
def test_every_part_can_be_switched_off(row):
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4), **ABLATION[row])
    history = distill(distiller, x, y)
    expected = set()
    options = {"low_weight": 1, "high_weight": 1, "align_weight": 1, "band_task_weight": 0}
    options |= ABLATION[row]
    for name, weight in options.items():
        if name.endswith("_weight") and weight:
            expected.add(name.replace("_weight", "_loss"))
    assert {name for name in history if name.endswith("_loss")} == expected | {"task_loss"}
    assert all(np.isfinite(values).all() for values in history.values())
    bool_heads = bool(distiller.align_heads), bool(distiller.band_task_heads)
    assert bool_heads == (bool(options["align_weight"]), bool(options["band_task_weight"]))


def test_feature_mse_is_what_it_says():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4), **ABLATION["feature MSE"])
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    logs = distiller.fit(x, y, batch_size=24, verbose=0).history
    teacher, student = distiller.predict_features(x)
    assert logs["low_loss"][0] == pytest.approx(((teacher - student) ** 2).mean(), rel=1e-5)


def test_projector_between_sizes():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6, features=20), classifier(4, features=12))
    lines = []
    distiller.summary(print_fn=lines.append)
    assert "FeatureProjector" in "\n".join(lines)
    before = distiller.projector.get_weights()[0]
    distill(distiller, x, y)
    assert np.abs(distiller.projector.get_weights()[0] - before).max() > 0
    assert FrequencyDistiller(classifier(6), classifier(4)).projector is None


def test_projector_of_the_user():
    x, y = pairs()
    mine = keras.Sequential([keras.layers.Dense(30, "relu"), keras.layers.Dense(20)])
    distiller = FrequencyDistiller(
        classifier(6, features=20), classifier(4, features=12), projector=mine
    )
    assert distiller.projector is mine
    distill(distiller, x, y)


def test_split_along_time():
    def model(channels, name):
        x = keras.Input((20, channels))
        feature = keras.layers.Conv1D(6, 3, padding="same", name="frames")(x)
        pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.ReLU()(feature))
        return keras.Model(x, keras.layers.Dense(3)(pooled), name=name)

    rng = np.random.default_rng(0)
    x = {
        "teacher": rng.normal(size=(16, 20, 3)).astype("float32"),
        "student": rng.normal(size=(16, 20, 2)).astype("float32"),
    }
    distiller = FrequencyDistiller(
        model(3, "teacher"), model(2, "student"),
        teacher_features="frames", student_features="frames", axis=1,
    )  # fmt: skip
    history = distill(distiller, x, rng.integers(3, size=16), epochs=20)
    assert history["low_loss"][-1] < history["low_loss"][0]


def test_weights_put_the_bands_beside_the_cross_entropy():
    """Unit variance makes the low term `2 - 2 cos`, whatever the feature size."""
    x, y = pairs()
    for features in (16, 256):
        distiller = FrequencyDistiller(classifier(6, features), classifier(4, features))
        logs = distill(distiller, x, y, epochs=1, batch_size=24)
        expected = 2 - 2 * logs["low_similarity"][0]
        assert logs["low_loss"][0] == pytest.approx(expected, rel=1e-4)


def test_predict_gives_the_students_predictions():
    x, y = pairs()
    student = classifier(4)
    distiller = FrequencyDistiller(classifier(6), student)
    distill(distiller, x, y)
    expected = student.predict(x["student"], verbose=0)
    np.testing.assert_allclose(distiller.predict(x["student"], verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), expected, atol=1e-6)


def test_regularizers_and_activity_losses_count_once():
    x, y = pairs()
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(16, kernel_regularizer="l2", activity_regularizer="l1")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    student.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    expected = student.evaluate(x["student"], y, batch_size=24, verbose=0)
    teacher = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(16, activity_regularizer="l1"),
         keras.layers.Dense(3)]
    )  # fmt: skip
    distiller = FrequencyDistiller(teacher, student)
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    logs = distiller.fit(x, y, batch_size=24, verbose=0).history
    assert logs["task_loss"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_unlabelled_pairs():
    x, _ = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_weight=0)
    distiller.compile("adam")
    history = distiller.fit(x, epochs=2, verbose=0).history
    assert history["task_loss"] == [0.0, 0.0]
    assert history["low_loss"][1] < history["low_loss"][0]


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("categorical_crossentropy", lambda y: np.eye(3, dtype="float32")[y]),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
         lambda y: np.eye(3, dtype="float32")[y]),
        (keras.losses.sparse_categorical_crossentropy, lambda y: y),
        (cross_entropy(ignore_class=-1), lambda y: np.where(y == 0, -1, y)),
    ],
)  # fmt: skip
def test_heads_follow_the_compiled_loss(loss, labels):
    x, y = pairs()
    student = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16), keras.layers.Dense(3, "softmax")]
    )
    history = distill(FrequencyDistiller(classifier(6), student), x, labels(y), loss=loss)
    assert np.isfinite(history["align_loss"]).all()


def test_the_student_needs_nothing_of_ours(tmp_path):
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distill(distiller, x, y)
    distiller.student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(
        loaded.predict(x["student"], verbose=0), distiller.predict(x["student"], verbose=0)
    )


def test_save_and_go_on(tmp_path):
    x, y = pairs()
    distiller = FrequencyDistiller(
        classifier(6, features=20), classifier(4), teacher_features="pool", low_loss="log_mse"
    )
    distill(distiller, x, y, shuffle=False)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    histories = [
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0).history
        for model in (distiller, loaded)
    ]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_unlabelled_samples_count_in_the_bands_alone():
    """Label -1 with `ignore_class=-1`: out of every cross-entropy, in every other term."""
    x, y = pairs(samples=24)
    hidden = np.where(np.arange(24) < 8, y, -1).astype("int32")
    labelled = {side: values[:8] for side, values in x.items()}
    distiller = FrequencyDistiller(
        classifier(6), classifier(4), extra_losses=[KD()], band_task_weight=1.0
    )
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy(ignore_class=-1))

    def logs(x, y):
        return distiller.fit(x, y, batch_size=len(y), verbose=0).history

    mixed, known, whole = logs(x, hidden), logs(labelled, y[:8]), logs(x, y)
    for name in ("task_loss", "align_loss", "band_task_loss"):
        assert mixed[name][0] == pytest.approx(known[name][0], rel=1e-4), name
    for name in ("low_loss", "high_loss", "kd_loss"):
        assert mixed[name][0] == pytest.approx(whole[name][0], rel=1e-4), name
    nothing = logs(x, np.full(24, -1, "int32"))
    assert nothing["task_loss"][0] == nothing["align_loss"][0] == 0
    assert nothing["low_loss"][0] == pytest.approx(whole["low_loss"][0], rel=1e-4)


def test_unlabelled_samples_need_to_be_announced():
    x, y = pairs()
    y[0] = -1
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy())
    with pytest.raises(ValueError, match="ignore_class=-1"):
        distiller.fit(x, y)


def test_projector_knows_that_it_trains():
    """On JAX, layers inside `call` are not told by Keras."""

    class Told(keras.layers.Dense):
        def call(self, inputs, training=None):
            return super().call(inputs) * (1.0 if training else 0.0)

    x, y = pairs()
    distiller = FrequencyDistiller(
        classifier(6, features=20), classifier(4), projector=Told(20), align_weight=0
    )
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    history = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    assert history["low_similarity"][0] != 0
    assert history["val_low_similarity"][0] == 0


def scalar(value):
    return float(ops.convert_to_numpy(value))


class PerBatch(keras.losses.Loss):
    """No mean or sum over rows: what it says of two batches says nothing of both together."""

    def call(self, y_true, y_pred):
        return ops.square(ops.max(y_pred)) + 0.0 * ops.cast(ops.sum(y_true), y_pred.dtype)


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("kind", [keras.losses.SparseCategoricalCrossentropy, PerBatch])
def test_heads_are_judged_one_by_one(kind, reduction):
    """Computed as one or not, the term is the sum of the losses of both heads on both sides."""
    options = {} if kind is PerBatch else {"from_logits": True}
    judge = kind(reduction=reduction, **options)
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_loss=judge)
    distiller.compile("sgd", loss=cross_entropy())
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 8, 16)).astype("float32")
    y = ops.convert_to_tensor(rng.integers(3, size=8))
    weight = ops.convert_to_tensor(rng.uniform(size=8).astype("float32"))
    sides = (
        {"features": ops.convert_to_tensor(teacher)},
        {"features": ops.convert_to_tensor(student)},
    )
    terms, _ = distiller.terms(distiller.compare(*sides, training=True), y, weight)
    expected = 0.0
    for feature in (teacher, student):
        bands = FrequencySplit()(feature)
        for band, head in zip(bands, distiller.align_heads.values(), strict=True):
            expected += scalar(judge(y, head(band), sample_weight=weight))
    np.testing.assert_allclose(scalar(terms["align_loss"][1]), expected, rtol=1e-5)


def test_terms_without_a_name_in_the_logs_are_refused():
    class Nameless(CrossModalDistiller):
        def compare(self, teacher, student, training):
            return {"student": student["features"]}

        def terms(self, compared, y, sample_weight):
            return {"size_loss": (1.0, ops.mean(compared["student"]))}, {}

    distiller = Nameless(classifier(6), classifier(4))
    distiller.compile("sgd", loss=cross_entropy())
    with pytest.raises(ValueError, match=r"named in `logs`.*size_loss"):
        distiller.fit(*pairs(), verbose=0)


def test_heads_leave_out_the_label_that_the_task_leaves_out():
    """On JAX they would train on a label -1 as on one of no class, and halve the loss."""
    x, y = pairs(8)
    y[::2] = -1
    compiled = cross_entropy(ignore_class=-1)
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_loss=cross_entropy())
    with pytest.raises(ValueError, match="must leave out the same label"):
        distiller.compile("sgd", compiled)
    models = distiller.teacher, distiller.student
    found = []
    for align_loss in (None, compiled):
        keras.utils.set_random_seed(0)
        distiller = FrequencyDistiller(*models, align_loss=align_loss)
        distiller.compile("sgd", compiled)
        found.append(distiller.evaluate(x, y, verbose=0, return_dict=True)["align_loss"])
    assert found[0] == found[1]
