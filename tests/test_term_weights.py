"""Numbers that change while training: every backend obeys, or the change is refused."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller, MutualDistiller
from keras_fdkd.callbacks import WeightSchedule
from keras_fdkd.losses import (
    AT,
    DIST,
    DKD,
    KD,
    RKD,
    BinaryKD,
    CrossModalLoss,
    FrequencyDistillation,
)

STILL = {"batch_size": 24, "shuffle": False, "verbose": 0}


class At(keras.callbacks.Callback):
    """Calls `change(model)` at the beginning of an epoch, or of its first batch."""

    def __init__(self, change, epoch=1, in_batch=False):
        super().__init__()
        self.change, self.epoch, self.in_batch, self.now = change, epoch, in_batch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch
        if epoch == self.epoch and not self.in_batch:
            self.change(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        if self.now == self.epoch and batch == 0 and self.in_batch:
            self.change(self.model)


def still(distiller, epochs=2, **kwargs):
    """Histories of epochs in which nothing but the numbers changes."""
    x, y = pairs()
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    return distiller.fit(x, y, epochs=epochs, **STILL, **kwargs).history


@pytest.mark.parametrize("in_batch", [False, True])
def test_weights_of_bands_and_heads(in_batch):
    def off(model):
        model.low_weight = model.high_weight = model.align_weight = 0.0

    distiller = FrequencyDistiller(classifier(6), classifier(4))
    history = still(distiller, callbacks=[At(off, in_batch=in_batch)])
    assert history["loss"][0] > history["task_loss"][0] + 0.1
    assert history["loss"][1] == pytest.approx(history["task_loss"][1], rel=1e-6)
    assert history["low_loss"][1] == pytest.approx(history["low_loss"][0], rel=1e-5)
    # Made with 0, the terms would not exist.
    config = distiller.get_config()
    assert [config[f"{name}_weight"] for name in ("low", "high", "align")] == [3.0, 1.0, 0.3]


def test_weights_of_losses():
    def change(model):
        model.term_weights["kd_loss"] = 0.3

    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    history = still(distiller, callbacks=[At(change)])
    for epoch, weight in enumerate([1.0, 0.3]):
        expected = history["task_loss"][epoch] + weight * history["kd_loss"][epoch]
        assert history["loss"][epoch] == pytest.approx(expected, rel=1e-5)
    assert distiller.get_config()["loss_weights"] == [0.3]


@pytest.mark.parametrize(
    ("loss", "name", "value", "classes"),
    [
        (KD(1.0), "temperature", 8.0, 3),
        (DKD(), "beta", 2.0, 3),
        (DKD(), "temperature", 1.0, 3),
        (DIST(), "intra_weight", 3.0, 3),
    ],
)
def test_numbers_of_losses(loss, name, value, classes):
    cls, config = type(loss), loss.get_config()
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[loss])
    history = still(distiller, callbacks=[At(lambda model: setattr(loss, name, value))])
    term = history[f"{loss.name}_loss"]
    assert loss.get_config()[name] == value
    # A distiller that was made with the new number sees the same.
    other = CrossModalDistiller(
        distiller.teacher, distiller.student, losses=[cls.from_config({**config, name: value})]
    )
    again = still(other)[f"{loss.name}_loss"]
    assert term[1] == pytest.approx(again[0], rel=1e-5)
    assert abs(term[1] - term[0]) > 1e-4


def test_a_variable_of_a_loss_of_ones_own(tmp_path):
    class Ramp(KD):
        def __init__(self):
            super().__init__()
            self.factor = keras.Variable(0.0, trainable=False)

        def call(self, teacher, student, y=None):
            return self.factor * super().call(teacher, student, y)

    ramp = Ramp()
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[ramp])
    history = still(distiller, callbacks=[At(lambda model: ramp.factor.assign(2.0))])
    assert history["kd_loss"][0] == 0
    assert history["kd_loss"][1] > 0
    distiller.save_weights(tmp_path / "a.weights.h5")
    ramp.factor.assign(7.0)
    distiller.load_weights(tmp_path / "a.weights.h5")
    assert float(keras.ops.convert_to_numpy(ramp.factor)) == 2.0


def test_weights_inside_a_mutual_distiller():
    x, y = pairs()
    inner = {
        "a": FrequencyDistiller(classifier(6), classifier(4)),
        "b": FrequencyDistiller(classifier(4), classifier(6)),
    }

    def off(model):
        side = model.distillers["a"]
        side.low_weight = side.high_weight = side.align_weight = 0.0

    distiller = MutualDistiller(inner)
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    data = {"a": x["student"], "b": x["teacher"]}
    for callback in (At(off), At(off, in_batch=True)):
        history = distiller.fit(data, y, epochs=2, callbacks=[callback], **STILL).history
        assert history["a_loss"][1] == pytest.approx(history["a_task_loss"][1], rel=1e-6)
        assert history["b_loss"][1] > history["b_task_loss"][1] + 0.1
        inner["a"].low_weight = 3.0


@pytest.mark.parametrize("loss", [RKD(), BinaryKD(), KD()])
def test_other_arguments_are_fixed_in_use(loss):
    outputs = {"classes": 3, "features": 16}
    CrossModalDistiller(classifier(6, **outputs), classifier(4, **outputs), losses=[loss])
    with pytest.raises(AttributeError, match="build a new loss and a new distiller"):
        loss.name = "other"
    if isinstance(loss, RKD):
        with pytest.raises(AttributeError, match="Received: angle_weight=1"):
            loss.angle_weight = 1.0


def test_arguments_of_a_loss_that_nobody_uses_may_change():
    loss = AT()
    loss.p = 4
    kd = KD()
    kd.temperature = 2.0
    assert (loss.p, kd.temperature, kd.get_config()["temperature"]) == (4, 2.0, 2.0)
    with pytest.raises(ValueError, match="must be a finite number > 0"):
        kd.temperature = 0.0


def test_what_cannot_be_set():
    distiller = FrequencyDistiller(classifier(6), classifier(4), align_weight=0)
    distiller.align_weight = 0.0
    with pytest.raises(ValueError, match="no term 'align_loss' to weigh"):
        distiller.align_weight = 0.5
    with pytest.raises(ValueError, match="no term 'kd_loss'"):
        distiller.term_weights["kd_loss"] = 1.0
    with pytest.raises(ValueError, match=">= 0"):
        distiller.low_weight = -1.0
    with pytest.raises(AttributeError):
        C2KDDistiller(classifier(6), classifier(4)).krc = 0.5


def test_weights_come_back_with_the_weights_and_the_file(tmp_path):
    distiller = FrequencyDistiller(classifier(6), classifier(4), extra_losses=[KD()])
    distiller.compile("adam", cross_entropy())
    distiller.low_weight = 0.7
    distiller.term_weights["kd_loss"] = 0.2
    distiller.save_weights(tmp_path / "a.weights.h5")
    distiller.save(tmp_path / "a.keras")
    distiller.low_weight = 5.0
    distiller.load_weights(tmp_path / "a.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    for one in (distiller, loaded):
        assert one.low_weight == 0.7
        assert dict(one.term_weights.items())["kd_loss"] == 0.2


def test_terms_that_faded_out_are_in_the_file(tmp_path):
    """A term of weight 0 would not be made: the loaded distiller has it, with its weight of 0."""
    x, y = pairs()
    for distiller, terms in (
        (CrossModalDistiller(classifier(6), classifier(4), losses=[KD()]), ["kd_loss"]),
        (FrequencyDistiller(classifier(6), classifier(4)), ["low_loss", "high_loss", "align_loss"]),
    ):
        distiller.compile("sgd", cross_entropy())
        for term in terms:
            distiller.term_weights[term] = 0.0
        distiller.save(tmp_path / "faded.keras")
        loaded = keras.saving.load_model(tmp_path / "faded.keras")
        assert [loaded.term_weights[term] for term in terms] == [0.0] * len(terms)
        for one in (distiller, loaded):
            for term in terms:
                one.term_weights[term] = 0.5
        found, expected = (
            one.evaluate(x, y, verbose=0, return_dict=True) for one in (loaded, distiller)
        )
        assert found == pytest.approx(expected, rel=1e-5)
        assert set(terms) <= set(found)
    loss = FrequencyDistillation()
    loss.low_weight = 0.0
    assert FrequencyDistillation.from_config(loss.get_config()).compared == ("low", "high")


def test_terms_of_ones_own_may_have_weights():
    class Own(CrossModalDistiller):
        def compare(self, teacher, student, training):
            return {"pair": (teacher["features"], student["features"])}

        def terms(self, compared, y, sample_weight):
            value = keras.losses.MeanSquaredError()(*compared["pair"], sample_weight)
            return {"own_loss": (self.term_weights.tensor("own_loss"), value)}, {}

    def change(model):
        model.term_weights["own_loss"] = 0.0

    distiller = Own(
        classifier(6), classifier(4), logs=("own_loss",), term_weights={"own_loss": 2.0}
    )
    history = still(distiller, callbacks=[At(change)])
    expected = history["task_loss"][0] + 2 * history["own_loss"][0]
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert history["loss"][1] == pytest.approx(history["task_loss"][1], rel=1e-6)


def test_one_object_serves_one_entry():
    loss = KD()
    with pytest.raises(ValueError, match="an object of its own"):
        CrossModalDistiller(classifier(6), classifier(4), losses=[loss, loss])


def test_subclasses_outside_a_distiller_keep_their_attributes():
    class Plain(CrossModalLoss):
        def __init__(self):
            super().__init__(name="plain")
            self.scale = 1.0

        def call(self, teacher, student, y=None):
            return self.scale * keras.ops.mean(keras.ops.square(student - teacher), axis=-1)

    loss = Plain()
    loss.scale = 3.0
    pair = np.ones((2, 3), "float32"), np.zeros((2, 3), "float32")
    assert float(loss.compute_loss(*pair)) == 3.0


def test_schedule_of_weights():
    """Each step computes with the weight of its number; another `fit` goes on."""
    came = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            came.append(self.model.term_weights["kd_loss"])

    x, y = pairs(24)
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    schedule = WeightSchedule({"kd_loss": lambda step: 0.25 * step})
    fit = {"batch_size": 8, "verbose": 0, "shuffle": False}
    history = distiller.fit(x, y, callbacks=[schedule, Seen()], **fit).history
    assert came == [0.0, 0.25, 0.5]
    # Batches are of one size, so the mean of the loss is that of its parts.
    alone = [
        distiller.evaluate(
            {name: values[rows] for name, values in x.items()}, y[rows], verbose=0, return_dict=True
        )["kd_loss"]
        for rows in (slice(0, 8), slice(8, 16), slice(16, 24))
    ]
    added = sum(weight * value for weight, value in zip(came, alone, strict=True)) / 3
    assert history["loss"][0] - history["task_loss"][0] == pytest.approx(added, rel=1e-4)
    distiller.fit(x, y, callbacks=[schedule, Seen()], **fit)
    assert came[3:] == [0.75, 1.0, 1.25]


def test_schedule_counts_batches():
    """With accumulated gradients the optimizer updates less often."""
    x, y = pairs(8)
    steps = []
    schedule = WeightSchedule({"kd_loss": lambda step: steps.append(step) or 1.0})
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    distiller.compile(optimizer, cross_entropy())
    for _ in range(2):
        distiller.fit(x, y, batch_size=2, verbose=0, callbacks=[schedule])
    assert steps == list(range(8))


def test_schedule_in_strides():
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    x, y = pairs(24)
    steps = []
    schedule = WeightSchedule({"kd_loss": lambda step: steps.append(step) or 1.0}, every=2)
    distiller.fit(x, y, batch_size=4, verbose=0, callbacks=[schedule])
    assert steps == [0, 2, 4]


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        (lambda: classifier(4), {"kd_loss": float}, "from names of terms"),
        (lambda: classifier(4), {"kd_loss": lambda step: 1.0}, "is for a distiller"),
        (
            lambda: CrossModalDistiller(classifier(6), classifier(4), losses=[KD()]),
            {"dkd_loss": lambda step: 1.0},
            "no term 'dkd_loss'",
        ),
    ],
)
def test_malformed_schedules(model, weights, message):
    model = model()
    model.compile("sgd", cross_entropy())
    x, y = pairs(8)
    x = x if hasattr(model, "student") else x["student"]
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0, callbacks=[WeightSchedule(weights)])
