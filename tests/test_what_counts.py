"""Masks, ignored labels, missing labels and missing teachers together: each is left out once."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, MutualDistiller, RecordedTeacher
from keras_fdkd.data import cache_teacher
from keras_fdkd.losses import AT, DKD, KD, PKD, FitNet, FrequencyDistillation

SAMPLES, STEPS = 6, 6
RNG = np.random.default_rng(0)
XT = RNG.normal(size=(SAMPLES, STEPS, 3)).astype("float32")
XS = RNG.normal(size=(SAMPLES, STEPS, 2)).astype("float32")
PADDED = np.arange(STEPS) >= np.array([6, 3, 4, 6, 5, 2])[:, None]
XT[PADDED] = XS[PADDED] = 0
FRAMES = RNG.integers(3, size=(SAMPLES, STEPS))
STILL = {"batch_size": SAMPLES, "shuffle": False, "verbose": 0}
HALF = np.arange(SAMPLES) % 2 == 0


def recurrent(size, masked=True, steps=STEPS):
    inputs = keras.Input((steps, size))
    x = keras.layers.Masking()(inputs) if masked else inputs
    x = keras.layers.GRU(8, return_sequences=True, name="frames")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def logs(distiller, x, y, loss=None, **kwargs):
    distiller.compile(keras.optimizers.SGD(0.0), loss or cross_entropy())
    history = distiller.fit(x, y, **{**STILL, **kwargs}).history
    return {name: values[0] for name, values in history.items()}


@pytest.mark.parametrize("losses", [[KD()], [DKD()]])
def test_padding_that_is_masked_and_ignored(losses):
    teacher, student = recurrent(3), recurrent(2)
    distiller = CrossModalDistiller(teacher, student, losses=losses)
    x = {"teacher": XT, "student": XS}
    masked = logs(distiller, x, FRAMES)
    twice = logs(distiller, x, np.where(PADDED, -1, FRAMES), cross_entropy(ignore_class=-1))
    (name,) = set(masked) - {"loss", "task_loss"}
    assert twice[name] == pytest.approx(masked[name], rel=1e-5)


@pytest.mark.parametrize("kind", ["values", "classes", "frames"])
def test_samples_without_labels_and_teacher(kind):
    """The heads judge the samples with both, and take the mean over these."""
    if kind == "frames":
        make = lambda: FrequencyDistiller(  # noqa: E731
            *models, teacher_features="frames", student_features="frames", align_weight=0.3
        )
        models, x = (recurrent(3, False), recurrent(2, False)), {"teacher": XT, "student": XS}
        y, loss = np.where(HALF[:, None], FRAMES, -1), cross_entropy(ignore_class=-1)
        y[:, 4:] = -1
        rest = y[HALF]
    else:
        outputs = 2 if kind == "values" else 3
        models = classifier(6, classes=outputs), classifier(4, classes=outputs)
        make = lambda: FrequencyDistiller(*models)  # noqa: E731
        x, classes = pairs(SAMPLES)
        values = RNG.normal(size=(SAMPLES, 2)).astype("float32")
        y = np.where(HALF[:, None], values, np.nan) if kind == "values" else classes.copy()
        loss = "mse" if kind == "values" else cross_entropy(ignore_class=-1)
        if kind == "classes":
            y[~HALF] = -1
        rest = y[HALF]
    keras.utils.set_random_seed(0)
    first = logs(make(), {**x, "teacher_weight": HALF.astype("float32")}, y, loss)
    keras.utils.set_random_seed(0)
    second = logs(
        make(),
        {name: part[HALF] for name, part in x.items()},
        rest,
        loss,
        batch_size=int(HALF.sum()),
    )
    for name in ("align_loss", "low_loss", "high_loss", "task_loss"):
        assert first[name] == pytest.approx(second[name], rel=1e-5), name


def test_metrics_over_batches_with_missing_labels():
    x, _ = pairs(8)
    student = classifier(4, classes=1)
    made = student.predict(x["student"], verbose=0)
    y = made.copy()
    y[0] += 10
    y[1:4] = np.nan
    distiller = FrequencyDistiller(classifier(6, classes=1), student, align_weight=0)
    distiller.compile(keras.optimizers.SGD(0.0), "mse", weighted_metrics=["mae"])
    for size in (4, 8):
        came = distiller.fit(x, y, batch_size=size, shuffle=False, verbose=0).history["mae"][0]
        assert came == pytest.approx(2.0, rel=1e-4)


def test_a_sum_needs_no_share():
    x, _ = pairs(8)
    student = classifier(4, classes=1)
    y = student.predict(x["student"], verbose=0) + 1
    y[::2] = np.nan
    distiller = FrequencyDistiller(classifier(6, classes=1), student, align_weight=0)
    loss = keras.losses.MeanSquaredError(reduction="sum")
    assert logs(distiller, x, y, loss, batch_size=8)["task_loss"] == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize("missing", ["labels", "teachers"])
def test_sums_leave_out_what_is_missing(missing):
    """A mean has to be taken over fewer samples; a sum is just that of the others."""
    x, _ = pairs(8)
    y = RNG.normal(size=(8, 2)).astype("float32")
    labels, weight = y.copy(), np.ones(8, "float32")
    if missing == "labels":
        labels[::2] = np.nan
    else:
        weight[::2] = 0
    total = keras.losses.MeanSquaredError(reduction="sum")
    models = classifier(6, classes=2), classifier(4, classes=2)
    distiller = FrequencyDistiller(*models, low_loss=total)
    found = logs(distiller, {**x, "teacher_weight": weight}, labels, total, batch_size=8)
    there = {side: values[1::2] for side, values in x.items()}
    expected = logs(distiller, there, y[1::2], total, batch_size=8)
    names = ["align_loss"] + ["low_loss"] * (missing == "teachers")
    for name in names:
        assert found[name] == pytest.approx(expected[name], rel=1e-5)


def test_labels_in_a_list_of_one():
    """Keras takes it for the labels of the only output; void positions count in no term then."""
    distiller = CrossModalDistiller(recurrent(3, False), recurrent(2, False), losses=[KD()])
    labels = np.where(PADDED, 9, FRAMES)
    x, loss = {"teacher": XT, "student": XS}, cross_entropy(ignore_class=9)
    weight = RNG.random((SAMPLES, STEPS)).astype("float32")
    for given in (None, weight):
        expected = logs(distiller, x, labels, loss, sample_weight=given)["kd_loss"]
        in_list = None if given is None else [given]
        found = logs(distiller, x, [labels], loss, sample_weight=in_list)["kd_loss"]
        assert found == pytest.approx(expected, rel=1e-6)


def test_missing_labels_of_one_output_in_a_list():
    x, _ = pairs(8)
    y = RNG.normal(size=(8, 2)).astype("float32")
    y[4:] = np.nan
    distiller = FrequencyDistiller(
        classifier(6, classes=2), classifier(4, classes=2), align_weight=0
    )
    distiller.compile("adam", ["mse"])
    distiller.fit(x, [y], verbose=0)
    assert all(np.isfinite(weights).all() for weights in distiller.student.get_weights())


def test_a_teacher_with_its_outputs_in_another_order():
    def model(size, names):
        inputs = keras.Input((size,))
        hidden = keras.layers.Dense(16, "relu")(inputs)
        return keras.Model(inputs, [keras.layers.Dense(3, name=name)(hidden) for name in names])

    teacher, student = model(6, ["noun", "verb"]), model(4, ["verb", "noun"])
    x, y = pairs(SAMPLES)
    distiller = CrossModalDistiller(teacher, student, losses=[KD()], task_output="verb")
    came = logs(distiller, x, [y, y], [cross_entropy(), cross_entropy()])["kd_loss"]
    verb = [keras.Model(m.inputs, m.get_layer("verb").output) for m in (teacher, student)]
    wanted = logs(CrossModalDistiller(*verb, losses=[KD()]), x, y)["kd_loss"]
    assert came == pytest.approx(wanted, rel=1e-5)


def test_caches_of_teachers_that_changed_their_names(tmp_path):
    one, other = classifier(6), classifier(6)
    x, _ = pairs(SAMPLES)
    data = {"teacher": {"a": x["teacher"], "b": x["teacher"]}, "student": x["student"]}

    def stored(teachers):
        losses = [KD(teacher_layer_name=name, name=name) for name in ("a", "b")]
        distiller = CrossModalDistiller(teachers, classifier(4), losses=losses)
        return cache_teacher(distiller, data, tmp_path, verbose=0)["teacher_outputs"]

    stored({"a": one, "b": other})
    expected = other.predict(x["teacher"], verbose=0)
    outputs = stored({"b": one, "a": other})
    np.testing.assert_allclose(outputs["a:predictions"], expected, atol=1e-6)


def test_caches_of_some_teachers():
    """Outputs of one stand beside inputs of the other; weights stay beside them."""
    x, y = pairs(SAMPLES)
    distiller = CrossModalDistiller(
        {"a": classifier(6), "b": classifier(6)},
        classifier(4),
        losses=[KD(teacher_layer_name=name, name=name) for name in ("a", "b")],
    )
    both = dict.fromkeys(("a", "b"), x["teacher"])
    outputs = distiller.predict_teacher(both)
    some = {
        "teacher": {"a": x["teacher"]},
        "teacher_outputs": {"b:predictions": outputs["b:predictions"]},
        "student": x["student"],
        "teacher_weight": np.ones(SAMPLES),
    }
    stored = cache_teacher(distiller, some, verbose=0)
    expected = logs(distiller, {"teacher": both, "student": x["student"]}, y)
    assert logs(distiller, stored, y) == pytest.approx(expected, rel=1e-5)


def test_resampled_logits_have_no_labels_of_frames():
    """DKD then takes the teacher's choice; what stands in the padding has no effect."""
    distiller = CrossModalDistiller(
        recurrent(3), recurrent(2), losses=[DKD()], time_steps="teacher"
    )
    x = {"teacher": XT, "student": XS}
    came = [logs(distiller, x, np.where(PADDED, filling, FRAMES))["dkd_loss"] for filling in (0, 2)]
    assert came[0] == pytest.approx(came[1], rel=1e-6)


