"""CrossModalDistiller: any losses, over teacher and student with different inputs."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops
from keras.distillation import FeatureDistillation

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import KD, PKD, FitNet, FrequencyDistillation
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss


def logits_distillation(temperature=3.0):
    """Keras's own, as it is meant."""
    return keras.distillation.LogitsDistillation(temperature, loss=keras.losses.KLDivergence())


def fit(distiller, x, y, **kwargs):
    distiller.compile("adam", loss=cross_entropy())
    return distiller.fit(x, y, batch_size=len(y), verbose=0, **kwargs).history


def layer_output(model, x):
    """What the layer `pool` of a small classifier gives."""
    view = keras.Model(model.inputs[0], model.get_layer("pool").output)
    return view.predict(x, verbose=0)


class Recorder(CrossModalLoss):
    """Records the shapes and labels that reach it."""

    def __init__(self, reads="features", needs_index=False, **kwargs):
        super().__init__(**kwargs)
        self.reads, self.needs_index, self.seen = reads, needs_index, []

    def call(self, teacher, student, y=None):
        self.seen.append((teacher.shape[-1], student.shape[-1], tuple(y.shape)))
        return ops.mean(student, axis=-1)


def test_keras_losses_unchanged():
    x, y = pairs()
    teacher, student = classifier(6), classifier(4)
    losses = [
        logits_distillation(temperature=4.0),
        FeatureDistillation("mse", teacher_layer_name="pool", student_layer_name="pool"),
    ]
    distiller = CrossModalDistiller(teacher, student, losses=losses, loss_weights=[0.5, 2])
    outputs = {
        "logits": (teacher(x["teacher"]), student(x["student"])),
        "pool": (layer_output(teacher, x["teacher"]), layer_output(student, x["student"])),
    }
    expected = [
        loss.compute_loss(*outputs[name])
        for name, loss in zip(("logits", "pool"), losses, strict=True)
    ]
    task = float(cross_entropy()(y, student.predict(x["student"], verbose=0)))
    history = fit(distiller, x, y)
    found = [history[f"{name}_distillation_loss"][0] for name in ("logits", "feature")]
    np.testing.assert_allclose(
        found, [float(ops.convert_to_numpy(value)) for value in expected], rtol=1e-5
    )
    total = task + 0.5 * found[0] + 2 * found[1]
    assert history["loss"][0] == pytest.approx(total, rel=1e-5)


def test_keras_default_on_raw_logits_is_warned_of():
    """Keras 3.15 resolves the name to a function, and softens the logits for the class alone."""
    loss = keras.distillation.LogitsDistillation(4.0)
    with pytest.warns(UserWarning, match="compares raw logits"):
        CrossModalDistiller(classifier(6), classifier(4), losses=[loss])


def test_what_a_loss_reads():
    teacher = classifier(6, features=10)
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(7, name="deep"), keras.layers.ReLU()], name="body"
    )
    student = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(3)])
    losses = [
        Recorder(name="a"),
        Recorder(name="a"),
        Recorder(name="logits", reads="predictions"),
        Recorder(name="path", teacher_layer_name="feature", student_layer_name="body/deep"),
    ]
    distiller = CrossModalDistiller(teacher, student, losses=losses)
    x, y = pairs()
    history = fit(distiller, x, y, sample_weight=np.r_[2.0, np.zeros(23)].astype("float32"))
    widths = [loss.seen[-1][:2] for loss in losses]
    assert widths == [(10, 7), (10, 7), (3, 3), (10, 7)]
    assert all(loss.seen[-1][2] == (24,) for loss in losses)
    assert {"a_loss", "a_2_loss", "logits_loss", "path_loss"} < set(history)


def test_sample_weights_reach_our_losses():
    x, y = pairs()
    teacher, student = classifier(6), classifier(4)
    loss = FrequencyDistillation()
    weights = np.r_[np.ones(12), np.zeros(12)].astype("float32")
    values = []
    for rows, weight in ((slice(None), weights), (slice(12), None)):
        distiller = CrossModalDistiller(teacher, student, losses=[loss])
        distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
        half = {side: value[rows] for side, value in x.items()}
        history = distiller.fit(
            half, y[rows], sample_weight=weight, batch_size=24, verbose=0
        ).history
        values.append(history["frequency_loss"][0])
    # As everywhere in Keras, the sum is divided by the number of samples, weighted or not.
    assert values[0] == pytest.approx(values[1] / 2, rel=1e-5)


