"""Several models of one modality as one teacher."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller, Ensemble, FrequencyDistiller, fingerprint, logits_view
from keras_fdkd.features import FeatureTap
from keras_fdkd.losses import KD


def softmax(size=6):
    return keras.Sequential([keras.Input((size,)), keras.layers.Dense(3, "softmax")])


def test_mean_of_logits_and_features_side_by_side():
    x, _ = pairs()
    models = [classifier(6, features=8), classifier(6, features=16)]
    outputs = Ensemble(models)(x["teacher"])
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs["logits"]),
        np.mean([model.predict(x["teacher"], verbose=0) for model in models], axis=0),
        atol=1e-6,
    )
    taps = [FeatureTap(model, {"features": None}, "teacher") for model in models]
    found = [tap.predict(x["teacher"])["features"] for tap in taps]
    np.testing.assert_allclose(
        ops.convert_to_numpy(outputs["features"]), np.concatenate(found, axis=-1), atol=1e-6
    )


def test_mean_of_features():
    x, _ = pairs()
    models = [classifier(6), classifier(6), classifier(6)]
    outputs = Ensemble(models, features="mean", layer_names="feature")(x["teacher"])
    kernels = [model.get_layer("feature").get_weights() for model in models]
    wanted = np.mean([x["teacher"] @ kernel + bias for kernel, bias in kernels], axis=0)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["features"]), wanted, atol=1e-5)


def test_other_layers_of_each():
    models = [classifier(6, features=8), classifier(6, features=16)]
    teacher = Ensemble(models, layer_names=["feature", None])
    assert teacher.layer_names == ["feature", None]
    x = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
    found = teacher.predict(x, verbose=0)["features"]
    assert (found[:, :8] < 0).any()  # before the ReLU
    assert (found[:, 8:] >= 0).all()  # after it


@pytest.mark.parametrize("features", ["concat", "mean", None])
def test_as_a_frozen_teacher(features):
    x, y = pairs()
    models = [classifier(6, dropout=0.5, batch_norm=True) for _ in range(3)]
    before = [weight for model in models for weight in model.get_weights()]
    teacher = Ensemble(models, features=features)
    if features is None:
        distiller = CrossModalDistiller(teacher, classifier(4), losses=[KD()])
    else:
        distiller = FrequencyDistiller(teacher, classifier(4), extra_losses=[KD()])
    distiller.compile("adam", cross_entropy())
    history = distiller.fit(x, y, epochs=2, verbose=0, validation_data=(x, y)).history
    assert np.isfinite(history["loss"]).all()
    after = [weight for model in models for weight in model.get_weights()]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)


def test_saved_and_loaded(tmp_path):
    x, y = pairs()
    models = [classifier(6, features=8), classifier(6)]
    teacher = Ensemble(models, layer_names="pool", name="both")
    distiller = FrequencyDistiller(teacher, classifier(4))
    distiller.compile("adam", cross_entropy())
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras").teacher
    assert (again.name, again.layer_names, again.features) == ("both", ["pool"] * 2, "concat")
    assert fingerprint(again) == fingerprint(teacher)
    for name, value in again.predict(x["teacher"], verbose=0).items():
        np.testing.assert_allclose(value, teacher.predict(x["teacher"], verbose=0)[name], atol=1e-6)


def test_one_weight_changes_the_fingerprint():
    teacher = Ensemble([classifier(6), classifier(6)])
    before = fingerprint(teacher)
    model = teacher.models[1]
    model.set_weights([2 * weight + 1 for weight in model.get_weights()])
    assert fingerprint(teacher) != before


@keras.saving.register_keras_serializable(package="tests")
class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hid, self.head = keras.layers.Dense(8), keras.layers.Dense(3)

    def call(self, inputs):
        return self.head(self.hid(inputs))


def test_models_with_their_own_call():
    x, _ = pairs()
    own = Own()
    own(x["teacher"])
    teacher = Ensemble([own, classifier(6)], layer_names=["hid", None])
    found = teacher.predict(x["teacher"], verbose=0)["features"]
    np.testing.assert_allclose(found[:, :8], ops.convert_to_numpy(own.hid(x["teacher"])), atol=1e-5)


def test_nested_inputs_and_ensembles():
    def model():
        left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
        hidden = keras.layers.Dense(8)(keras.layers.Concatenate()([left, right]))
        return keras.Model({"left": left, "right": right}, keras.layers.Dense(3)(hidden))

    teacher = Ensemble([Ensemble([model(), model()]), model()])
    x = {"left": np.ones((5, 4), "float32"), "right": np.ones((5, 2), "float32")}
    assert teacher.predict(x, verbose=0)["features"].shape == (5, 24)
    data, y = pairs(samples=5)
    distiller = FrequencyDistiller(teacher, classifier(4))
    distiller.compile("adam", cross_entropy())
    distiller.fit({"teacher": x, "student": data["student"]}, y, verbose=0)


def test_masks_of_sequences_are_kept():
    def model():
        ids = keras.Input((3,), dtype="int32")
        hidden = keras.layers.Embedding(9, 6, mask_zero=True, name="embed")(ids)
        pooled = keras.layers.GlobalAveragePooling1D()(hidden)
        return keras.Model(ids, keras.layers.Dense(3)(pooled))

    ids = np.array([[1, 2, 0], [3, 0, 0]])
    for features in ("concat", "mean"):
        teacher = Ensemble([model(), model()], features, layer_names="embed")
        tap = FeatureTap(teacher, {"features": None}, "teacher")
        assert tap.masks == {"features"}
        np.testing.assert_array_equal(tap.predict(ids)["features_mask"][..., 0], ids > 0)


def test_half_precision_is_averaged_in_full():
    keras.config.set_dtype_policy("float16")
    try:
        models = [classifier(6), classifier(6)]
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = Ensemble(models)(np.ones((2, 6), "float32"))
    assert {keras.backend.standardize_dtype(v.dtype) for v in outputs.values()} == {"float32"}


def test_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"models\[1\].*logits_view"):
        Ensemble([classifier(6), softmax()], features=None)
    teacher = Ensemble([classifier(6), logits_view(softmax())], features=None)
    assert teacher.predict(np.ones((2, 6), "float32"), verbose=0).shape == (2, 3)


@pytest.mark.parametrize(
    ("models", "arguments", "message"),
    [
        ([], {}, "two or more"),
        ([classifier(6)], {}, "two or more"),
        (classifier(6), {}, "two or more"),
        ([classifier(6), "b"], {}, r"`models\[1\]` must be a `keras.Model`"),
        ([classifier(6), keras.Sequential([keras.layers.Dense(3)])], {}, "must be built"),
        ([classifier(6), classifier(6, classes=4)], {}, "same classes"),
        ([classifier(6), classifier(6, features=8)], {"features": "mean"}, "'concat'"),
        ([classifier(6), classifier(5)], {}, "same inputs"),
        ([classifier(6), classifier(6)], {"features": "sum"}, "`features` must be one of"),
        ([classifier(6), classifier(6)], {"layer_names": ["pool"]}, "1 for 2 models"),
        ([classifier(6), classifier(6)], {"layer_names": "pol"}, "no layer 'pol'.*layer_names="),
        (
            [classifier(6), classifier(6)],
            {"layer_names": "pool", "features": None},
            "must be 'concat' or 'mean'",
        ),
    ],
)
def test_wrong_arguments(models, arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(models, **arguments)


def test_other_faults():
    model = classifier(6)
    with pytest.raises(ValueError, match="one twice"):
        Ensemble([model, model])
    several = keras.Model(model.inputs[0], {"a": model.outputs[0], "b": model.outputs[0]})
    with pytest.raises(ValueError, match="must have one output"):
        Ensemble([several, classifier(6)], features=None)
    inputs = keras.Input((6, 2))
    hidden = keras.layers.Dense(16, name="pool")(inputs)
    flat = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(hidden))
    sequences = keras.Model(inputs, flat)
    with pytest.raises(ValueError, match="but for the last axis"):
        Ensemble([classifier(6), sequences], layer_names="pool")