def test_declared_masks_must_come():
    distiller = CrossModalDistiller(
        RecordedTeacher(layers={"frames": (STEPS, 8)}, masked=("frames",)),
        recurrent(2),
        losses=[PKD(teacher_layer_name="frames", student_layer_name="frames")],
    )
    x = {"teacher_outputs": {"frames": np.ones((SAMPLES, STEPS, 8), "float32")}, "student": XS}
    with pytest.raises(ValueError, match="frames_mask"):
        logs(distiller, x, FRAMES)


# Weights of samples beside maps.


def convolutional(channels, size, width=8):
    inputs = keras.Input((size, size, channels))
    x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name="map")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


LAYERS = {"teacher_layer_name": "map", "student_layer_name": "map"}


@pytest.mark.parametrize(
    "make",
    [
        lambda t, s: CrossModalDistiller(t, s, losses=[AT(**LAYERS)]),
        lambda t, s: CrossModalDistiller(t, s, losses=[FitNet(**LAYERS)]),
        lambda t, s: CrossModalDistiller(t, s, losses=[PKD(**LAYERS)]),
        lambda t, s: CrossModalDistiller(
            t, s, losses=[FrequencyDistillation(axis=(1, 2), **LAYERS)]
        ),
        lambda t, s: FrequencyDistiller(
            t, s, teacher_features="map", student_features="map", axis=(1, 2)
        ),
        lambda t, s: FrequencyDistiller(
            t,
            s,
            teacher_features="map",
            student_features="map",
            low_loss=keras.losses.CosineSimilarity(),
        ),
    ],
)
def test_weights_of_samples_and_maps_of_other_sizes(make):
    models = convolutional(3, 8), convolutional(1, 4)
    x = {
        "teacher": RNG.normal(size=(SAMPLES, 8, 8, 3)).astype("float32"),
        "student": RNG.normal(size=(SAMPLES, 4, 4, 1)).astype("float32"),
    }
    y = RNG.integers(3, size=SAMPLES)
    keras.utils.set_random_seed(0)
    first = logs(make(*models), {**x, "teacher_weight": HALF.astype("float32")}, y)
    keras.utils.set_random_seed(0)
    rest = {name: part[HALF] for name, part in x.items()}
    second = logs(make(*models), rest, y[HALF], batch_size=int(HALF.sum()))
    terms = [name for name in second if name.endswith("_loss") and name not in ("task_loss",)]
    for name in terms:
        if name != "align_loss":  # It has labels of all samples: tested with the other models.
            assert first[name] == pytest.approx(second[name], rel=1e-4), name


