"""Which positions count: masks of both sides, weights and ignored labels of frames and pixels."""

import keras
import numpy as np
import pytest
from conftest import cross_entropy
from keras import ops

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import (
    AFD,
    AT,
    CRD,
    DIST,
    DKD,
    KD,
    PKD,
    BinaryKD,
    CrossModalLoss,
    FitNet,
    FrequencyDistillation,
)

STEPS, SAMPLES, CLASSES = 6, 8, 3
STILL = {"batch_size": SAMPLES, "shuffle": False, "verbose": 0}
LAYERS = {"teacher_layer_name": "frames", "student_layer_name": "frames"}


def sequences(size, lengths, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, STEPS, size)).astype("float32")
    x[np.arange(STEPS) >= lengths[:, None]] = 0
    return x


LENGTHS = np.array([6, 3, 4, 6, 5, 3, 4, 6])
PADDED = np.arange(STEPS) >= LENGTHS[:, None]
XT, XS = sequences(5, LENGTHS, 0), sequences(4, LENGTHS, 1)


def recurrent(size, a_frame, masked=True):
    inputs = keras.Input((STEPS, size))
    x = keras.layers.Masking()(inputs) if masked else inputs
    x = keras.layers.GRU(8, return_sequences=True, name="frames")(x)
    if not a_frame:
        x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(x))


def maps(channels):
    inputs = keras.Input((8, 8, channels))
    return keras.Model(inputs, keras.layers.Conv2D(CLASSES, 3, padding="same")(inputs))


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def divergence(teacher, student):
    p, q = log_softmax(teacher.astype("float64")), log_softmax(student.astype("float64"))
    return (np.exp(p) * (p - q)).sum(-1)


FRAME_LOSSES = {
    "KD": (lambda: KD(1.0), True),
    "DKD": (DKD, True),
    "DIST": (DIST, True),
    "BinaryKD": (BinaryKD, True),
    "PKD": (lambda: PKD(**LAYERS), False),
    "AT": (lambda: AT(**LAYERS), False),
    "FitNet": (lambda: FitNet(**LAYERS), False),
    "bands along channels": (lambda: FrequencyDistillation(**LAYERS), False),
    "bands along time": (lambda: FrequencyDistillation(axis=1, **LAYERS), False),
}


@pytest.mark.parametrize("name", FRAME_LOSSES)
def test_padding_counts_in_no_loss(name):
    """What the teacher gives for padding changes nothing: value and gradient."""
    make, a_frame = FRAME_LOSSES[name]
    loss = make()
    teacher, start = recurrent(5, a_frame), recurrent(4, a_frame)
    compiled = keras.losses.BinaryCrossentropy(from_logits=True)
    if name != "BinaryKD":
        compiled = cross_entropy()
    y = np.zeros((SAMPLES, STEPS) if a_frame else SAMPLES, "int32")
    if name == "BinaryKD":
        y = np.zeros((SAMPLES, STEPS, CLASSES), "float32")
    found = []
    for fill in (0.0, 50.0):
        student = recurrent(4, a_frame)
        student.set_weights(start.get_weights())
        keras.utils.set_random_seed(0)
        distiller = CrossModalDistiller(teacher, student, losses=[make()])
        distiller.compile(keras.optimizers.SGD(0.1), compiled)
        outputs = {key: value.copy() for key, value in distiller.predict_teacher(XT).items()}
        for key in distiller._teacher.needs.outputs[None]:
            outputs[key][PADDED] = fill * np.linspace(-1, 1, outputs[key].shape[-1])
        x = {"teacher_outputs": outputs, "student": XS}
        term = distiller.fit(x, y, **STILL).history[f"{loss.name}_loss"][0]
        found.append((term, student.get_weights()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_mask_of_either_side_counts():
    """The frames that KD compares are those that both sides have: against NumPy."""
    for masked_teacher, masked_student in ((True, False), (False, True), (True, True)):
        teacher = recurrent(5, True, masked_teacher)
        student = recurrent(4, True, masked_student)
        distiller = CrossModalDistiller(teacher, student, losses=[KD(1.0)])
        distiller.compile(keras.optimizers.SGD(0.0))
        history = distiller.fit({"teacher": XT, "student": XS}, **STILL).history
        frames = divergence(teacher.predict(XT, verbose=0), student.predict(XS, verbose=0))
        assert history["kd_loss"][0] == pytest.approx(frames[~PADDED].mean(), rel=1e-4)


@pytest.mark.parametrize("axis", [-1, 1])
def test_padding_counts_in_no_band(axis):
    teacher, student = recurrent(5, False), recurrent(4, False)
    distiller = FrequencyDistiller(
        teacher, student, teacher_features="frames", student_features="frames", axis=axis
    )
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    outputs = distiller.predict_teacher(XT)
    assert outputs["features_mask"].shape == (SAMPLES, STEPS, 1)
    y, found = np.zeros(SAMPLES, "int32"), []
    for fill in (0.0, 9.0):
        changed = {name: values.copy() for name, values in outputs.items()}
        changed["features"][PADDED] = fill * np.linspace(-1, 1, 8)
        x = {"teacher_outputs": changed, "student": XS}
        history = distiller.fit(x, y, **STILL).history
        terms = ("low_loss", "high_loss", "align_loss", "low_similarity", "high_similarity")
        found.append([history[term][0] for term in terms])
    np.testing.assert_allclose(*found, rtol=1e-5)
    online = distiller.fit({"teacher": XT, "student": XS}, y, **STILL).history
    assert online["low_loss"][0] == pytest.approx(found[0][0], rel=1e-5)


def test_a_padded_batch_is_its_sequences_one_by_one():
    """Bands along channels, a frame: the mean over all frames of the sequences without padding."""
    rng = np.random.default_rng(3)
    teacher, student = rng.normal(size=(2, SAMPLES, STEPS, 8)).astype("float32")
    loss = FrequencyDistillation()
    whole = float(loss.compute_loss(teacher, student, mask=~PADDED))
    parts = [
        float(loss.compute_loss(teacher[i : i + 1, :length], student[i : i + 1, :length]))
        for i, length in enumerate(LENGTHS)
    ]
    assert whole == pytest.approx(np.average(parts, weights=LENGTHS), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CRD(SAMPLES, **LAYERS), "would compare the padding too"),
        (
            lambda: AFD(teacher_layer_name=["frames"], student_layer_name=["frames"]),
            "would compare the padding too",
        ),
        (
            lambda: keras.distillation.FeatureDistillation("mse", **LAYERS),
            "would compare the padding too",
        ),
        (
            lambda: FrequencyDistillation(low_loss=keras.losses.CosineSimilarity(), **LAYERS),
            "sees whole samples",
        ),
    ],
)
def test_losses_that_cannot_leave_padding_out_refuse_it(make, message):
    with pytest.raises(ValueError, match=message):
        CrossModalDistiller(recurrent(5, False), recurrent(4, False), losses=[make()])


