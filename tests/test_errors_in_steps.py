"""Whatever raises while a distiller trains leaves both models as they were, and trainable."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, MutualDistiller
from keras_fdkd.losses import CRD, KD, CrossModalLoss


class Batches(keras.utils.PyDataset):
    """Batches of eight, one of which is changed."""

    def __init__(self, change=lambda x, y: (x, y), broken=0):
        super().__init__()
        self.x, self.y = pairs()
        self.change, self.broken = change, broken

    def __len__(self):
        return 3

    def __getitem__(self, step):
        rows = slice(8 * step, 8 * step + 8)
        batch = {side: values[rows] for side, values in self.x.items()}, self.y[rows]
        return self.change(*batch) if step == self.broken else batch


class Broken(CrossModalLoss):
    """Raises inside the step, as no check before it could."""

    def call(self, teacher, student, y=None):
        raise ValueError("broken inside the step")


class Silent(CrossModalDistiller):
    def terms(self, compared, y, sample_weight):
        return {}, {}


class Undeclared(CrossModalDistiller):
    def terms(self, compared, y, sample_weight):
        return {"surprise_loss": (1.0, ops.zeros(()))}, {}


KERAS_KD = keras.distillation.LogitsDistillation(4.0, loss=keras.losses.KLDivergence())
CHANGES = {
    "ragged sides": lambda x, y: ({**x, "teacher": x["teacher"][:3]}, y),
    "no teacher": lambda x, y: (x["student"], y),
    "one key more": lambda x, y: ({**x, "id": np.arange(8)}, y),
    "a tuple": lambda x, y: ((x["teacher"], x["student"]), y),
    "other width": lambda x, y: ({**x, "teacher": x["teacher"][:, :5]}, y),
    "labels of rank 3": lambda x, y: (x, np.zeros((8, 3, 3), "int32")),
    "weights beside Keras's loss": lambda x, y: (x, y, np.ones(8, "float32")),
}


def losses(name):
    return {
        "broken": [Broken(name="broken")],
        "CRD without index": [CRD(24, negatives=4)],
        "weights beside Keras's loss": [KERAS_KD],
    }.get(name, [KD()])


def states(*models):
    return [[np.array(w) for w in model.get_weights()] for model in models]


def assert_same(before, after):
    for old, new in zip(before, after, strict=True):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_trains(model, x, y):
    before = states(model)
    model.compile(keras.optimizers.SGD(0.1), cross_entropy())
    model.fit(x, y, verbose=0)
    assert any((a != b).any() for a, b in zip(before[0], states(model)[0], strict=True))


@pytest.mark.parametrize("name", [*CHANGES, "broken", "CRD without index"])
def test_an_error_in_the_first_step(name):
    teacher, student = classifier(6), classifier(4)
    distiller = CrossModalDistiller(teacher, student, losses=losses(name))
    distiller.compile("adam", cross_entropy())
    before = states(teacher, student)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each backend has its own for some
        distiller.fit(Batches(CHANGES.get(name, lambda x, y: (x, y))), verbose=0, shuffle=False)
    assert_same(before, states(teacher, student))
    if name == "ragged sides":  # Compiling takes time, and the values are the same in all.
        x, y = pairs()
        assert_trains(student, x["student"], y)
        assert_trains(teacher, x["teacher"], y)


@pytest.mark.parametrize("name", ["ragged sides", "no teacher"])
def test_an_error_in_a_later_step(name):
    """The steps before it count; both models are whole."""
    teacher, student = classifier(6), classifier(4)
    distiller = CrossModalDistiller(teacher, student, losses=[KD()])
    distiller.compile("adam", cross_entropy())
    before = states(teacher, student)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each backend has its own for some
        distiller.fit(Batches(CHANGES[name], broken=2), verbose=0, shuffle=False)
    after = states(teacher, student)
    assert_same(before[:1], after[:1])
    assert all(np.isfinite(w).all() for w in after[1])
    distiller.fit(Batches(), verbose=0)


def test_compiled_again_after_an_error():
    """Compiling makes new metrics, which Keras builds by a pass that reads those of the terms."""
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=losses("broken"))
    distiller.compile("sgd", cross_entropy())
    x, y = pairs()
    with pytest.raises(ValueError, match="broken inside the step"):
        distiller.evaluate(x, y, verbose=0)
    distiller.compile("sgd", cross_entropy())
    logs = distiller.evaluate(x["student"], y, verbose=0, return_dict=True)
    assert np.isfinite(logs["loss"])


@pytest.mark.parametrize(
    ("cls", "logs", "message"),
    [(Silent, ("cosine_loss",), "cosine_loss"), (Undeclared, (), "surprise_loss")],
)
def test_terms_that_do_not_fit_their_declaration(cls, logs, message):
    x, y = pairs()
    distiller = cls(classifier(6), classifier(4), losses=[KD()], logs=logs)
    distiller.compile("adam", cross_entropy())
    before = states(distiller.teacher, distiller.student)
    with pytest.raises(ValueError, match=message):
        distiller.fit(x, y, verbose=0)
    assert_same(before, states(distiller.teacher, distiller.student))


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_errors_outside_fit(method):
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())
    distiller.fit(x, y, verbose=0)
    before = states(distiller.teacher, distiller.student)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each backend has its own for some
        getattr(distiller, method)(np.zeros((8, 3), "float32"), verbose=0)
    assert_same(before, states(distiller.teacher, distiller.student))
    distiller.fit(x, y, verbose=0)


def test_evaluation_without_what_the_losses_read():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())
    data = {"teacher_outputs": {"other": x["teacher"]}, "student": x["student"]}
    with pytest.raises(ValueError, match=r"must be a dict with \['features'\]"):
        distiller.evaluate(data, y, verbose=0)


def test_a_callback_that_stops_the_training():
    """Not only errors of steps: an interrupt of the user, too."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", cross_entropy())
    before = states(distiller.teacher, distiller.student)
    with pytest.raises(KeyboardInterrupt):
        distiller.fit(Batches(), verbose=0, callbacks=[Stop()])
    after = states(distiller.teacher, distiller.student)
    assert_same(before[:1], after[:1])
    assert any((a != b).any() for a, b in zip(before[1], after[1], strict=True))


def test_both_directions_outlive_an_error():
    x, y = pairs()
    data = {"a": x["student"], "b": x["teacher"]}

    def student(size):
        regularizer = keras.regularizers.L2(100.0)
        layers = [keras.layers.Dense(16, activity_regularizer=regularizer), keras.layers.Dense(3)]
        return keras.Sequential([keras.Input((size,)), *layers])

    inner = {
        "a": FrequencyDistiller(classifier(6), student(4)),
        "b": FrequencyDistiller(classifier(4), student(6)),
    }
    distiller = MutualDistiller(inner)
    distiller.compile("adam", cross_entropy())
    everything = [model for side in inner.values() for model in (side.teacher, side.student)]
    before = states(*everything)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each backend has its own for some
        distiller.fit(data, np.zeros((24, 3, 3), "int32"), verbose=0)
    assert_same(before, states(*everything))
    # Nothing of the failed step is left in a side that trains alone.
    one = inner["a"]
    one.compile(keras.optimizers.SGD(0.0), cross_entropy())
    zeros = {"teacher": x["teacher"], "student": 0 * x["student"]}
    with_trace = one.fit(zeros, y, batch_size=24, verbose=0).history["task_loss"][0]
    assert with_trace == pytest.approx(np.log(3), rel=1e-5)  # The logits are all 0.
