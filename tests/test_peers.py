"""What `keras.distillation.Distiller` of Keras 3.15 gets wrong and this package must not.

The same models and inputs for both. A test of the peer that fails says that Keras has fixed it:
then take the peer's side out.
"""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops
from keras.distillation import Distiller, FeatureDistillation

from keras_fdkd import PUBLISHED, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss

SAMPLES = 20


class Nothing(CrossModalLoss):
    """A loss of zero, so that the task alone trains the student."""

    def __init__(self):
        super().__init__(name="nothing")

    def call(self, teacher, student, y=None):
        return ops.zeros_like(student[..., 0])


def peer(teacher, student, task=0.5):
    """Keras's own, on the layer `pool`; `task=1.0` leaves the task alone."""
    return Distiller(
        teacher, student, [FeatureDistillation("mse", "pool", "pool")], student_loss_weight=task
    )


def ours(teacher, student):
    """The same comparison here."""
    return CrossModalDistiller(
        teacher, student, losses=[FeatureDistillation("mse", "pool", "pool")]
    )


def same_inputs():
    """Inputs that both take, and labels."""
    x, y = pairs(samples=SAMPLES)
    return x["student"], {"teacher": x["student"], "student": x["student"]}, y


def copies(weights):
    return [np.array(weight) for weight in weights]


def twins(make):
    """A function of any number of models with the same weights."""
    start = make().get_weights()

    def twin():
        model = make()
        model.set_weights(start)
        return model

    return twin


def trained(model, student, x, y, **kwargs):
    """Train with Adam and return the student's weights."""
    model.compile(keras.optimizers.Adam(0.01), loss=cross_entropy())
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, **kwargs)
    return copies(student.get_weights())


def assert_same(weights, expected):
    for value, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


def differ(weights, expected):
    return max(np.abs(a - b).max() for a, b in zip(weights, expected, strict=True)) > 1e-4


@pytest.mark.parametrize("make", [ours, peer])
def test_evaluate_leaves_batch_norm_alone(make):
    x, pair, y = same_inputs()

    def student():
        """Batch norm before the compared layer: `classifier` has it behind."""
        inputs = keras.Input((4,))
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(16)(inputs))
        hidden = keras.layers.ReLU(name="pool")(hidden)
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    trains = student()
    distiller = make(classifier(4), trains)
    distiller.compile("sgd", loss=cross_entropy())
    before = copies(trains.get_weights())
    distiller.evaluate(pair if make is ours else x, y, verbose=0)
    changed = [
        bool((old != new).any()) for old, new in zip(before, trains.get_weights(), strict=True)
    ]
    assert any(changed) == (make is peer)


WEIGHTINGS = {
    "sample_weight": np.linspace(0, 2, SAMPLES).astype("float32"),
    "class_weight": {0: 0.1, 1: 1.0, 2: 3.0},
}


