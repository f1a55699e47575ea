"""C2KD against the numbers of the authors' code, and what C2KDDistiller guarantees."""

import keras
import numpy as np
import pytest
from conftest import assert_golden, classifier, cross_entropy, gradient, momentum_of, pairs
from keras import ops

from keras_fdkd import C2KDDistiller
from keras_fdkd.distillers import rank_correlation
from keras_fdkd.distillers.c2kd_terms import bidirectional_terms
from keras_fdkd.distillers.rank_correlation import kendall
from keras_fdkd.layers import LogitProxy

SETS = ("student", "teacher", "student_proxy", "teacher_proxy")
GOLDEN_SETS = ("student", "teacher", "proxy_student", "proxy_teacher")
TERMS = {
    "student_proxy_loss": "kl_s_s_im",
    "student_feedback_loss": "kl_s_im_s",
    "teacher_proxy_loss": "kl_t_t_im",
    "teacher_feedback_loss": "kl_t_im_t",
    "cross_student_loss": "kl_st_s_t",
    "cross_teacher_loss": "kl_st_t_s",
}
FILES = ["c2kd_b8_c28", "c2kd_b8_c6_nonselected", "c2kd_b16_c6_krc0p3", "c2kd_b64_c6"]


def distill(distiller, x, y, loss=None, optimizer="adam", **kwargs):
    distiller.compile(optimizer, loss=loss or cross_entropy(), metrics=["accuracy"])
    return distiller.fit(x, y, **{"batch_size": 24, "verbose": 0, **kwargs}).history


@pytest.mark.parametrize("name", FILES)
def test_terms_and_gradients(golden, name):
    data = golden(name)
    labels = data["labels"].astype("int32")
    target = ops.convert_to_tensor(np.eye(data["student"].shape[1])[labels] > 0)
    stacked = np.stack([data[logits] for logits in GOLDEN_SETS]).astype("float32")
    krc = float(data["krc"])

    def total(stacked):
        logits = {name: stacked[i] for i, name in enumerate(SETS)}
        terms, _ = bidirectional_terms(logits, target, krc)
        loss = cross_entropy()
        return sum(terms.values()) + sum(loss(labels, logits[k]) for k in ("student", "teacher"))

    terms, selected = bidirectional_terms(dict(zip(SETS, stacked, strict=True)), target, krc)
    np.testing.assert_array_equal(ops.convert_to_numpy(selected), data["mask"] > 0)
    assert set(terms) == set(TERMS)
    for ours, theirs in TERMS.items():
        assert_golden(terms[ours], data[f"{theirs}_f64"])
    assert_golden(total(ops.convert_to_tensor(stacked)), data["loss_f64"])
    excess, scale = kendall(data["proxy_teacher"], data["proxy_student"])
    assert_golden(excess / scale, data["kendall"])
    found = gradient(total, stacked)
    for i, logits in enumerate(GOLDEN_SETS):
        assert_golden(found[i], data[f"grad_{logits}_f64"])


def slow_tau(a, b):
    """Tau-b of two vectors, pair by pair."""
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i in range(len(a)) for j in range(i)]
    untied = np.abs(np.array(signs)).sum(0).prod()
    return sum(p * q for p, q in signs) / np.sqrt(untied) if untied else np.nan


def test_kendall_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(4, size=(2, 50, 7)).astype("float32")
    a[0] = 2.0  # Constant: undefined, so not selected however low the threshold.
    expected = [slow_tau(*rows) for rows in zip(a, b, strict=True)]
    assert np.isnan(expected[0])
    excess, scale = (ops.convert_to_numpy(value) for value in kendall(a, b))
    np.testing.assert_allclose(excess[1:] / scale[1:], expected[1:], atol=1e-6)
    assert excess[0] == scale[0] == 0
    logits = {"student": a, "teacher": b, "student_proxy": a, "teacher_proxy": b}
    _, selected = bidirectional_terms(logits, np.zeros(a.shape, bool), krc=-1.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(selected), np.array(expected) > -1)


def pair_by_pair(a, b):
    """Numerator and denominator of tau-b in NumPy, all pairs."""
    i, j = np.triu_indices(a.shape[1], 1)
    signs = [np.int64(x[:, i] > x[:, j]) - np.int64(x[:, i] < x[:, j]) for x in (a, b)]
    untied = np.abs(signs).sum(2, dtype="int64")
    return (signs[0] * signs[1]).sum(1), np.sqrt(np.prod(untied, axis=0, dtype="float64"))


