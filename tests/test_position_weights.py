"""`"teacher_weight"` of positions: where there is no teacher, nothing is compared."""

import keras
import numpy as np
import pytest
from conftest import cross_entropy
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.layers import StepResampler
from keras_fdkd.losses import (
    AFD,
    AT,
    CRD,
    DIST,
    KD,
    PKD,
    RKD,
    CrossModalLoss,
    FrequencyDistillation,
)

SAMPLES, STEPS = 8, 8
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, SAMPLES).astype("int32")
MAPS = {"teacher_layer_name": "map", "student_layer_name": "map"}


def sequences(size, steps=STEPS):
    """A model whose feature has steps, and whose logits have none."""
    inputs = keras.Input((steps, size))
    x = keras.layers.Dense(6, name="steps")(inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(pooled))


def of_maps(channels=2, stride=1):
    inputs = keras.Input((8, 8, channels))
    x = keras.layers.Conv2D(6, 3, stride, "same", name="map")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(pooled))


def twins():
    """Two equal models: whatever of their features is compared, nothing differs."""
    teacher, student = of_maps(), of_maps()
    student.set_weights(teacher.get_weights())
    return teacher, student


def pair_of_sequences(steps=STEPS):
    return {
        "teacher": RNG.normal(size=(SAMPLES, STEPS, 6)).astype("float32"),
        "student": RNG.normal(size=(SAMPLES, steps, 4)).astype("float32"),
    }


def pair_of_maps():
    inputs = RNG.normal(size=(SAMPLES, 8, 8, 2)).astype("float32")
    return {"teacher": inputs, "student": inputs}


def logs(distiller, x, weight=None):
    distiller.compile("sgd", cross_entropy())
    if weight is not None:
        x = {**x, "teacher_weight": weight}
    return distiller.evaluate(x, LABELS, verbose=0, return_dict=True)


@pytest.fixture
def late():
    """The teacher is missing in the first two steps of every sample."""
    weight = np.ones((SAMPLES, STEPS), "float32")
    weight[:, :2] = 0
    return weight


@pytest.mark.parametrize("loss", [KD(), RKD(), DIST()], ids=lambda loss: loss.name)
def test_values_of_whole_samples_count_whole(loss, late):
    """Each sample has a teacher at some positions, so its value counts like any other."""
    distiller = CrossModalDistiller(sequences(6), sequences(4), losses=[loss])
    x, name = pair_of_sequences(), f"{loss.name}_loss"
    assert logs(distiller, x, late)[name] == pytest.approx(logs(distiller, x)[name], rel=1e-5)
    # What remains is trust: it weighs, as a mean over the positions that are there.
    half = logs(distiller, x, 0.5 * late)[name]
    assert half == pytest.approx(0.5 * logs(distiller, x)[name], rel=1e-5)


def test_bands_of_vectors_count_whole(late):
    distiller, x = FrequencyDistiller(sequences(6), sequences(4)), pair_of_sequences()
    found, whole = logs(distiller, x, late), logs(distiller, x)
    for name in ("low_loss", "high_loss", "align_loss"):
        assert found[name] == pytest.approx(whole[name], rel=1e-5)


@pytest.mark.parametrize(("axis", "time_steps"), [(1, None), (-1, None), (1, 6)])
def test_bands_of_sequences_are_those_of_the_steps_with_a_teacher(axis, time_steps, late):
    layer = {"teacher_features": "steps", "student_features": "steps", "align_weight": 0}
    models = sequences(6), sequences(4)
    distiller = FrequencyDistiller(*models, axis=axis, time_steps=time_steps, **layer)
    x = pair_of_sequences()
    # Outputs as they are compared, before they are resampled.
    teacher, student = FrequencyDistiller(*models, **layer).predict_features(x)
    band = FrequencyDistillation(axis=axis, low_weight=1.0, high_weight=0.0)
    mask = late > 0
    if time_steps:
        # Both sides whole, so that they stay in step; the second of six is made of step 1 too.
        teacher, student = (StepResampler(6)(side) for side in (teacher, student))
        mask = np.tile(np.arange(6) > 1, (SAMPLES, 1))
    expected = float(band.compute_loss(teacher, student, mask=mask))
    assert logs(distiller, x, late)["low_loss"] == pytest.approx(expected, rel=1e-4)