@pytest.mark.parametrize("how", WEIGHTINGS)
def test_weights_count_as_in_plain_training(how):
    x, pair, y = same_inputs()
    twin = twins(lambda: classifier(4, batch_norm=True))
    weighting = {how: WEIGHTINGS[how]}

    plain, student = twin(), twin()
    expected = trained(plain, plain, x, y, **weighting)
    distiller = CrossModalDistiller(classifier(4), student, losses=[Nothing()])
    assert_same(trained(distiller, student, pair, y, **weighting), expected)
    logs = [
        model.evaluate(inputs, y, sample_weight=WEIGHTINGS["sample_weight"], verbose=0,
                       return_dict=True)
        for model, inputs in ((plain, x), (distiller, pair))
    ]  # fmt: skip
    assert logs[1]["task_loss"] == pytest.approx(logs[0]["loss"], rel=1e-5)

    weighted, unweighted = twin(), twin()
    dropped = trained(peer(classifier(4), weighted, 1.0), weighted, x, y, **weighting)
    assert differ(dropped, expected)
    without = trained(peer(classifier(4), unweighted, 1.0), unweighted, x, y)
    for value, wanted in zip(dropped, without, strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("how", WEIGHTINGS)
def test_gradients_of_every_term_are_weighted(how):
    """A sample of weight 2 beside one of weight 0 trains like two of weight 1."""
    x, _ = pairs(samples=18)
    kept = np.arange(18) % 2 == 0
    y = np.where(kept, 1 + np.arange(18) // 9, 0)
    weighting = {
        "sample_weight": {"sample_weight": 2.0 * kept.astype("float32")},
        "class_weight": {"class_weight": {0: 0.0, 1: 2.0, 2: 2.0}},
    }[how]
    rows = np.repeat(np.flatnonzero(kept), 2)
    trained_weights = []
    for chosen, extra in ((slice(None), weighting), (rows, {})):
        keras.utils.set_random_seed(0)
        distiller = FrequencyDistiller(
            classifier(6, features=20), classifier(4), **{**PUBLISHED, "standardize": "variance"}
        )
        distiller.compile(keras.optimizers.SGD(0.1), loss=cross_entropy())
        data = {side: values[chosen] for side, values in x.items()}
        distiller.fit(data, y[chosen], batch_size=18, epochs=5, verbose=0, **extra)
        trained_weights.append(
            copies(ops.convert_to_numpy(v) for v in distiller.trainable_variables)
        )
    assert_same(*trained_weights)


@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")  # the peer, on JAX
@pytest.mark.parametrize("make", [ours, peer])
def test_student_runs_once_a_step(make):
    calls = []

    class Noted(keras.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    x, pair, y = same_inputs()
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(16, name="pool")(Noted()(inputs))
    student = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    distiller = make(classifier(4), student)
    distiller.compile("sgd", loss=cross_entropy(), run_eagerly=True)
    data = pair if make is ours else x
    distiller.fit(data, y, verbose=0)  # Builds what is not built.
    for run in (distiller.fit, distiller.evaluate):
        calls.clear()
        run(data, y, batch_size=5, verbose=0)
        assert len(calls) == (4 if make is ours else 8), run


@pytest.mark.parametrize("make", [ours, peer])
def test_logs_are_means_over_the_samples(make):
    """Of 8 samples, 8 and 4: with a rate of 0 all logs are those of all samples at once."""
    x, pair, y = same_inputs()
    distiller = make(classifier(4), classifier(4))
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy(), metrics=["accuracy"])
    data = pair if make is ours else x
    logs = distiller.fit(data, y, batch_size=8, shuffle=False, verbose=0).history
    whole = distiller.evaluate(data, y, batch_size=SAMPLES, verbose=0, return_dict=True)
    assert set(logs) == set(whole)
    wrong = {name for name in whole if logs[name][0] != pytest.approx(whole[name], rel=1e-5)}
    # The peer's own logs give a small batch as much weight as a large one.
    own = {"student_loss", "distillation_loss", "total_loss"}
    assert wrong == (set() if make is ours else own)


def two_outputs():
    inputs = keras.Input((4,))
    feature = keras.layers.Dense(16, name="pool")(inputs)
    outputs = {
        name: keras.layers.Dense(size, name=name)(feature) for name, size in (("a", 3), ("b", 1))
    }
    return keras.Model(inputs, outputs)


def test_several_outputs():
    x, pair, y = same_inputs()
    targets = {"a": y, "b": x[:, :1]}
    options = {
        "loss": {"a": cross_entropy(), "b": "mse"},
        "loss_weights": {"a": 1.0, "b": 0.1},
        "metrics": {"a": ["accuracy"], "b": ["mae"]},
    }
    twin = twins(two_outputs)
    plain, student = twin(), twin()
    distiller = CrossModalDistiller(classifier(4), student, losses=[Nothing()])
    logs = []
    for model, data in ((plain, x), (distiller, pair)):
        model.compile("adam", **options)
        logs.append(model.fit(data, targets, batch_size=8, epochs=2, shuffle=False, verbose=0))
    assert_same(student.get_weights(), plain.get_weights())
    for name in ("a_loss", "b_loss", "a_accuracy", "b_mae"):
        np.testing.assert_allclose(logs[1].history[name], logs[0].history[name], rtol=1e-5)

    other = peer(two_outputs(), two_outputs())
    with pytest.raises(ValueError, match="metrics must be a list or tuple"):
        other.compile("adam", **options)
    del options["metrics"]
    other.compile("adam", **options)
    with pytest.raises(ValueError, match="mismatch"):
        other.fit(x, targets, verbose=0)


class Added(keras.layers.Layer):
    """Adds a loss of its own on what it sees."""

    def call(self, inputs):
        self.add_loss(0.1 * ops.mean(ops.square(inputs)))
        return inputs


@pytest.mark.parametrize("kind", ["kernel", "activity", "add_loss"])
def test_losses_of_the_students_layers_count(kind):
    def regularized():
        inputs = keras.Input((4,))
        options = {} if kind == "add_loss" else {f"{kind}_regularizer": keras.regularizers.L2(0.1)}
        hidden = keras.layers.Dense(16, name="pool", **options)(inputs)
        hidden = Added()(hidden) if kind == "add_loss" else hidden
        return keras.Model(inputs, keras.layers.Dense(3)(hidden))

    x, pair, y = same_inputs()
    twin = twins(regularized)
    plain, student, dropped = twin(), twin(), twin()
    expected = trained(plain, plain, x, y)
    distiller = CrossModalDistiller(regularized(), student, losses=[Nothing()])
    assert_same(trained(distiller, student, pair, y), expected)
    assert differ(trained(peer(classifier(4), dropped, 1.0), dropped, x, y), expected)


def flat():
    """Dense, batch norm, ReLU, head: what `nested` and `Subclassed` compute."""
    inputs = keras.Input((4,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(16, name="deep")(inputs))
    hidden = keras.layers.ReLU(name="pool")(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def nested():
    """A backbone in an encoder in a classifier, each a functional model."""
    inputs = keras.Input((4,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(16, name="deep")(inputs))
    backbone = keras.Model(inputs, keras.layers.ReLU(name="pool")(hidden), name="backbone")
    inputs = keras.Input((4,))
    encoder = keras.Model(inputs, backbone(inputs), name="encoder")
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3)(encoder(inputs)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.deep = keras.layers.Dense(16)
        self.norm = keras.layers.BatchNormalization()
        self.head = keras.layers.Dense(3)

    def build(self, input_shape):
        self.deep.build(input_shape)
        self.norm.build((None, 16))
        self.head.build((None, 16))
        self.built = True

    def call(self, inputs, training=False):
        feature = ops.relu(self.norm(self.deep(inputs), training=training))
        return {"features": feature, "logits": self.head(feature)}


def subclassed():
    model = Subclassed()
    model.build((None, 4))
    return model


# By kind: a maker, and the path of the feature behind the ReLU and of the one before batch norm.
KINDS = {
    "nested": (nested, "encoder/backbone/pool", "encoder/backbone/deep"),
    "subclassed": (subclassed, None, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_any_shape_train_alike(kind):
    """On the same weights they give the logs and weights of the flat functional models."""
    make, pool, deep = KINDS[kind]
    x, y = pairs(samples=SAMPLES)
    x["teacher"] = x["teacher"][:, :4]
    teacher, student = flat(), flat()
    teacher(x["teacher"], training=True)  # Running statistics that differ from the start.
    found = []
    start = [copies(model.get_weights()) for model in (teacher, student)]
    heads = None
    for models, paths in (((teacher, student), ("pool", "deep")), ((make(), make()), (pool, deep))):
        for model, weights in zip(models, start, strict=True):
            model.set_weights(weights)
        if kind == "subclassed":
            paths = (paths[0], paths[0])
        distiller = FrequencyDistiller(
            *models, teacher_features=paths[0], student_features=paths[1]
        )
        variables = [v for head in distiller.align_heads.values() for v in head.variables]
        heads = heads or copies(ops.convert_to_numpy(v) for v in variables)
        for variable, value in zip(variables, heads, strict=True):
            variable.assign(value)
        distiller.compile(keras.optimizers.SGD(0.1), loss=cross_entropy(), metrics=["accuracy"])
        history = distiller.fit(
            x, y, batch_size=8, epochs=3, shuffle=False, validation_data=(x, y), verbose=0
        ).history
        found.append((history, copies(models[1].get_weights())))
    (expected, weights), (history, others) = found
    assert set(history) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    for old, new in zip(weights, others, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)


def test_layers_inside_models_are_out_of_the_peers_reach():
    def distiller(make, layer):
        return Distiller(make(), make(), [FeatureDistillation("mse", layer, layer)])

    for path in ("encoder/backbone/pool", "backbone", "pool"):
        with pytest.raises(ValueError, match="No such layer"):
            distiller(nested, path)
    with pytest.raises(ValueError, match="requires Functional or Sequential models"):
        distiller(subclassed, "deep")


def test_shared_layers_are_refused():
    """The peer freezes the shared layer of the student together with the teacher's, unsaid."""
    shared = keras.layers.Dense(16, name="pool")
    inputs = keras.Input((4,))
    teacher, student = (keras.Model(inputs, keras.layers.Dense(3)(shared(inputs))) for _ in "ts")
    with pytest.raises(ValueError, match="must not share layers"):
        ours(teacher, student)
    assert len(student.trainable_variables) == 4  # A refusal changes nothing.
    peer(teacher, student)
    assert len(student.trainable_variables) == 2