def test_weights_of_samples_and_classifiers_of_pixels():
    def unet(channels):
        inputs = keras.Input((8, 8, channels))
        x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="map")(inputs)
        return keras.Model(inputs, keras.layers.Conv2DTranspose(3, 2, strides=2)(x))

    distiller = FrequencyDistiller(
        unet(3),
        unet(1),
        teacher_features="map",
        student_features="map",
        axis=(1, 2),
        align_weight=0.3,
    )
    x = {
        "teacher": RNG.normal(size=(SAMPLES, 8, 8, 3)).astype("float32"),
        "student": RNG.normal(size=(SAMPLES, 8, 8, 1)).astype("float32"),
    }
    y = RNG.integers(3, size=(SAMPLES, 8, 8))
    first = logs(distiller, {**x, "teacher_weight": HALF.astype("float32")}, y)
    rest = {name: part[HALF] for name, part in x.items()}
    second = logs(distiller, rest, y[HALF], batch_size=int(HALF.sum()))
    for name in ("align_loss", "low_loss"):
        assert first[name] == pytest.approx(second[name], rel=1e-4), name


def test_recorded_probabilities_of_missing_teachers():
    distiller = CrossModalDistiller(
        RecordedTeacher(probabilities=(3,)), classifier(4), losses=[KD()]
    )
    p = np.full((SAMPLES, 3), 1 / 3, "float32")
    p[~HALF] = np.nan
    x, y = pairs(SAMPLES)
    x = {"teacher_outputs": {"probabilities": p}, "student": x["student"]}
    assert np.isfinite(logs(distiller, {**x, "teacher_weight": HALF * 1.0}, y)["loss"])