def test_keras_losses_refuse_sample_weights():
    x, y = pairs()
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[logits_distillation()])
    with pytest.raises(ValueError, match="`LogitsDistillation` takes no sample weights"):
        fit(distiller, x, y, sample_weight=np.ones(24, "float32"))


def test_frequency_distiller_composes():
    x, y = pairs()
    distiller = FrequencyDistiller(
        classifier(6), classifier(4), extra_losses=[logits_distillation()], extra_loss_weights=[0.5]
    )
    history = fit(distiller, x, y)
    parts = {"task": 1, "low": 3, "high": 1, "align": 0.3, "logits_distillation": 0.5}
    total = sum(weight * history[f"{name}_loss"][0] for name, weight in parts.items())
    assert history["loss"][0] == pytest.approx(total, rel=1e-5)


def test_frequency_loss_in_keras_distiller():
    """The other way round: our loss in Keras's own distiller, where both see the same input."""
    x, y = pairs()
    teacher, student = classifier(4), classifier(4)
    loss = FrequencyDistillation(teacher_layer_name="pool", student_layer_name="pool")
    ours = CrossModalDistiller(teacher, student, losses=[loss])
    ours.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    expected = ours.fit(
        {"teacher": x["student"], "student": x["student"]}, y, batch_size=24, verbose=0
    ).history["frequency_loss"]
    peer = keras.distillation.Distiller(teacher, student, [loss], [1.0])
    peer.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    history = peer.fit(x["student"], y, batch_size=24, verbose=0).history
    assert history["distillation_loss"][0] == pytest.approx(expected[0], rel=1e-5)


def test_teacher_outputs_stand_in():
    x, y = pairs()
    teacher, student = classifier(6), classifier(4)
    losses = [logits_distillation(), FrequencyDistillation(teacher_layer_name="pool")]
    distiller = CrossModalDistiller(teacher, student, losses=losses)
    outputs = distiller.predict_teacher(x["teacher"])
    assert set(outputs) == {"predictions", "layer:pool"}
    np.testing.assert_allclose(outputs["layer:pool"], layer_output(teacher, x["teacher"]), 1e-6)
    distiller.compile(keras.optimizers.SGD(0.0), loss=cross_entropy())
    cached = {"teacher_outputs": outputs, "student": x["student"]}
    logs = [distiller.fit(data, y, verbose=0).history for data in (x, cached)]
    assert logs[0]["loss"][0] == pytest.approx(logs[1]["loss"][0], rel=1e-5)
    del outputs["predictions"]
    with pytest.raises(ValueError, match='"teacher_outputs" must be a dict with'):
        distiller.fit(cached, y)


def test_config_round_trip():
    losses = [logits_distillation(2.0), FrequencyDistillation(0.25, low_loss="log_mse")]
    distiller = CrossModalDistiller(
        classifier(6), classifier(4), losses=losses, loss_weights=[0.5, 2.0]
    )
    copy = CrossModalDistiller.from_config(distiller.get_config())
    assert copy.get_config()["losses"] == distiller.get_config()["losses"]
    assert copy.get_config()["loss_weights"] == [0.5, 2.0]
    extra = FrequencyDistiller(classifier(6), classifier(4), extra_losses=losses)
    config = FrequencyDistiller.from_config(extra.get_config()).get_config()
    assert config["extra_losses"] == extra.get_config()["extra_losses"]
    assert "losses" not in config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Without `losses` there is nothing to distil"),
        ({"losses": []}, "Without `losses` there is nothing to distil"),
        ({"losses": logits_distillation()}, "`losses` must be a list"),
        ({"losses": ["mse"]}, "`losses` must be a list of `keras.distillation.DistillationLoss`"),
        (
            {"losses": [logits_distillation()], "loss_weights": [1, 2]},
            "one weight for each of the 1",
        ),
        ({"losses": [logits_distillation()], "loss_weights": 1.0}, "one weight for each of the 1"),
        ({"losses": [logits_distillation()], "loss_weights": [-1]}, "finite number >= 0"),
        ({"losses": [logits_distillation()], "loss_weights": [0]}, "At least one weight"),
        ({"losses": [FeatureDistillation("mse", "pool", "logits")]}, "must have the same shape"),
        ({"losses": [FeatureDistillation("mse", "pol", "pool")]}, "no layer 'pol' in `teacher`"),
        (
            {"losses": [logits_distillation()], "teacher_features": "pool"},
            "None of the losses reads `teacher_features`",
        ),
        ({"losses": [FrequencyDistillation(axis=2)]}, "`axis` must be one of the axes"),
        ({"losses": [FrequencyDistillation(cutoff=0.01)]}, "leaves the low band empty"),
        (
            {"losses": [FrequencyDistillation(teacher_layer_name=["pool", "feature"])]},
            "compares one tensor of each side",
        ),
        ({"losses": [FeatureDistillation(["mse", None])]}, "structure"),
        (
            {"losses": [FrequencyDistillation(projector=None)], "teacher_features": "logits"},
            "`FrequencyDistillation` needs teacher and student outputs of the same shape",
        ),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CrossModalDistiller(classifier(6), classifier(4), **arguments)