def test_bands_of_sequences_of_another_length(late):
    """The student is brought to the teacher's steps, which the weights are about."""
    layer = {"teacher_features": "steps", "student_features": "steps", "align_weight": 0}
    distiller = FrequencyDistiller(sequences(6), sequences(4, steps=12), **layer)
    x = pair_of_sequences(12)
    teacher, student = distiller.predict_features(x)
    band = FrequencyDistillation(low_weight=1.0, high_weight=0.0)
    expected = float(band.compute_loss(teacher[:, 2:], student[:, 2:]))
    assert logs(distiller, x, late)["low_loss"] == pytest.approx(expected, rel=1e-5)


def test_bands_of_maps_of_another_size():
    layer = {"teacher_features": "map", "student_features": "map", "align_weight": 0}
    distiller = FrequencyDistiller(of_maps(), of_maps(stride=2), **layer)
    x, weight = pair_of_maps(), np.ones((SAMPLES, 8, 8), "float32")
    weight[:, :, 4:] = 0
    teacher, student = distiller.predict_features(x)
    band = FrequencyDistillation(low_weight=1.0, high_weight=0.0)
    expected = float(band.compute_loss(teacher[:, :, :4], student[:, :, :4]))
    assert logs(distiller, x, weight)["low_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("axis", [1, 2, (1, 2)])
def test_holes_in_maps_are_no_part_of_a_spectrum(axis):
    layer = {"teacher_features": "map", "student_features": "map", "align_weight": 0}
    distiller = FrequencyDistiller(*twins(), axis=axis, **layer)
    x, weight = pair_of_maps(), np.ones((SAMPLES, 8, 8), "float32")
    weight[:, :, 4:] = 0
    assert logs(distiller, x)["low_loss"] == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="take the holes for part of the spectrum"):
        logs(distiller, x, weight)
    # Weights of samples fit, and so does a split of the channels.
    assert logs(distiller, x, weight[:, 0, 0])["low_loss"] == pytest.approx(0, abs=1e-5)
    channels = FrequencyDistiller(*twins(), **layer)
    assert logs(channels, x, weight)["low_loss"] == pytest.approx(0, abs=1e-5)


class Whole(CrossModalLoss):
    """Does not say what it does with positions."""

    def __init__(self, paths):
        super().__init__(**paths, name="whole")

    def call(self, teacher, student, y=None):
        return ops.mean(ops.square(teacher - student), axis=(1, 2, 3))


def test_losses_that_cannot_leave_positions_out_refuse_weights_of_them():
    x, weight = pair_of_maps(), np.ones((SAMPLES, 8, 8), "float32")
    weight[:, :, 4:] = 0
    paths = ["map"]
    for loss in (AFD(teacher_layer_name=paths, student_layer_name=paths), CRD(SAMPLES, **MAPS)):
        distiller = CrossModalDistiller(*twins(), losses=[loss])
        given = {**x, "index": np.arange(SAMPLES)}
        with pytest.raises(ValueError, match='have `"teacher_weight"` of positions'):
            logs(distiller, given, weight)
    with pytest.warns(UserWarning, match='have `"teacher_weight"` of positions'):
        logs(CrossModalDistiller(*twins(), losses=[Whole(MAPS)]), x, weight)
    smaller = CrossModalDistiller(of_maps(), of_maps(stride=2), losses=[AT(**MAPS)])
    with pytest.raises(ValueError, match="out of maps of one size only"):
        logs(smaller, x, weight)
    for loss in (AT(**MAPS), PKD(**MAPS)):
        found = logs(CrossModalDistiller(*twins(), losses=[loss]), x, weight)
        assert found[f"{loss.name}_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [PKD(**MAPS), KD()], ids=lambda loss: loss.name)
def test_weights_of_samples_need_no_positions(loss):
    x, weight = pair_of_maps(), (np.arange(SAMPLES) % 2).astype("float32")
    distiller = CrossModalDistiller(of_maps(), of_maps(), losses=[loss])
    name = f"{loss.name}_loss"
    there = {side: values[1::2] for side, values in x.items()}
    distiller.compile("sgd", cross_entropy())
    wanted = distiller.evaluate(there, LABELS[1::2], verbose=0, return_dict=True)[name]
    assert logs(distiller, x, weight)[name] == pytest.approx(wanted, rel=1e-4)
