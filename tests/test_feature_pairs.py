"""Several pairs of features, sequences of other lengths, and outputs at each position."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, RecordedTeacher
from keras_fdkd.layers import StepResampler
from keras_fdkd.losses import DIST, DKD, KD, PKD, FitNet, FrequencyDistillation

X, Y = pairs()
STILL = {"batch_size": len(Y), "shuffle": False, "verbose": 0}


def logs(distiller, x, y, loss=None, **kwargs):
    distiller.compile(keras.optimizers.SGD(0.0), loss or cross_entropy())
    history = distiller.fit(x, y, **{**STILL, **kwargs}).history
    return {name: values[0] for name, values in history.items()}


def test_pairs_are_the_sum_of_each():
    teacher, student = classifier(6), classifier(4)
    options = {"align_weight": 0, "low_weight": 2.0, "high_weight": 1.0}
    places = {"teacher_features": ["feature", "pool"], "student_features": ["feature", "pool"]}
    together = FrequencyDistiller(teacher, student, pair_weights=[0.5, 2.0], **places, **options)
    came = logs(together, X, Y)
    each = [
        logs(
            FrequencyDistiller(
                teacher, student, teacher_features=place, student_features=place, **options
            ),
            X,
            Y,
        )
        for place in places["teacher_features"]
    ]
    for term in ("low_loss", "high_loss"):
        assert came[term] == pytest.approx(0.5 * each[0][term] + 2 * each[1][term], rel=1e-5)
    for n, one in enumerate(each, 1):
        assert came[f"low_similarity_{n}"] == pytest.approx(one["low_similarity"], abs=1e-5)


def test_pairs_have_projectors_and_heads_of_their_own(tmp_path):
    distiller = FrequencyDistiller(
        classifier(6, features=20), classifier(4), teacher_features=["feature", "pool"]
    )
    first, second = distiller.pairs
    assert first.projector is not second.projector
    kernels = [first.projector.dense.kernel, second.projector.dense.kernel]
    before = [ops.convert_to_numpy(kernel).copy() for kernel in kernels]
    distiller.compile("adam", cross_entropy())
    distiller.fit(X, Y, verbose=0)
    for kernel, old in zip(kernels, before, strict=True):
        assert np.abs(ops.convert_to_numpy(kernel) - old).max() > 0
    heads = [*first.align_heads.values(), *second.align_heads.values()]
    assert len({id(head) for head in heads}) == 4
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    expected = distiller.evaluate(X, Y, verbose=0)
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(expected)
    teacher, student = loaded.predict_features(X, pair=1)
    assert teacher.shape == student.shape == (len(Y), 20)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"teacher_features": ["feature", "pool"], "student_features": ["pool"] * 3}, "lists of"),
        ({"teacher_features": []}, "lists of"),
        ({"teacher_features": ["feature", "pool"], "pair_weights": [1.0]}, "`pair_weights`"),
        ({"pair_weights": [-1.0]}, "`pair_weights`"),
        ({"teacher_features": ["feature", "pool"], "projector": ["auto"]}, "`projector`"),
        (
            {
                "teacher_features": ["feature", "pool"],
                "projector": [keras.layers.Dense(16)] * 2,
            },
            "projector of its own",
        ),
    ],
)
def test_malformed_pairs(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FrequencyDistiller(classifier(6), classifier(4), **kwargs)


def test_one_layer_in_two_losses():
    regressor = keras.layers.Dense(16)
    losses = [FitNet(regressor, name="a"), FitNet(regressor, name="b")]
    with pytest.raises(ValueError, match="one and the same layer"):
        CrossModalDistiller(classifier(6), classifier(4), losses=losses)


def test_frequency_loss_brings_its_projector(tmp_path):
    losses = [
        FrequencyDistillation(teacher_layer_name=name, student_layer_name=name, name=name)
        for name in ("feature", "pool")
    ]
    distiller = CrossModalDistiller(classifier(6, features=20), classifier(4), losses=losses)
    assert set(distiller.adapters) == {"feature", "pool"}
    came = logs(distiller, X, Y)
    assert came["feature_loss"] > 0
    distiller.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(distiller.evaluate(X, Y, verbose=0))
    equal = CrossModalDistiller(classifier(6), classifier(4), losses=[FrequencyDistillation()])
    assert not equal.adapters
    with pytest.raises(ValueError, match="the same shape"):
        CrossModalDistiller(
            classifier(6, features=20),
            classifier(4),
            losses=[FrequencyDistillation(projector=None)],
        )


# Sequences of other lengths.

SAMPLES = 6
LONG, SHORT = 9, 5
RNG = np.random.default_rng(0)
XT = RNG.normal(size=(SAMPLES, LONG, 3)).astype("float32")
XS = RNG.normal(size=(SAMPLES, SHORT, 2)).astype("float32")
LENGTHS_T, LENGTHS_S = np.array([9, 4, 7, 1, 9, 5]), np.array([5, 2, 5, 3, 1, 4])
XT[np.arange(LONG) >= LENGTHS_T[:, None]] = 0
XS[np.arange(SHORT) >= LENGTHS_S[:, None]] = 0
YS = RNG.integers(3, size=SAMPLES)
SEQUENCES = {"teacher": XT, "student": XS}


def recurrent(size, steps, a_frame=True, masked=True):
    inputs = keras.Input((steps, size))
    x = keras.layers.Masking()(inputs) if masked else inputs
    x = keras.layers.GRU(8, return_sequences=True, name="frames")(x)
    x = x if a_frame else keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def unpadded(model, x, lengths, layer=None):
    """What a model gives for each sequence alone, without padding."""
    tapped = model if layer is None else keras.Model(model.input, model.get_layer(layer).output)
    whole = ops.convert_to_numpy(tapped(x))
    return [values[:length] for values, length in zip(whole, lengths, strict=True)]


def stretched(sequence, steps):
    """Linear interpolation by NumPy."""
    places = np.linspace(0, len(sequence) - 1, steps)
    return np.stack(
        [np.interp(places, np.arange(len(sequence)), column) for column in sequence.T], axis=-1
    )


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


@pytest.mark.parametrize(("steps", "unknown"), [("teacher", False), (4, False), (4, True)])
def test_logits_of_sequences_that_differ(steps, unknown):
    """KD a frame of masked sequences of other lengths, against NumPy on each sequence alone."""
    sizes = (None, None) if unknown else (LONG, SHORT)
    teacher, student = recurrent(3, sizes[0]), recurrent(2, sizes[1])
    distiller = CrossModalDistiller(teacher, student, losses=[KD(1.0)], time_steps=steps)
    distiller.compile(keras.optimizers.SGD(0.0))
    came = distiller.fit(SEQUENCES, **{**STILL, "batch_size": SAMPLES}).history["kd_loss"][0]
    count = LONG if steps == "teacher" else steps
    expected = []
    for t, s in zip(
        unpadded(teacher, XT, LENGTHS_T), unpadded(student, XS, LENGTHS_S), strict=True
    ):
        p, q = softmax(stretched(t, count)), softmax(stretched(s, count))
        expected.append((p * (np.log(p) - np.log(q))).sum(-1).mean())
    assert came == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("axis", [1, -1])
def test_bands_of_sequences_that_differ(axis):
    """They are those of the sequences as a user would resample them beforehand."""
    teacher, student = recurrent(3, LONG, False), recurrent(2, SHORT, False)
    options = {"align_weight": 0, "axis": axis}
    distiller = FrequencyDistiller(
        teacher,
        student,
        teacher_features="frames",
        student_features="frames",
        time_steps="teacher",
        **options,
    )
    came = logs(distiller, SEQUENCES, YS, batch_size=SAMPLES)
    sides = [
        np.stack([stretched(one, LONG) for one in unpadded(model, x, lengths, "frames")])
        for model, x, lengths in ((teacher, XT, LENGTHS_T), (student, XS, LENGTHS_S))
    ]
    loss = FrequencyDistillation(axis=axis, low_weight=1.0, high_weight=0.0)
    wanted = float(loss.compute_loss(*(side.astype("float32") for side in sides)))
    assert came["low_loss"] == pytest.approx(wanted, rel=1e-4)


def test_lengths_without_masks_by_the_projector():
    """Sequences without padding need no argument: the projector brings one to the other."""
    teacher, student = (
        recurrent(3, LONG, False, masked=False),
        recurrent(2, SHORT, False, masked=False),
    )
    distiller = FrequencyDistiller(
        teacher, student, teacher_features="frames", student_features="frames", axis=1
    )
    teacher_feature, student_feature = distiller.predict_features(SEQUENCES)
    assert teacher_feature.shape == student_feature.shape == (SAMPLES, LONG, 8)
    assert np.isfinite(logs(distiller, SEQUENCES, YS, batch_size=SAMPLES)["loss"])


def test_masked_lengths_by_the_projector():
    """What stands in the padding of either side has no effect."""
    distiller = FrequencyDistiller(
        RecordedTeacher(features=(LONG, 8), masked=("features",)),
        recurrent(2, SHORT, False),
        student_features="frames",
        axis=1,
    )
    features = RNG.normal(size=(SAMPLES, LONG, 8)).astype("float32")
    mask = (np.arange(LONG) < LENGTHS_T[:, None])[..., None]
    came = []
    for fill in (0.0, 9.0):
        outputs = {"features": np.where(mask, features, fill), "features_mask": mask}
        x = {"teacher_outputs": outputs, "student": XS}
        came.append(logs(distiller, x, YS, batch_size=SAMPLES))
    assert came[0] == pytest.approx(came[1])


def test_an_own_projector_that_changes_masked_steps():
    """Its output has no mask that could tell padding apart."""

    class Longer(keras.layers.ZeroPadding1D):
        supports_masking = True  # Else Keras warns already.

    longer = Longer((0, LONG - SHORT))
    sizes = {"teacher_features": "frames", "student_features": "frames", "projector": longer}
    with pytest.raises(ValueError, match="changes the number of steps.*projector='auto'"):
        FrequencyDistiller(recurrent(3, LONG, False), recurrent(2, SHORT, False), **sizes)
    models = recurrent(3, LONG, False, masked=False), recurrent(2, SHORT, False, masked=False)
    assert FrequencyDistiller(*models, **sizes).projector is longer


def test_unknown_lengths():
    """Split along channels a frame; and a frame too few is noticed."""
    make = lambda size: recurrent(size, None, masked=False)  # noqa: E731
    distiller = FrequencyDistiller(
        make(3), make(2), teacher_features="frames", student_features="frames"
    )
    x = {"teacher": XT[:, :SHORT], "student": XS}
    y = RNG.integers(3, size=(SAMPLES, SHORT))
    assert np.isfinite(logs(distiller, x, y, batch_size=SAMPLES)["loss"])
    kd = CrossModalDistiller(make(3), make(2), losses=[KD()])
    one = {"teacher": XT[:, :1], "student": XS}
    try:
        came = logs(kd, one, y, batch_size=SAMPLES)
    except Exception as error:
        assert "same shape" in str(error)  # noqa: PT017
    else:  # TensorFlow learns of it in the step.
        assert np.isnan(came["kd_loss"])


@pytest.mark.parametrize(
    ("steps", "make", "message"),
    [
        (0, lambda: (recurrent(3, LONG), recurrent(2, SHORT)), "positive integer"),
        ("student", lambda: (recurrent(3, LONG), recurrent(2, SHORT)), "positive integer"),
        ("teacher", lambda: (recurrent(3, None), recurrent(2, SHORT)), "no known common number"),
        (4, lambda: (classifier(6), classifier(4)), "is for sequences"),
    ],
)
def test_malformed_time_steps(steps, make, message):
    with pytest.raises(ValueError, match=message):
        CrossModalDistiller(*make(), losses=[KD()], time_steps=steps)


def test_ctc():
    """CTC as the task, classifiers a frame that it judges, and KD a frame on resampled logits."""
    teacher, student = recurrent(3, 12, masked=False), recurrent(2, 8, masked=False)
    distiller = FrequencyDistiller(
        teacher,
        student,
        teacher_features="frames",
        student_features="frames",
        axis=1,
        align_weight=0.1,
        time_steps="teacher",
        extra_losses=[KD()],
    )
    distiller.compile("adam", keras.losses.CTC())
    x = {
        "teacher": RNG.normal(size=(SAMPLES, 12, 3)).astype("float32"),
        "student": RNG.normal(size=(SAMPLES, 8, 2)).astype("float32"),
    }
    y = RNG.integers(1, 3, size=(SAMPLES, 3))
    history = distiller.fit(x, y, epochs=8, batch_size=SAMPLES, verbose=0).history
    assert history["align_loss"][-1] < history["align_loss"][0]
    assert history["task_loss"][-1] < history["task_loss"][0]
    # Each of the four heads is judged by the same loss as the task.
    assert history["align_loss"][0] / 4 == pytest.approx(history["task_loss"][0], rel=0.5)


# Outputs at each position.

MAPS = {
    "teacher": RNG.normal(size=(4, 8, 8, 3)).astype("float32"),
    "student": RNG.normal(size=(4, 8, 8, 1)).astype("float32"),
}
PIXELS = RNG.integers(3, size=(4, 8, 8))


def unet(channels, width):
    inputs = keras.Input((8, 8, channels))
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", name="encoded")(inputs)
    x = keras.layers.Conv2DTranspose(width, 3, strides=2, padding="same")(x)
    return keras.Model(inputs, keras.layers.Conv2D(3, 1, name="pixels")(x))


def segmenter(**kwargs):
    return FrequencyDistiller(
        unet(3, 8),
        unet(1, 6),
        teacher_features="encoded",
        student_features="encoded",
        axis=(1, 2),
        **kwargs,
    )


# Keras counts in 64 bits, which JAX cuts to 32.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")
def test_segmentation():
    """Bands over space, KD, DKD and DIST a pixel, void pixels in no term, mean IoU in the logs."""
    distiller = segmenter(extra_losses=[KD(), DKD(), DIST()])
    assert not distiller.align_heads  # As in the paper.
    iou = keras.metrics.MeanIoU(3, ignore_class=255, sparse_y_pred=False, name="iou")
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy(ignore_class=255), metrics=[iou])
    y = PIXELS.copy()
    y[:, :3] = 255
    came = distiller.fit(MAPS, y, batch_size=4, verbose=0).history
    predicted = distiller.predict(MAPS["student"], verbose=0).argmax(-1)
    valid = y != 255
    scores = [
        (valid & (predicted == c) & (y == c)).sum()
        / max((valid & ((predicted == c) | (y == c))).sum(), 1)
        for c in range(3)
    ]
    assert came["iou"][0] == pytest.approx(np.mean(scores), rel=1e-5)
    teacher = distiller.predict_teacher(MAPS["teacher"])["predictions"]
    student = distiller.predict(MAPS["student"], verbose=0)
    p, q = softmax(teacher / 4.0), softmax(student / 4.0)
    kd = 16 * (p * (np.log(p) - np.log(q))).sum(-1)[valid].mean()
    assert came["kd_loss"][0] == pytest.approx(kd, rel=1e-4)


def test_classifiers_of_pixels():
    """One argument turns them on; they judge each pixel, void ones not."""
    distiller = segmenter(align_weight=0.3)
    assert distiller.align_heads["low"].compute_output_shape((4, 4, 4, 8)) == (4, 8, 8, 3)
    y = PIXELS.copy()
    y[:, :3] = 255
    came = logs(distiller, MAPS, y, cross_entropy(ignore_class=255), batch_size=4)
    teacher, student = distiller.predict_features(MAPS)
    seen, made = (distiller.frequency.split(side) for side in (teacher, student))
    expected = 0.0
    for band, head in distiller.align_heads.items():
        for side in (seen, made):
            logits = ops.convert_to_numpy(head(side[band]))
            chosen = np.take_along_axis(
                np.log(softmax(logits)), np.where(y == 255, 0, y)[..., None], -1
            )[..., 0]
            expected -= chosen[y != 255].mean()
    assert came["align_loss"] == pytest.approx(expected, rel=1e-4)


def test_weights_of_pixels_reach_the_classifiers():
    weights = np.zeros(PIXELS.shape, "float32")
    weights[:, :2] = 1
    distiller = segmenter(align_weight=0.3)
    first = logs(distiller, MAPS, PIXELS, sample_weight=weights, batch_size=4)
    other = PIXELS.copy()
    other[:, 2:] = (other[:, 2:] + 1) % 3  # where nothing counts
    second = logs(distiller, MAPS, other, sample_weight=weights, batch_size=4)
    assert first["align_loss"] == pytest.approx(second["align_loss"], rel=1e-6)


def test_values_are_judged_by_the_compiled_loss():
    """In regression the heads are regressors."""
    y = RNG.normal(size=(len(Y), 2)).astype("float32")
    distiller = FrequencyDistiller(classifier(6, classes=2), classifier(4, classes=2))
    came = logs(distiller, X, y, "mse")
    teacher, student = distiller.predict_features(X)
    seen, made = (distiller.frequency.split(side) for side in (teacher, student))
    expected = sum(
        np.mean((ops.convert_to_numpy(head(side[band])) - y) ** 2)
        for band, head in distiller.align_heads.items()
        for side in (seen, made)
    )
    assert came["align_loss"] == pytest.approx(expected, rel=1e-4)


def test_steps_are_resampled_as_documented():
    resampled = StepResampler(7)(XT, mask=np.arange(LONG) < LENGTHS_T[:, None])
    for row, (sequence, length) in enumerate(zip(XT, LENGTHS_T, strict=True)):
        np.testing.assert_allclose(
            ops.convert_to_numpy(resampled)[row], stretched(sequence[:length], 7), atol=1e-6
        )


def test_pkd_of_resampled_sequences():
    distiller = CrossModalDistiller(
        recurrent(3, LONG),
        recurrent(2, SHORT),
        losses=[PKD(teacher_layer_name="frames", student_layer_name="frames")],
        time_steps=4,
    )
    y = RNG.integers(3, size=(SAMPLES, SHORT))
    assert logs(distiller, SEQUENCES, y, batch_size=SAMPLES)["pkd_loss"] > 0
