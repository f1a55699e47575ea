"""Data that is broken or lean: it trains to finite numbers, or an error or the loss says so."""

import functools

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops
from test_data_sources import Pairs

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller, MutualDistiller
from keras_fdkd.data import checked
from keras_fdkd.losses import AFD, AT, CRD, DIST, DKD, KD, PKD, RKD, FitNet, FrequencyDistillation

SIZE, SAMPLES = 16, 20
SIDES = ("teacher", "student")


def transparent():
    """A model whose feature is its input, as long as it has not learned."""
    inputs = keras.Input((SIZE,))
    feature = keras.layers.Dense(SIZE, kernel_initializer="identity", name="feature")(inputs)
    x = keras.layers.Reshape((4, 4), name="map")(feature)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def with_all_losses():
    maps = {f"{side}_layer_name": "map" for side in SIDES}
    several = {name: [path] for name, path in maps.items()}
    extra = [KD(), DKD(), DIST(), PKD(), RKD(), FitNet(), FrequencyDistillation(), AT(**maps)]
    extra += [AFD(dim=4, **several), CRD(SAMPLES, dim=4, negatives=5)]
    return FrequencyDistiller(
        transparent(), transparent(), band_task_weight=1.0, extra_losses=extra
    )


def both_ways():
    ways = [FrequencyDistiller(transparent(), transparent()) for _ in range(2)]
    return MutualDistiller(dict(zip(SIDES, ways, strict=True)))


MAKERS = {
    "all losses": with_all_losses,
    "C2KD": lambda: C2KDDistiller(transparent(), transparent()),
    "both ways": both_ways,
}


@functools.cache
def compiled(name):
    """A distiller for several tests, which spares compiling, and its weights before training."""
    distiller = MAKERS[name]()
    distiller.compile(keras.optimizers.SGD(1e-3), loss=cross_entropy())
    return distiller, distiller.get_weights()


def data(samples=8, seed=0):
    x, y = pairs(samples, SIZE, SIZE, seed=seed)
    return x, y


def numbered(name, x):
    """With the numbers of the samples, for the loss that asks for them."""
    if name != "all losses":
        return x
    return {**x, "index": np.arange(len(x["student"]), dtype="int32")}


def assert_trains(name, x, y):
    distiller, weights = compiled(name)
    distiller.set_weights(weights)
    logs = distiller.fit(numbered(name, x), y, batch_size=8, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values()), logs
    assert all(np.isfinite(weight).all() for weight in distiller.get_weights())
    moved = zip(weights, distiller.get_weights(), strict=True)
    assert any((old != new).any() for old, new in moved)


def rows_without_direction(x):
    for side in x.values():
        side[0], side[1], side[2], side[3] = 0, 5, 1e-20, 1e4


def only_zeros(x):
    for side in x.values():
        side[:] = 0


def one_sample_repeated(x):
    for side in x.values():
        side[:] = side[:1]


def dead_teacher(x):
    x["teacher"][:] = 0


def dead_student(x):
    x["student"][:] = 3


CHANGES = [rows_without_direction, only_zeros, one_sample_repeated, dead_teacher, dead_student]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("change", CHANGES)
def test_features_without_direction(name, change):
    x, y = data()
    change(x)
    assert_trains(name, x, y)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("classes", [[0, 2], [1]])
def test_missing_classes(name, classes):
    x, y = data()
    assert_trains(name, x, np.resize(classes, len(y)).astype("int32"))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("samples", [1, 9])
def test_a_batch_of_one_sample(name, samples):
    """Alone, and as the rest of the data after a whole batch."""
    x, y = data(samples)
    assert_trains(name, x, y)


def test_a_partial_batch_counts_by_its_samples():
    """The logged losses are means over the samples, not over the batches."""
    x, y = pairs(20)
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    whole = distiller.evaluate(x, y, batch_size=20, verbose=0, return_dict=True)
    parts = distiller.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    for key, value in whole.items():
        assert parts[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integer_and_boolean_inputs(dtype):
    """They train as the same numbers in float32."""
    x, y = pairs(8)
    x = {side: (3 * np.abs(values)).astype(dtype) for side, values in x.items()}
    found = []
    for given in (x, {side: values.astype("float32") for side, values in x.items()}):
        keras.utils.set_random_seed(0)
        distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD(), PKD()])
        distiller.compile("adam", loss=cross_entropy())
        found.append(distiller.fit(given, y, batch_size=8, epochs=2, verbose=0).history)
    assert found[0] == found[1]
    assert np.isfinite(found[0]["loss"]).all()