def test_a_loss_of_ones_own_that_does_not_say_is_warned_of():
    class Own(CrossModalLoss):
        def call(self, teacher, student, y=None):
            return ops.mean(ops.square(student - teacher), axis=(1, 2))

    class Masked(Own):
        def call(self, teacher, student, y=None, mask=None):
            return super().call(teacher, student)

    with pytest.warns(UserWarning, match="what stands in the padding counts"):
        CrossModalDistiller(
            recurrent(5, False), recurrent(4, False), losses=[Own(name="own", **LAYERS)]
        )
    CrossModalDistiller(
        recurrent(5, False), recurrent(4, False), losses=[Masked(name="own", **LAYERS)]
    )


def test_proxies_leave_padding_out():
    teacher, student = recurrent(5, False), recurrent(4, False)
    features = {"teacher_features": "frames", "student_features": "frames"}
    found = []
    for seed in (0, 1):
        keras.utils.set_random_seed(0)
        distiller = C2KDDistiller(teacher, student, **features)
        distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
        pooled = distiller.student_proxy(
            np.where(PADDED[..., None], seed * 9.0, 1.0).repeat(8, -1).astype("float32"),
            mask=~PADDED,
        )
        found.append(ops.convert_to_numpy(pooled))
    np.testing.assert_allclose(*found, atol=1e-6)


# Weights and ignored labels of positions


def dense(losses, loss=None, **kwargs):
    rng = np.random.default_rng(0)
    x = {
        "teacher": rng.normal(size=(4, 8, 8, 3)).astype("float32"),
        "student": rng.normal(size=(4, 8, 8, 1)).astype("float32"),
    }
    y = kwargs.pop("y", rng.integers(0, CLASSES, (4, 8, 8)))
    distiller = CrossModalDistiller(maps(3), maps(1), losses=losses)
    distiller.compile(keras.optimizers.SGD(0.0), loss or cross_entropy())
    history = distiller.fit(x, y, batch_size=4, shuffle=False, verbose=0, **kwargs).history
    pixels = divergence(
        distiller.teacher.predict(x["teacher"], verbose=0),
        distiller.student.predict(x["student"], verbose=0),
    )
    return {name: values[0] for name, values in history.items()}, pixels


def test_weights_of_pixels_reach_kd():
    weight = np.random.default_rng(1).random((4, 8, 8)).astype("float32")
    logs, pixels = dense([KD(1.0)], sample_weight=weight)
    assert logs["kd_loss"] == pytest.approx((pixels * weight).mean(), rel=1e-4)
    logs, pixels = dense([KD(1.0)], sample_weight=weight[:, :1, :1])
    assert logs["kd_loss"] == pytest.approx((pixels * weight[:, :1, :1]).mean(), rel=1e-4)