@pytest.mark.parametrize("classes", [2, 3, 128, 129, 300])
@pytest.mark.parametrize("values", [2, 9, 10**6])
def test_kendall_of_any_size(classes, values):
    """By pairs up to 128 classes, by sorting above; with many ties, few and none."""
    rng = np.random.default_rng(classes)
    a, b = rng.integers(values, size=(2, 5, classes)).astype("float32")
    a[0] = 2.0
    b[1] = a[1]
    a[2], b[2] = np.arange(classes), -np.arange(classes)
    a[3, ::2] = b[3, ::3] = -np.inf  # Masked classes are tied.
    excess, scale = (ops.convert_to_numpy(value) for value in kendall(a, b))
    expected = pair_by_pair(a, b)
    np.testing.assert_array_equal(excess, expected[0])
    np.testing.assert_allclose(scale, expected[1], rtol=1e-6)
    assert excess[1] == scale[1]
    assert excess[2] == -scale[2]


def test_kendall_of_many_classes_needs_little_memory():
    """No array has as many entries as there are pairs, by far."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 3000)).astype("float32")
    largest = []
    original = rank_correlation.ops

    class Watched:
        def __getattr__(self, name):
            function = getattr(original, name)

            def call(*args, **kwargs):
                result = function(*args, **kwargs)
                largest.extend(np.prod(x.shape) for x in [result] if hasattr(x, "shape"))
                return result

            return call

    rank_correlation.ops = Watched()
    try:
        excess, _ = kendall(a, b)
    finally:
        rank_correlation.ops = original
    np.testing.assert_array_equal(ops.convert_to_numpy(excess), pair_by_pair(a, b)[0])
    assert max(largest) <= 3 * 4096 * 64  # The pairs are 3 * 4.5 million.


def test_kendall_refuses_what_it_cannot_count():
    with pytest.raises(ValueError, match="at most 46340 classes. Received: 50000"):
        kendall(np.zeros((1, 50000), "float32"), np.zeros((1, 50000), "float32"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_masked_classes_have_finite_terms(dtype):
    rng = np.random.default_rng(0)
    stacked = rng.normal(size=(4, 8, 6)).astype(dtype)
    stacked[:, :, 5] = -np.inf
    stacked[0, 0, 1] = stacked[1, 1, 2] = stacked[2, 2] = stacked[3, 3, 3] = -np.inf
    target = ops.convert_to_tensor(np.eye(6)[rng.integers(5, size=8)] > 0)

    def total(stacked):
        logits = {k: stacked[i] for i, k in enumerate(SETS)}
        terms, _ = bidirectional_terms(logits, target, -1.0, dtype=dtype)
        return sum(terms.values())

    assert np.isfinite(float(total(ops.convert_to_tensor(stacked))))
    slope = gradient(total, stacked)
    assert np.isfinite(slope).all()
    assert slope.any()


@pytest.mark.parametrize("scale", [0.0, 1000.0])
def test_finite_where_probabilities_vanish(scale):
    rng = np.random.default_rng(0)
    stacked = (scale * rng.choice([-1.0, 1.0], size=(4, 8, 6))).astype("float32")
    target = ops.convert_to_tensor(np.eye(6)[rng.integers(6, size=8)] > 0)

    def total(stacked):
        terms, _ = bidirectional_terms({k: stacked[i] for i, k in enumerate(SETS)}, target, -1.0)
        return sum(terms.values())

    assert np.isfinite(float(total(ops.convert_to_tensor(stacked))))
    assert np.isfinite(gradient(total, stacked)).all()


def stored(data, side, classes=6):
    """A model that looks up the stored map and logits of a side by the number of the sample."""
    shape = data[f"map_{side}"].shape
    index = keras.Input((), dtype="int32")
    maps = keras.layers.Embedding(shape[0], int(np.prod(shape[1:])), name=f"{side}_map")
    logits = keras.layers.Embedding(shape[0], classes, name=f"{side}_logits")
    feature = keras.layers.Reshape(shape[1:])(maps(index))
    model = keras.Model(index, {"features": feature, "logits": logits(index)})
    maps.set_weights([data[f"map_{side}"].reshape(shape[0], -1)])
    logits.set_weights([data[side]])
    return model, maps.embeddings, logits.embeddings


def test_whole_step_with_proxies(golden):
    data = golden("c2kd_proxy")
    teacher, teacher_map, teacher_logits = stored(data, "teacher")
    student, student_map, student_logits = stored(data, "student")
    distiller = C2KDDistiller(teacher, student)
    sides = {
        "teacher": (distiller.teacher_proxy, teacher_map, teacher_logits),
        "student": (distiller.student_proxy, student_map, student_logits),
    }
    for side, (proxy, _, _) in sides.items():
        stored_proxy = {
            name: data[f"proxy_{side}_{name}"]
            for name in ("conv", "bn_gamma", "bn_beta", "fc_kernel", "fc_bias")
        }
        layers = (proxy.dense.kernel, proxy.normalization.gamma, proxy.normalization.beta,
                  proxy.head.kernel, proxy.head.bias)  # fmt: skip
        for variable, value in zip(layers, stored_proxy.values(), strict=True):
            variable.assign(value)
        logits = LogitProxy.from_config(proxy.get_config())
        logits.build((None, 256))
        logits.set_weights(proxy.get_weights())
        found = logits(data[f"map_{side}"].astype("float32"), training=True)
        assert_golden(found, data[f"proxy_logits_{side}_f64"])
    index = np.arange(8, dtype="int32")
    logs = distill(
        distiller,
        {"teacher": index, "student": index},
        data["labels"].astype("int32"),
        optimizer=keras.optimizers.SGD(1.0, momentum=0.9),
        shuffle=False,
    )
    assert_golden(logs["loss"][0], data["loss_f64"])
    assert logs["selected"][0] == pytest.approx(data["mask_f64"].mean())
    part = sum(logs[f"teacher_{term}loss"][0] for term in ("", "proxy_", "feedback_"))
    assert_golden(part + logs["cross_teacher_loss"][0], data["loss_teacher_part_f64"])
    part = sum(logs[f"{term}_loss"][0] for term in ("task", "student_proxy", "student_feedback"))
    assert_golden(part + logs["cross_student_loss"][0], data["loss_student_part_f64"])

    def assert_gradient(variable, name, columns=None):
        """Of the largest gradient 5e-6, the tolerance stated for these numbers."""
        reference = data[f"{name}_f64"]
        found = -ops.convert_to_numpy(momentum_of(distiller.optimizer, variable))
        found = found[:, :columns].reshape(reference.shape) if columns else found
        error = np.abs(found.reshape(reference.shape) - reference).max()
        assert error <= 5e-6 * np.abs(reference).max(), name

    for side, (proxy, maps, logits) in sides.items():
        assert_gradient(logits, f"grad_{side}")
        assert_gradient(maps, f"grad_map_{side}")
        assert_gradient(proxy.head.kernel, f"grad_proxy_{side}_fc_kernel")
        assert_gradient(proxy.normalization.gamma, f"grad_proxy_{side}_bn_gamma")
        assert_gradient(proxy.dense.kernel, f"grad_proxy_{side}_conv_cols16", columns=16)


def test_both_models_train():
    x, y = pairs()
    teacher, student = classifier(6, batch_norm=True), classifier(4, batch_norm=True)
    distiller = C2KDDistiller(teacher, student)
    before = [[np.array(w) for w in model.get_weights()] for model in (teacher, student)]
    history = distill(distiller, x, y, batch_size=8, epochs=2, validation_data=(x, y))
    for weights, model in zip(before, (teacher, student), strict=True):
        # Kernels, biases, and the moving statistics of the batch normalization.
        for old, new in zip(weights, model.get_weights(), strict=True):
            assert np.abs(old - new).max() > 0
    names = {"loss", "task_loss", "teacher_loss", "accuracy", "selected", *TERMS}
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(np.isfinite(values).all() for values in history.values())
    total = sum(history[name][0] for name in ("task_loss", "teacher_loss", *TERMS))
    assert history["loss"][0] == pytest.approx(total, rel=1e-5)


def test_evaluation_and_prediction():
    x, y = pairs()
    teacher = classifier(6, batch_norm=True, dropout=0.5)
    student = classifier(4, batch_norm=True, dropout=0.5)
    distiller = C2KDDistiller(teacher, student)
    distiller.compile("adam", loss=cross_entropy(), metrics=["accuracy"])
    before = [np.array(weight) for weight in distiller.get_weights()]
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    expected = float(cross_entropy()(y, ops.convert_to_numpy(teacher(x["teacher"]))))
    assert logs["teacher_loss"] == pytest.approx(expected, rel=1e-5)
    alone = distiller.evaluate(x["student"], y, verbose=0, return_dict=True)
    assert set(alone) == {"loss", "task_loss", "accuracy"}
    assert alone["loss"] == pytest.approx(logs["task_loss"], rel=1e-5)
    expected = ops.convert_to_numpy(student(x["student"]))
    np.testing.assert_allclose(distiller.predict(x["student"], verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), expected, atol=1e-6)
    for old, new in zip(before, distiller.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_selected():
    x, y = pairs()
    distiller = C2KDDistiller(classifier(6), classifier(4), krc=0.999)
    # Three classes ranked in the same order have tau 1: let the proxies disagree.
    distiller.teacher_proxy.head.kernel.assign(np.zeros((16, 3)))
    distiller.student_proxy.head.kernel.assign(np.zeros((16, 3)))
    distiller.teacher_proxy.head.bias.assign([0.0, 1.0, 2.0])
    distiller.student_proxy.head.bias.assign([2.0, 1.0, 0.0])
    history = distill(distiller, x, y)
    assert history["selected"] == history["cross_student_loss"] == [0.0]
    assert history["cross_teacher_loss"] == [0.0]
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(weight).all() for weight in distiller.get_weights())


def test_sample_weights_reach_every_term():
    x, y = pairs()
    distiller = C2KDDistiller(classifier(6), classifier(4), krc=-1.0)
    distiller.compile("adam", loss=cross_entropy())
    kept = y != 0
    options = {"batch_size": 24, "verbose": 0, "return_dict": True}
    logs = distiller.evaluate(x, y, sample_weight=kept.astype("float32"), **options)
    subset = {name: value[kept] for name, value in x.items()}
    expected = distiller.evaluate(subset, y[kept], **options)
    # Keras divides by the number of samples, whatever their weights.
    for name in ("task_loss", "teacher_loss", *TERMS):
        assert expected[name] > 0
        assert logs[name] == pytest.approx(expected[name] * kept.mean(), rel=1e-4), name


def test_unlabelled_samples():
    """The label -1: no cross-entropy, and no class whose logit is set to 0."""
    x, y = pairs()
    distiller = C2KDDistiller(classifier(6), classifier(4), krc=-1.0)
    distiller.compile("adam", loss=cross_entropy(ignore_class=-1))
    options = {"batch_size": 24, "verbose": 0, "return_dict": True}
    whole = distiller.evaluate(x, y, **options)
    half = distiller.evaluate(x, np.where(y == 0, -1, y), **options)
    none = distiller.evaluate(x, np.full_like(y, -1), **options)
    labelled = y != 0
    logits = ops.convert_to_numpy(distiller.teacher(x["teacher"]))
    expected = float(cross_entropy()(y[labelled], logits[labelled]))
    assert half["teacher_loss"] == pytest.approx(expected, rel=1e-5)
    assert none["teacher_loss"] == none["task_loss"] == 0.0
    proxies = {
        "student_proxy": distiller.student_proxy(distiller._student_tap(x["student"])["features"]),
        "teacher_proxy": distiller.teacher_proxy(distiller._teacher_tap(x["teacher"])["features"]),
    }
    terms, _ = bidirectional_terms(
        {"student": logits, "teacher": logits, **proxies}, np.zeros((24, 3), bool), -1.0
    )
    expected = float(ops.convert_to_numpy(terms["cross_student_loss"]))
    assert none["cross_student_loss"] == pytest.approx(expected, rel=1e-4)
    assert len({logs["cross_student_loss"] for logs in (whole, half, none)}) == 3
    assert whole["student_proxy_loss"] == pytest.approx(none["student_proxy_loss"], rel=1e-5)
    history = distiller.fit(x, np.where(y == 0, -1, y), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_one_hot_labels():
    x, y = pairs()
    distiller = C2KDDistiller(classifier(6), classifier(4), krc=-1.0)
    losses = (cross_entropy(), keras.losses.CategoricalCrossentropy(from_logits=True))
    logs = []
    for loss, labels in zip(losses, (y, np.eye(3, dtype="float32")[y]), strict=True):
        distiller.compile("adam", loss=loss)
        logs.append(distiller.evaluate(x, labels, verbose=0, return_dict=True))
    for name, value in logs[0].items():
        assert logs[1][name] == pytest.approx(value, rel=1e-5), name


def test_maps_and_sequences():
    frames = keras.Input((None, 5))
    hidden = keras.layers.Conv1D(6, 3, name="frames")(frames)
    pooled = keras.layers.GlobalAveragePooling1D()(hidden)
    student = keras.Model(frames, keras.layers.Dense(3)(pooled))
    image = keras.Input((8, 8, 2))
    hidden = keras.layers.Conv2D(7, 3, name="map")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(hidden)
    teacher = keras.Model(image, keras.layers.Dense(3)(pooled))
    distiller = C2KDDistiller(teacher, student, teacher_features="map", student_features="frames")
    assert distiller.teacher_proxy.dense.kernel.shape == (7, 7)
    assert distiller.student_proxy.dense.kernel.shape == (6, 6)
    rng = np.random.default_rng(0)
    x = {
        "teacher": rng.normal(size=(8, 8, 8, 2)).astype("float32"),
        "student": rng.normal(size=(8, 20, 5)).astype("float32"),
    }
    history = distill(distiller, x, rng.integers(3, size=8), epochs=2)
    assert history["teacher_proxy_loss"][1] != history["teacher_proxy_loss"][0]
    assert np.isfinite(history["loss"]).all()


def test_proxy():
    proxy = LogitProxy(3, hidden=5)
    assert proxy(np.ones((2, 4, 4, 7), "float32")).shape == (2, 3)
    assert proxy.dense.kernel.shape == (7, 5)
    assert proxy.compute_output_shape((None, 4, 4, 7)) == (None, 3)
    assert LogitProxy.from_config(proxy.get_config()).hidden == 5
    for arguments in ({"num_classes": 0}, {"num_classes": 3, "hidden": 1.5}):
        with pytest.raises(ValueError, match="must be a positive integer"):
            LogitProxy(**arguments)
    with pytest.raises(ValueError, match="with the channels known"):
        LogitProxy(3).build((None, 4, None))


def test_save_and_go_on(tmp_path):
    x, y = pairs()
    distiller = C2KDDistiller(
        classifier(6, features=20), classifier(4), teacher_features="pool", krc=0.25
    )
    distill(distiller, x, y, shuffle=False)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert loaded.krc == 0.25
    assert loaded.get_config()["teacher_features"] == "pool"
    histories = [model.fit(x, y, shuffle=False, verbose=0).history for model in (distiller, loaded)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_outputs_of_the_teacher_are_refused():
    x, y = pairs()
    distiller = C2KDDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy())
    cached = {"student": x["student"], "teacher_outputs": {"features": x["teacher"]}}
    for method in (distiller.fit, distiller.evaluate, distiller.train_on_batch):
        with pytest.raises(ValueError, match="its outputs cannot be computed once"):
            method(cached, y)


def frozen():
    model = classifier(6)
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"krc": 1.0}, "`krc` must be a number"),
        ({"krc": float("nan")}, "`krc` must be a number"),
        ({"krc": "0"}, "`krc` must be a number"),
        ({"teacher": classifier(6, classes=4)}, "same 2 or more classes"),
        ({"teacher": classifier(6, classes=1), "student": classifier(4, classes=1)}, "2 or more"),
        ({"teacher": frozen()}, "set `teacher.trainable = True`"),
    ],
)
def test_arguments(arguments, message):
    models = {"teacher": classifier(6), "student": classifier(4)}
    with pytest.raises(ValueError, match=message):
        C2KDDistiller(**{**models, **arguments})


@pytest.mark.parametrize(
    "loss",
    [None, "mse", "sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy(),
     keras.losses.BinaryCrossentropy(from_logits=True)],
)  # fmt: skip
def test_loss_must_be_a_cross_entropy_on_logits(loss):
    with pytest.raises(ValueError, match="compares the logits of both models"):
        C2KDDistiller(classifier(6), classifier(4)).compile("adam", loss=loss)


def test_labels_are_checked():
    x, y = pairs()
    distiller = C2KDDistiller(classifier(6), classifier(4))
    distiller.compile("adam", loss=cross_entropy())
    with pytest.raises(ValueError, match="Labels must be in 0..2"):
        distiller.fit(x, y - 1)
