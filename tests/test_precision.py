"""Half precision and compilation, with every option on."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import AFD, AT, CRD, DIST, DKD, KD, PKD, RKD, FitNet, FrequencyDistillation

BACKEND = keras.config.backend()
POLICIES = ["mixed_float16", "mixed_bfloat16"]


@pytest.fixture
def policy():
    """Set a dtype policy for one test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def with_maps(size, features=16):
    inputs = keras.Input((size,))
    x = keras.layers.Dense(24)(inputs)
    x = keras.layers.Reshape((6, 4), name="map")(x)
    x = keras.layers.Conv1D(4, 3, padding="same", name="map2")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(features, name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x))


def everything():
    """Every term of the bands, and every loss beside them."""
    maps = {f"{side}_layer_name": "map" for side in ("teacher", "student")}
    several = {name: ["map", "map2"] for name in maps}
    extra = [KD(), DKD(), DIST(), PKD(), RKD(), AT(**maps), AFD(dim=8, **several)]
    extra += [CRD(24, dim=8, negatives=10), FrequencyDistillation(0.25), FitNet()]
    return FrequencyDistiller(
        with_maps(6), with_maps(4), band_task_weight=0.5, extra_losses=extra,
        extra_loss_weights=[0.1] * len(extra),
    )  # fmt: skip


def jointly():
    return C2KDDistiller(classifier(6), classifier(4))


def projected():
    return FrequencyDistiller(
        classifier(6, features=20), classifier(4), extra_losses=[KD()], standardize="norm"
    )


MAKERS = [everything, jointly, projected]


def data(samples=24):
    x, y = pairs(samples)
    return {**x, "index": np.arange(samples, dtype="int32")}, y


def fit(distiller, x, y, epochs=2, **compile_options):
    distiller.compile(keras.optimizers.Adam(1e-3), loss=cross_entropy(), **compile_options)
    return distiller.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0).history


def given(make, x):
    return x if make is everything else {side: x[side] for side in ("teacher", "student")}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("make", MAKERS)
def test_half_precision_is_near_full(make, name, policy):
    x, y = data()
    keras.utils.set_random_seed(0)
    full = make()
    weights = full.student.get_weights(), full.teacher.get_weights()
    expected = fit(full, given(make, x), y)
    policy(name)
    keras.utils.set_random_seed(0)
    half = make()
    half.student.set_weights(weights[0])
    half.teacher.set_weights(weights[1])
    history = fit(half, given(make, x), y)
    scaled = isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (name == "mixed_float16")
    tolerance = {"mixed_float16": 0.02, "mixed_bfloat16": 0.1}[name]
    for term in ("loss", "task_loss"):
        np.testing.assert_allclose(history[term], expected[term], rtol=tolerance, err_msg=term)
    for term, values in history.items():
        assert np.isfinite(values).all(), term
    assert all(np.isfinite(np.asarray(w, "float32")).all() for w in half.student.get_weights())
    assert all(str(w.dtype) == "float32" for w in half.student.weights if "seed" not in w.path)


@pytest.mark.parametrize("name", POLICIES)
def test_rows_at_the_edge(name, policy):
    x, y = data()
    for side in ("teacher", "student"):
        for start, value in ((0, 0), (2, 3), (4, 500), (6, 1e-7)):
            x[side][start : start + 2] = value
    policy(name)
    for make in (everything, projected):
        distiller = make()
        history = fit(distiller, given(make, x), y)
        for term, values in history.items():
            assert np.isfinite(values).all(), (make, term)
        for weight in distiller.student.get_weights():
            assert np.isfinite(np.asarray(weight, "float32")).all(), make


@pytest.mark.parametrize("name", POLICIES)
def test_golden_edge_rows(name, policy, golden):
    """Rows of zeros, constants and extremes, as the reference has them, are its features here."""
    file = golden("fdcmkd_edge_b8_c6")
    x = {"teacher": file["teacher_v"], "student": file["student_a"]}
    policy(name)

    def model():
        feature = keras.layers.Dense(512, use_bias=False, kernel_initializer="identity")
        return keras.Sequential([keras.Input((512,)), feature, keras.layers.Dense(6)])

    distiller = FrequencyDistiller(model(), model(), band_task_weight=1.0)
    history = fit(distiller, x, file["labels"].astype("int32"))
    for term, values in history.items():
        assert np.isfinite(values).all(), term
    for weight in distiller.student.get_weights():
        assert np.isfinite(np.asarray(weight, "float32")).all()


@pytest.mark.skipif(BACKEND == "torch", reason="`torch.compile` takes minutes")
@pytest.mark.parametrize("make", MAKERS)
def test_compiled_steps_equal_eager_ones(make):
    x, y = data()
    histories = []
    for options in ({"jit_compile": True}, {"jit_compile": False, "run_eagerly": True}):
        keras.utils.set_random_seed(0)
        histories.append(fit(make(), given(make, x), y, **options))
    for term, values in histories[0].items():
        np.testing.assert_allclose(histories[1][term], values, rtol=2e-4, atol=1e-5, err_msg=term)


@pytest.mark.parametrize("make", [everything, jointly])
def test_no_retracing(make):
    """One trace for whole batches, one for a partial last one, none in the next epochs."""
    x, y = data(20)
    distiller = make()
    traces = []
    original = distiller.compute_loss

    def compute_loss(*args, **kwargs):
        traces.append(1)
        return original(*args, **kwargs)

    distiller.compute_loss = compute_loss
    fit(distiller, given(make, x), y, epochs=1)
    first = len(traces)
    distiller.fit(given(make, x), y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    if BACKEND == "torch":  # Eager: once a batch, after one to build the state of the metrics.
        assert (first, len(traces)) == (1 + 3, 1 + 3 + 9)
    else:
        # Keras traces once more to build the state of the metrics.
        assert first <= 3
        assert len(traces) == first


def test_one_loss_alone_compiles():
    """No loss leans on another's casts."""
    x, y = data()
    for loss in (KD(), DKD(), DIST(), PKD(), RKD(), FrequencyDistillation(), FitNet()):
        distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[loss])
        options = {} if BACKEND == "torch" else {"jit_compile": True}
        sides = {side: x[side] for side in ("teacher", "student")}
        assert np.isfinite(fit(distiller, sides, y, epochs=1, **options)["loss"]).all()