def test_extra_losses_are_named_in_errors():
    with pytest.raises(ValueError, match="`extra_losses` must be a list"):
        FrequencyDistiller(classifier(6), classifier(4), extra_losses="mse")


def test_index_is_asked_for():
    x, y = pairs()
    loss = Recorder(name="numbered", needs_index=True)
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[loss])
    with pytest.raises(ValueError, match="numpy.arange"):
        fit(distiller, x, y)
    fit(distiller, {**x, "index": np.arange(24)}, y)


@pytest.mark.parametrize("make", [FrequencyDistiller, C2KDDistiller, CrossModalDistiller])
def test_weights_of_one_change_nothing(make):
    """On PyTorch, Keras multiplies the mask of ignored labels into the weights it is given."""
    x, y = pairs()
    y[6:] = -1
    options = {"losses": [KD()]} if make is CrossModalDistiller else {}
    logs = []
    for weight in (None, np.ones(24, "float32")):
        keras.utils.set_random_seed(0)
        distiller = make(classifier(6), classifier(4), **options)
        distiller.compile(keras.optimizers.SGD(0.1), loss=cross_entropy(ignore_class=-1))
        logs.append(distiller.fit(x, y, sample_weight=weight, epochs=2, verbose=0).history)
    assert set(logs[0]) == set(logs[1])
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-4, err_msg=name)


def test_terms_need_names_of_their_own():
    for name in ("low", "task"):
        with pytest.raises(ValueError, match=f"another `name`. Received twice: .*{name}_loss"):
            FrequencyDistiller(classifier(6), classifier(4), extra_losses=[PKD(name=name)])


@keras.saving.register_keras_serializable(package="tests")
class Cosine(CrossModalDistiller):
    def compare(self, teacher, student, training):
        return {"pair": (teacher["features"], student["features"])}

    def terms(self, compared, y, sample_weight):
        value = keras.losses.CosineSimilarity()(*compared["pair"], sample_weight)
        return {"cosine_loss": (1.0, value)}, {}


def test_subclass_keeps_its_logs():
    distiller = Cosine(classifier(6), classifier(4), logs=("cosine_loss",))
    copy = Cosine.from_config(distiller.get_config())
    x, y = pairs()
    assert "cosine_loss" in fit(copy, x, y)


def test_any_distillation_loss():
    """A loss of the user's decides itself what it can compare, and must give a scalar."""

    class Gram(keras.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            grams = [ops.matmul(v, ops.transpose(v)) for v in (teacher_outputs, student_outputs)]
            return ops.mean(ops.square(grams[0] - grams[1]))

    class Vector(Gram):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return ops.mean(student_outputs, axis=-1)

    class Refusing(Gram):
        def validate_outputs(self, teacher_outputs, student_outputs):
            raise ValueError("not these")

    x, y = pairs()

    def make(loss):
        loss.teacher_layer_name = "pool"
        return CrossModalDistiller(classifier(6, features=10), classifier(4), losses=[loss])

    with pytest.raises(ValueError, match="not these"):
        make(Refusing())
    with pytest.raises(ValueError, match=r"`Vector.compute_loss` must return a scalar"):
        fit(make(Vector()), x, y)
    assert fit(make(Gram()), x, y)["gram_loss"][0] > 0


def test_keras_distiller_refuses_losses_with_layers():
    with pytest.raises(ValueError, match="use `keras_fdkd.CrossModalDistiller`"):
        keras.distillation.Distiller(classifier(4), classifier(4), [FitNet()], [1.0])


@pytest.mark.parametrize(
    "loss", ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()]
)
def test_probabilities_are_refused(loss):
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    with pytest.raises(ValueError, match="compares logits"):
        distiller.compile("adam", loss=loss)
    # Features may be compared whatever the predictions are.
    CrossModalDistiller(classifier(6), classifier(4), losses=[PKD()]).compile("adam", loss=loss)