def test_half_precision_of_what_is_missing():
    x, _ = pairs(SAMPLES)
    x["teacher"][0] = 1e9
    x["teacher"][1] = np.nan
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    data = {**x, "teacher_weight": (np.arange(SAMPLES) != 1) * 1.0}
    with pytest.raises(ValueError, match="leaves the range"):
        cache_teacher(distiller, data, dtype="float16", verbose=0)


def test_several_teachers_in_both_directions():
    recorded = RecordedTeacher(features=(16,))
    inner = {
        "audio": FrequencyDistiller(recorded, classifier(4)),
        "video": FrequencyDistiller(classifier(4), classifier(6)),
    }
    with pytest.raises(ValueError, match="one teacher that runs"):
        MutualDistiller(inner)
    with pytest.raises(ValueError, match="none of"):
        CrossModalDistiller({"layer": classifier(6)}, classifier(4), losses=[KD()])


def test_lengths_that_vary_from_batch_to_batch():
    make = lambda size: recurrent(size, masked=False, steps=None)  # noqa: E731
    distiller = FrequencyDistiller(
        make(3), make(2), teacher_features="frames", student_features="frames", align_weight=0.1
    )
    distiller.compile("adam", cross_entropy())

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, number):
            steps = STEPS - number
            x = {"teacher": XT[:, :steps], "student": XS[:, :steps]}
            return {**x, "teacher_weight": np.ones(SAMPLES)}, FRAMES[:, :steps]

    assert np.isfinite(distiller.fit(Batches(), shuffle=False, verbose=0).history["loss"][0])
    assert np.isfinite(ops.convert_to_numpy(distiller.student.get_weights()[0])).all()