# Not a number


def linear(size):
    """Without an activation that would make something finite of what is not."""
    layers = [keras.layers.Dense(16, name="pool"), keras.layers.Dense(3, name="logits")]
    return keras.Sequential([keras.Input((size,)), *layers])


BROKEN = {
    "bands": lambda: FrequencyDistiller(linear(6), linear(4)),
    "heads alone": lambda: FrequencyDistiller(
        linear(6), linear(4), low_weight=0, high_weight=0, band_task_weight=1
    ),
    "DIST": lambda: CrossModalDistiller(linear(6), linear(4), losses=[DIST()]),
    "FitNet": lambda: CrossModalDistiller(linear(6), linear(4), losses=[FitNet()]),
    "C2KD": lambda: C2KDDistiller(linear(6), linear(4)),
    "both ways": lambda: MutualDistiller(
        {
            "student": FrequencyDistiller(linear(6), linear(4)),
            "teacher": FrequencyDistiller(linear(4), linear(6)),
        }
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_training_stops_at_a_value_that_is_not_finite(name):
    """Of either side, after the batches that `fit` looks at: the loss says so, and
    `TerminateOnNaN` ends the training.
    """
    distiller = BROKEN[name]()
    distiller.compile("sgd", loss=cross_entropy())
    weights = distiller.get_weights()
    for side in SIDES:
        for bad in (np.nan, np.inf):
            distiller.set_weights(weights)
            x, y = pairs(samples=88)
            x[side][84, 1] = bad
            batches = []
            count = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs, seen=batches: seen.append(logs["loss"])
            )
            callbacks = [count, keras.callbacks.TerminateOnNaN()]
            options = {"epochs": 2, "shuffle": False, "verbose": 0}
            distiller.fit(Pairs(x, y, 8), callbacks=callbacks, **options)
            assert np.isfinite(batches[:10]).all(), (side, bad)
            assert not np.isfinite(batches[10]), (side, bad)
            assert len(batches) == 11, (side, bad)


class Compare(keras.layers.Layer):
    def __init__(self, losses):
        super().__init__()
        self.distillation = losses

    def call(self, teacher, student):
        vectors, maps = (teacher, student), [ops.reshape(x, (-1, 2, 3)) for x in (teacher, student)]
        values = [
            loss.compute_loss(*(maps if isinstance(loss, AT) else vectors))
            for loss in self.distillation
        ]
        return [ops.reshape(value, (1,)) for value in values]

    def compute_output_spec(self, teacher, student):
        return [keras.KerasTensor((1,)) for _ in self.distillation]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_loss_swallows_what_is_not_finite(value):
    """One value of one sample, in a compiled function."""
    losses = [KD(), DKD(), DIST(), DIST(1, 0), DIST(0, 1), PKD(), AT(), AT(1), RKD(), RKD(1, 0)]
    losses += [RKD(0, 1), FrequencyDistillation(0.5), FrequencyDistillation(0.5, low_weight=0)]
    losses += [
        FrequencyDistillation(None, high_weight=0, standardize=how, low_loss=loss)
        for how in (None, "norm", "variance")
        for loss in ("mse", "log_mse")
    ]
    inputs = [keras.Input((6,)), keras.Input((6,))]
    model = keras.Model(inputs, Compare(losses)(*inputs))
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(2, 4, 6)).astype("float32")
    assert np.isfinite(model.predict(list(clean), verbose=0)).all()
    for side in (0, 1):
        x = clean.copy()
        x[side, 2, 1] = value
        found = model.predict(list(x), verbose=0)
        finite = [loss.name for loss, v in zip(losses, found, strict=True) if np.isfinite(v).any()]
        assert not finite, (SIDES[side], finite)


# Ragged pairs


def ragged(x):
    return {**x, "teacher": x["teacher"][:17]}


