"""Distillation leaves the teacher as the user made it: weights, flags, and states of its layers."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, MutualDistiller, fingerprint
from keras_fdkd.losses import KD


@keras.saving.register_keras_serializable("tests")
class Counter(keras.layers.Layer):
    """Counts its calls, in inference too."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.built = True

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """Draws at random, in inference too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seed_generator)


def with_state(layer):
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(16), layer, keras.layers.Dense(3)]
    )


@pytest.mark.parametrize("layer", [Counter, Noise])
def test_states_of_the_teacher_stay(layer):
    x, y = pairs()
    teacher = with_state(layer())
    distiller = FrequencyDistiller(teacher, classifier(4))
    distiller.compile("adam", cross_entropy())
    before = [ops.convert_to_numpy(v).copy() for v in teacher.variables]
    mark = fingerprint(teacher)
    distiller.fit(x, y, batch_size=8, verbose=0)
    distiller.evaluate(x, y, verbose=0)
    for old, variable in zip(before, teacher.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    assert fingerprint(teacher) == mark


@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 2}, {"loss_scale_factor": 8.0}]
)
def test_a_teacher_that_draws_draws_anew_in_each_step(options):
    x, y = pairs(samples=8)
    distiller = CrossModalDistiller(with_state(Noise()), classifier(4), losses=[KD()])
    distiller.compile(keras.optimizers.SGD(0.0, **options), cross_entropy())
    history = distiller.fit(x, y, epochs=3, verbose=0).history["kd_loss"]
    assert len(set(np.round(history, 6))) == 3
    evaluated = [distiller.evaluate(x, y, verbose=0, return_dict=True) for _ in range(2)]
    assert evaluated[0] == evaluated[1]  # Validation compares epochs.


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """And training goes on after a file in the middle of an accumulation."""
    x, y = pairs(samples=8)
    came = []
    for size, options in ((8, {}), (4, {"gradient_accumulation_steps": 2})):
        keras.utils.set_random_seed(0)
        distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
        distiller.compile(keras.optimizers.SGD(0.1, **options), cross_entropy())
        distiller.fit(x, y, batch_size=size, epochs=2, shuffle=False, verbose=0)
        came.append(distiller.student.get_weights())
    for one, other in zip(*came, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_teachers_of_both_directions_draw_anew_in_each_step():
    x, y = pairs(samples=8)
    inner = {
        "a": CrossModalDistiller(with_state(Noise()), classifier(4), losses=[KD()]),
        "b": CrossModalDistiller(classifier(4), classifier(6), losses=[KD()]),
    }
    distiller = MutualDistiller(inner)
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    data = {"a": x["student"], "b": x["teacher"]}
    history = distiller.fit(data, y, epochs=3, verbose=0).history
    assert len(set(np.round(history["a_kd_loss"], 6))) == 3
    assert np.ptp(history["b_kd_loss"]) < 1e-6


def test_flags_stay_and_the_teacher_trains_again():
    x, y = pairs()
    teacher = classifier(6)
    teacher.get_layer("feature").trainable = False  # By the user.
    flags = [v.trainable for v in teacher.variables]
    distiller = FrequencyDistiller(teacher, classifier(4))
    distiller.trainable = True
    distiller.compile("adam", cross_entropy())
    distiller.fit(x, y, verbose=0)
    assert [v.trainable for v in teacher.variables] == flags
    before = [np.array(w) for w in teacher.get_weights()]
    teacher.compile(keras.optimizers.SGD(0.1), cross_entropy())
    teacher.fit(x["teacher"], y, verbose=0)
    moved = [(a != b).any() for a, b in zip(before, teacher.get_weights(), strict=True)]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize("arguments", [{"cutoff": 0.01}, {"projector": None}])
def test_a_refused_distiller_changes_nothing(arguments):
    teacher = classifier(6, features=20)
    with pytest.raises(ValueError, match="Received"):
        FrequencyDistiller(teacher, classifier(4), **arguments)
    assert teacher.trainable
    assert len(teacher.trainable_variables) == 4


def test_trainable_off_and_on_reaches_the_student_alone():
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    count = len(distiller.trainable_variables)
    distiller.trainable = False
    assert not distiller.trainable_variables
    assert not distiller.student.trainable_variables
    assert len(distiller.teacher.trainable_variables) == 4
    distiller.trainable = True
    assert len(distiller.trainable_variables) == count


def test_every_variable_is_in_one_list():
    distiller = FrequencyDistiller(classifier(6, batch_norm=True), classifier(4, batch_norm=True))
    lists = distiller.trainable_variables, distiller.non_trainable_variables
    ids = [id(v) for found in lists for v in found]
    assert sorted(ids) == sorted(id(v) for v in distiller.variables)


def test_regularizers_of_the_teacher_do_not_count():
    def regularized(size):
        dense = keras.layers.Dense(16, kernel_regularizer=keras.regularizers.L2(100.0))
        return keras.Sequential([keras.Input((size,)), dense, keras.layers.Dense(3)])

    x, y = pairs()
    distiller = CrossModalDistiller(regularized(6), classifier(4), losses=[KD()])
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    task = distiller.fit(x, y, batch_size=24, verbose=0).history["task_loss"][0]
    logits = distiller.student.predict(x["student"], verbose=0)
    plain = float(cross_entropy()(y, logits))
    assert task == pytest.approx(plain, rel=1e-4)


def test_the_fingerprint_is_computed_once_a_fit(monkeypatch):
    from keras_fdkd.distillers import teachers

    calls = []
    monkeypatch.setattr(teachers, "fingerprint", lambda model: calls.append(1) or "0" * 16)
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save_weights(path)

    import tempfile

    path = f"{tempfile.mkdtemp()}/a.weights.h5"
    distiller.fit(x, y, epochs=3, callbacks=[Save()], verbose=0)
    assert len(calls) == 1
    distiller.save_weights(path)  # Outside `fit` the teacher may have changed.
    assert len(calls) == 2