def test_void_pixels_count_in_no_term_and_unlabelled_pictures_do():
    rng = np.random.default_rng(2)
    y = rng.integers(0, CLASSES, (4, 8, 8))
    y[:, :3] = 255
    counts = y != 255
    logs, pixels = dense([KD(1.0)], cross_entropy(ignore_class=255), y=y)
    assert logs["kd_loss"] == pytest.approx(pixels[counts].mean(), rel=1e-4)
    y[0] = 255  # A picture without any label teaches as a whole.
    counts[0] = True
    logs, pixels = dense([KD(1.0)], cross_entropy(ignore_class=255), y=y)
    assert logs["kd_loss"] == pytest.approx(pixels[counts].mean(), rel=1e-4)
    weight = rng.random((4, 8, 8)).astype("float32")
    logs, pixels = dense([KD(1.0)], cross_entropy(ignore_class=255), y=y, sample_weight=weight)
    expected = (pixels * weight)[counts].sum() / counts.sum()
    assert logs["kd_loss"] == pytest.approx(expected, rel=1e-4)


def test_ignored_labels_are_no_targets_of_dkd():
    """A label that the compiled loss leaves out is unknown, whichever number stands for it."""
    rng = np.random.default_rng(0)
    x = {
        "teacher": rng.normal(size=(24, 6)).astype("float32"),
        "student": rng.normal(size=(24, 4)).astype("float32"),
    }
    y = rng.integers(1, 3, 24)
    found = []
    for stands_for_none in (-1, 0):
        keras.utils.set_random_seed(0)
        teacher, student = [
            keras.Sequential([keras.Input((size,)), keras.layers.Dense(3)]) for size in (6, 4)
        ]
        labels = y.copy()
        labels[::2] = stands_for_none
        distiller = CrossModalDistiller(teacher, student, losses=[DKD()])
        distiller.compile(keras.optimizers.SGD(0.0), cross_entropy(ignore_class=stands_for_none))
        found.append(distiller.fit(x, labels, batch_size=24, verbose=0).history["dkd_loss"][0])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_weights_of_pixels_reach_bands_of_smaller_maps():
    """Averaged to the size of the map: half of the picture without weight is half of the map."""

    def encoder(channels):
        inputs = keras.Input((8, 8, channels))
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="map")(inputs)
        return keras.Model(inputs, keras.layers.Conv2DTranspose(3, 2, strides=2)(x))

    rng = np.random.default_rng(0)
    x = {
        "teacher": rng.normal(size=(4, 8, 8, 3)).astype("float32"),
        "student": rng.normal(size=(4, 8, 8, 1)).astype("float32"),
    }
    y, weight = rng.integers(0, 3, (4, 8, 8)), np.ones((4, 8, 8), "float32")
    weight[:, :4] = 0
    features = {"teacher_features": "map", "student_features": "map", "align_weight": 0}
    distiller = FrequencyDistiller(encoder(3), encoder(1), **features)
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    outputs = distiller.predict_teacher(x["teacher"])
    found = []
    for fill in (0.0, 5.0):
        features = outputs["features"].copy()
        features[:, :2] = fill * np.linspace(-1, 1, 8)
        data = {"teacher_outputs": {"features": features}, "student": x["student"]}
        history = distiller.fit(data, y, sample_weight=weight, batch_size=4, verbose=0).history
        found.append((history["low_loss"][0], history["high_loss"][0]))
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert found[0][0] > 0


def test_dkd_a_pixel_is_dkd_of_all_pixels():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 2, 3, 3, 4)).astype("float32")
    y = rng.integers(0, 4, (2, 3, 3))
    flat = DKD().compute_loss(teacher.reshape(-1, 4), student.reshape(-1, 4), y.reshape(-1))
    np.testing.assert_allclose(
        float(DKD().compute_loss(teacher, student, y)), float(flat), rtol=1e-6
    )
    np.testing.assert_allclose(
        float(DKD().compute_loss(teacher, student, np.eye(4)[y])), float(flat), rtol=1e-6
    )


def test_weights_of_steps_count_by_their_mean_in_bands_along_time():
    """A band along time has no steps of its own, and padding is resampled away, weights too."""
    rng = np.random.default_rng(4)
    teacher, student = rng.normal(size=(2, SAMPLES, STEPS, 8)).astype("float32")
    weight = rng.random((SAMPLES, STEPS)).astype("float32")
    loss = FrequencyDistillation(axis=1)
    for mask in (None, ~PADDED):
        mean = np.average(weight, axis=1, weights=mask)
        found = [
            float(loss.compute_loss(teacher, student, sample_weight=w, mask=mask))
            for w in (weight, mean.astype("float32"))
        ]
        assert found[0] == pytest.approx(found[1], rel=1e-6)