@pytest.mark.parametrize("name", ["bands", "C2KD", "both ways"])
def test_ragged_pairs(name):
    distiller = BROKEN[name]()
    distiller.compile("adam", loss=cross_entropy())
    x, y = pairs()
    with pytest.raises(ValueError, match="same samples.*Received: teacher 17, student 24"):
        distiller.fit(ragged(x), y, verbose=0)
    with pytest.raises(ValueError, match="same samples.*Received: teacher 17, student 24"):
        distiller.evaluate(ragged(x), y, verbose=0)
    if not isinstance(distiller, C2KDDistiller):
        logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
        assert np.isfinite(logs["loss"])


def test_ragged_inside_a_side():
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy())
    nested = {**x, "teacher": {"a": x["teacher"], "b": x["teacher"][:20]}}
    with pytest.raises(ValueError, match=r"Received: teacher 20 and 24, student 24 samples"):
        distiller.fit(nested, y, verbose=0)
    outputs = distiller.predict_teacher(x["teacher"][:23])
    with pytest.raises(ValueError, match=r"Received: student 24, teacher_outputs 23 samples"):
        distiller.fit({"student": x["student"], "teacher_outputs": outputs}, y, verbose=0)
    with pytest.raises(ValueError, match=r"student 24, index 3 samples"):
        distiller.fit({**x, "index": np.arange(3)}, y, verbose=0)


class Ragged(Pairs):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return {**x, "teacher": x["teacher"][:1]}, y


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("make", "options"),
    [(FrequencyDistiller, {"align_weight": 0}), (FrequencyDistiller, {}), (C2KDDistiller, {})],
)
def test_ragged_batches_of_a_dataset(method, make, options):
    """One teacher row would be compared with every student row."""
    distiller = make(classifier(6), classifier(4), **options)
    distiller.compile("adam", loss=cross_entropy())
    run = getattr(distiller, method)
    expected = r"(teacher|teacher_outputs) 1.*student 8|student 8.*1"
    if keras.config.backend() == "tensorflow" and method == "evaluate":
        # Its generators tell no batch sizes: what judges labels fails, the rest is NaN. `fit` looks
        # at the first batches itself.
        expected = "Shapes of all inputs must match|SparseSoftmaxCrossEntropy"
        if options:
            logs = run(Ragged(*pairs(16), 8), verbose=0)
            assert np.isnan(logs[0])
            return
    with pytest.raises(Exception, match=expected):
        run(Ragged(*pairs(16), 8), verbose=0)


# NaN and infinity, by name


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_arrays_must_be_finite(side, bad):
    x, y = pairs()
    x[side][[3, 7], 1] = bad
    message = f"in 2 of 24 samples of {side}, the first: \\[3, 7\\]"
    for name in ("bands", "both ways"):
        distiller = BROKEN[name]()
        distiller.compile("sgd", loss=cross_entropy())
        before = distiller.get_weights()
        with pytest.raises(ValueError, match=message):
            distiller.fit(x, y, verbose=0)
        for old, new in zip(before, distiller.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def as_tf_data(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def as_loader(x, y):
    torch = pytest.importorskip("torch")
    samples = [({side: x[side][i] for side in x}, y[i]) for i in range(len(y))]
    return torch.utils.data.DataLoader(samples, 8)


@pytest.mark.parametrize("kind", [lambda x, y: Pairs(x, y, 8), as_tf_data, as_loader])
def test_batches_must_be_finite(kind):
    x, y = pairs()
    distiller = BROKEN["bands"]()
    distiller.compile("sgd", loss=cross_entropy())
    whole = [distiller.evaluate(data, verbose=0) for data in (kind(x, y), checked(kind(x, y)))]
    assert whole[0] == whole[1]
    x["student"][20, 2] = np.nan
    message = r"in 1 of 8 samples of student in batch 2, the first: \[4\]"
    with pytest.raises(Exception, match=message):
        distiller.fit(checked(kind(x, y)), shuffle=False, verbose=0)


def test_checked_batches_are_not_ragged():
    with pytest.raises(ValueError, match="In batch 1: .*teacher 1, student 8 samples"):
        checked(Ragged(*pairs(16), 8))[1]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("inputs", [None, "clip.mp4", [], {"audio": None}])
def test_inputs_that_are_no_arrays(side, inputs):
    x, y = pairs()
    distiller = FrequencyDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy())
    with pytest.raises(ValueError, match=f"'{side}' must be arrays"):
        distiller.fit({**x, side: inputs}, y, verbose=0)
