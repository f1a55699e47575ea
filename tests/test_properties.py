"""Properties of bands and losses over drawn shapes, dtypes, values and options.

Shapes come from a few, so that a backend which compiles for each shape does so a few times.
"""

import contextlib

import keras
import numpy as np
import pytest
from conftest import gradient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from keras_fdkd.layers import FrequencySplit, Standardize
from keras_fdkd.losses import AT, DIST, DKD, KD, PKD, RKD, FrequencyDistillation
from keras_fdkd.losses import LogMeanSquaredError as LogMSE

BACKEND = keras.config.backend()
JAX = BACKEND == "jax"
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}
# JAX has float64 only where it is switched on. On PyTorch, `ops.mean` and others of Keras 3.15
# compute it in float32; on TensorFlow it is what it says.
EPSILON |= {"tensorflow": {"float64": 2.0**-52}, "torch": {"float64": 2.0**-23}}.get(BACKEND, {})


def examples(count):
    return settings(max_examples=count, deadline=None, derandomize=True)


def array(x):
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32" if JAX else "float64")), "float64")


def tensor(x, dtype):
    return ops.cast(ops.convert_to_tensor(x, "float32" if JAX else "float64"), dtype)


@st.composite
def normals(draw, shape, low=-6, high=6):
    """Random values of some size around some mean: no row is constant."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    size, mean = 2.0 ** draw(st.integers(low, high)), draw(st.sampled_from([0.0, 1.0, -3.0]))
    return (size * (rng.normal(size=shape) + mean)).astype("float32")


def edges(shape):
    """Few different values: zeros, equal rows, constants."""
    return hnp.arrays("float32", shape, elements=st.sampled_from([0.0, 1.0, -2.0, 0.1, 6.5, 300.0]))


def values(shape):
    return st.one_of(normals(shape), edges(shape))


# Bands


SPLITS = [((2, 7), 1), ((3, 16), -1), ((2, 5, 6), 1), ((2, 4, 3, 8), -3)]


@st.composite
def splits(draw):
    """A feature of some dtype with a split that leaves no band empty."""
    shape, axis = draw(st.sampled_from(SPLITS))
    bins = shape[axis] // 2
    low = draw(st.integers(1, bins - 1))
    cutoff = (low + draw(st.floats(-0.45, 0.45))) / bins
    dtype = draw(st.sampled_from(sorted(EPSILON)))
    return tensor(draw(values(shape)), dtype), axis, cutoff, low, dtype


@given(splits(), st.booleans())
@examples(200)
def test_bands_add_up(drawn, include_dc):
    """To the input, minus its mean unless the low band keeps it."""
    x, axis, cutoff, _, dtype = drawn
    bands = FrequencySplit(cutoff, axis, include_dc, dtype=dtype)(x)
    assert {keras.backend.standardize_dtype(band.dtype) for band in bands} == {dtype}
    x = array(x)
    expected = x if include_dc else x - x.mean(axis, keepdims=True)
    error = np.abs(sum(map(array, bands)) - expected)
    assert error.max() <= 4 * EPSILON[dtype] * np.abs(x).max()


@given(splits())
@examples(200)
def test_energies_of_bands(drawn):
    """Parseval: those of the bins of NumPy's transform, and together that of the centred input."""
    x, axis, cutoff, low_bins, dtype = drawn
    low, high = (array(band) for band in FrequencySplit(cutoff, axis, dtype=dtype)(x))
    x = array(x)
    size = x.shape[axis]
    power = np.moveaxis(np.abs(np.fft.rfft(x, axis=axis)) ** 2, axis, -1) / size
    twice = np.full(power.shape[-1], 2.0)
    twice[0] = 1
    twice[-1] -= size % 2 == 0  # The bin of the highest frequency has no conjugate.
    power = power * twice
    energies = [np.sum(band**2, axis=axis) for band in (low, high)]
    # Rounding acts on the amplitudes, whose size is that of the largest value.
    limit = np.sqrt(size) * 8 * EPSILON[dtype] * np.abs(x).max()
    wanted = [power[..., 1 : low_bins + 1].sum(-1), power[..., low_bins + 1 :].sum(-1)]
    for energy, expected in zip(energies, wanted, strict=True):
        assert np.all(np.abs(np.sqrt(energy) - np.sqrt(expected)) <= limit)
    centred = np.sum((x - x.mean(axis, keepdims=True)) ** 2, axis=axis)
    assert np.all(np.abs(np.sqrt(sum(energies)) - np.sqrt(centred)) <= limit)


@given(st.sampled_from(SPLITS), st.data(), st.sampled_from(["variance", "norm"]))
@examples(150)
def test_standardized_rows(drawn, data, scale):
    """Mean 0 and size 1 whatever scale and shift came in; the sign of the scale is kept."""
    shape, axis = drawn
    x = data.draw(normals(shape))
    factor = data.draw(st.sampled_from([0.125, 3.0, -5.0]))
    layer = Standardize(scale, axis)
    y, other = array(layer(x)), array(layer((factor * x + x.std()).astype("float32")))
    size = y.std(axis) if scale == "variance" else np.linalg.norm(y, axis=axis)
    np.testing.assert_allclose(size, 1, rtol=1e-5)
    np.testing.assert_allclose(y.mean(axis), 0, atol=1e-5)
    np.testing.assert_allclose(other, np.sign(factor) * y, atol=3e-4)


@given(st.sampled_from(SPLITS), st.floats(0.0625, 1e4, width=32), st.booleans())
@example(((2, 7), 1), 0.1, True)
@examples(60)
def test_constant_rows_have_no_direction(drawn, value, split):
    """Rounding of the mean must not become a feature of its own."""
    shape, axis = drawn
    x = np.full(shape, value, "float32")
    if split:
        for band in FrequencySplit(0.5, axis)(x):
            assert not array(Standardize("norm", axis, center=False)(band)).any()
    else:
        assert not array(Standardize("norm", axis)(x)).any()


# Losses


VECTORS, MAPS = [(2, 3), (5, 8)], [(2, 4, 3)]
LABELLED = ("DKD",)
POSITIVE = st.sampled_from([0.5, 1.0, 4.0])
WEIGHT = st.sampled_from([0.0, 0.5, 3.0])


@st.composite
def frequency(draw, standardize=("variance", "norm", None)):
    whole = draw(st.booleans())
    low_weight = draw(POSITIVE)
    return FrequencyDistillation(
        None if whole else draw(st.sampled_from([0.4, 0.5, 0.6])),
        standardize=draw(st.sampled_from(standardize)),
        low_weight=low_weight,
        high_weight=0 if whole else draw(WEIGHT),
        low_loss=draw(st.sampled_from(["mse", "log_mse"])),
        high_loss=draw(st.sampled_from(["mse", "log_mse"])),
    )


class Reduced:
    """`LogMeanSquaredError` in the form of the others."""

    def compute_loss(self, teacher, student, y=None):
        return LogMSE()(teacher, student)

    def call(self, teacher, student, y=None):
        return LogMSE(reduction="none")(teacher, student)


# A loss with drawn options, and the shapes that it takes.
LOSSES = {
    "KD": (st.builds(KD, POSITIVE), [*VECTORS, *MAPS]),
    "DKD": (st.builds(DKD, WEIGHT, WEIGHT, POSITIVE), VECTORS),
    "DIST": (st.builds(DIST, WEIGHT, WEIGHT, POSITIVE), [*VECTORS, *MAPS]),
    "PKD": (st.builds(PKD), [*VECTORS, *MAPS]),
    "AT": (st.builds(AT, st.sampled_from([1, 1.5, 2, 4])), [*MAPS, (3, 3, 3, 2)]),
    "RKD": (st.builds(RKD, WEIGHT, WEIGHT), VECTORS),
    "frequency": (frequency(), [(5, 8), (2, 3, 4)]),
    "log_mse": (st.just(Reduced()), [*VECTORS, *MAPS]),
}


@st.composite
def comparisons(draw, name, how=values):
    """A loss, what it compares, and labels if it takes some."""
    strategy, shapes = LOSSES[name]
    shape = draw(st.sampled_from(shapes))
    y = None
    if name in LABELLED and draw(st.booleans()):
        y = np.array(draw(st.lists(st.integers(-1, 2), min_size=shape[0], max_size=shape[0])))
    return draw(strategy), draw(how(shape)), draw(how(shape)), y


def scalar(loss, teacher, student, y=None):
    return float(loss.compute_loss(teacher, student, y=y))


def per_sample(loss, teacher, student, y):
    return array(loss.call(teacher, student, y))


def close(a, b, scale=1.0):
    return abs(a - b) <= 2e-4 * max(abs(a), abs(b)) + 2e-5 * scale


@pytest.mark.parametrize("name", LOSSES)
@given(data=st.data())
@examples(60)
def test_losses_are_smallest_at_the_teacher(name, data):
    """Finite, never negative, and 0 where the student is the teacher.

    `DIST` is 0 there as far as something correlates: what is constant never does, whoever it is
    compared with, so that its part is the same for all students.
    """
    drawn = data.draw(comparisons(name))
    loss, teacher, student, y = drawn
    found, own = scalar(loss, teacher, student, y), scalar(loss, teacher, teacher.copy(), y)
    assert np.isfinite(found)
    rounding = 1e-4 if name in ("KD", "DKD", "DIST") else 0.0
    assert found >= -rounding
    assert own <= found + rounding
    if name != "DIST":
        assert abs(own) <= rounding


@given(comparisons("DIST", lambda shape: normals(shape, -1, 1)))
@examples(40)
def test_dist_of_the_teacher_is_zero(drawn):
    """But for the 1e-8 in its denominator, which small probabilities feel."""
    loss, teacher, _, _ = drawn
    p = np.exp(teacher.astype("float64") / loss.temperature)
    p = (p / p.sum(-1, keepdims=True)).reshape(-1, p.shape[-1])
    rows, columns = (
        np.mean(1e-8 / (np.sum((p - p.mean(axis, keepdims=True)) ** 2, axis) + 1e-8))
        for axis in (1, 0)
    )
    expected = loss.temperature**2 * (loss.inter_weight * rows + loss.intra_weight * columns)
    found = scalar(loss, teacher, teacher.copy())
    assert abs(found - expected) <= 1e-5 * loss.temperature**2 + 1e-2 * expected


# Squares, absolute differences and products do not know which side is which; a divergence does.
SYMMETRIC = ("DIST", "PKD", "AT", "RKD", "frequency", "log_mse")


@pytest.mark.parametrize("name", SYMMETRIC)
@given(data=st.data())
@examples(35)
def test_symmetric_losses(name, data):
    """To the last bit: the sides enter by `(a - b) ** 2`, `abs(a - b)` or `a * b` alone."""
    drawn = data.draw(comparisons(name))
    loss, teacher, student, _ = drawn
    assert scalar(loss, teacher, student) == scalar(loss, student, teacher)


@pytest.mark.parametrize("loss", [KD(1.0), DKD(1, 0), DKD(0, 1)])
def test_divergences_are_not_symmetric(loss):
    teacher, student = np.array([[[4, 0, -1]], [[0.5, 0.1, 1]]], "float32")
    y = np.array([0])
    assert not close(scalar(loss, teacher, student, y), scalar(loss, student, teacher, y))


def shifted_rows(x, factor, shift):
    """Softmax does not see what is added to all logits of a sample."""
    return x + shift


def scaled(x, factor, shift):
    return factor * x


def scaled_and_shifted(x, factor, shift):
    return factor * x + shift


def channels(x, factor, shift):
    """Each channel by another factor and another shift."""
    steps = np.arange(1, x.shape[-1] + 1)
    return factor * x / steps + shift * steps


def turned(x, factor, shift):
    """Distances and angles know neither place, size nor direction."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(x.shape[-1],) * 2))
    return factor * x @ q + shift


INVARIANT = {
    "KD": shifted_rows,
    "DKD": shifted_rows,
    "DIST": shifted_rows,
    "PKD": channels,
    "AT": scaled,
    "RKD": turned,
    "frequency": scaled_and_shifted,
}


@pytest.mark.parametrize("name", INVARIANT)
@given(data=st.data())
@examples(35)
def test_what_losses_do_not_see(name, data):
    """On either side, by as much as their docstrings say."""
    how = lambda shape: normals(shape, 0, 2)  # noqa: E731
    strategy = comparisons(name, how)
    if name == "frequency":
        cut = frequency(["variance", "norm"])
        strategy = st.tuples(cut, how((5, 8)), how((5, 8)), st.none())
    drawn = data.draw(strategy)
    factor = data.draw(st.sampled_from([0.25, 3.0]))
    shift = data.draw(st.sampled_from([-2.0, 0.5]))
    loss, teacher, student, y = drawn
    found = scalar(loss, teacher, student, y)
    for side in (0, 1):
        pair = [teacher, student]
        pair[side] = INVARIANT[name](pair[side], factor, shift).astype("float32")
        assert close(scalar(loss, *pair, y), found, scale=10), side


@given(st.data(), st.sampled_from(VECTORS))
@examples(40)
def test_compression_is_odd(data, shape):
    """`LogMeanSquaredError` sees sizes, but changing all signs changes nothing."""
    teacher, student = data.draw(values(shape)), data.draw(values(shape))
    assert scalar(Reduced(), teacher, student) == scalar(Reduced(), -teacher, -student)


@pytest.mark.parametrize("name", LOSSES)
@given(data=st.data())
@examples(35)
def test_order_of_the_batch(name, data):
    """Each sample has its loss wherever it stands, and the batch its mean."""
    drawn = data.draw(comparisons(name))
    random = data.draw(st.randoms(use_true_random=False))
    loss, teacher, student, y = drawn
    order = list(range(len(teacher)))
    random.shuffle(order)
    moved = teacher[order], student[order], None if y is None else y[order]
    assert close(scalar(loss, *moved), scalar(loss, teacher, student, y))
    if name != "frequency":  # It gives the mean alone.
        expected = per_sample(loss, teacher, student, y)[order]
        np.testing.assert_allclose(per_sample(loss, *moved), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@given(data=st.data())
@examples(10)
def test_half_precision_is_computed_in_full(name, dtype, data):
    """What comes in half precision counts as the same numbers in float32."""
    drawn = data.draw(comparisons(name))
    loss, *pair, y = drawn
    half = [tensor(x, dtype) for x in pair]
    full = [ops.cast(x, "float32") for x in half]
    assert scalar(loss, *half, y) == scalar(loss, *full, y)


# Gradients


@contextlib.contextmanager
def floats(dtype):
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("seed", range(2))
def test_gradients_match_finite_differences(seed):
    """Of all losses at once, each of a student of its own, along random directions.

    In float64 on TensorFlow, the one backend on which Keras computes in it throughout.
    """
    rng = np.random.default_rng(seed)
    dtype = "float64" if BACKEND == "tensorflow" else "float32"
    # Differences over one and two steps cancel the error up to `step ** 4`. Rounding adds the
    # precision of the loss over the step.
    step, exact = (1e-3, 1e-7) if dtype == "float64" else (2e-2, 1e-3)
    with floats(dtype):
        losses = [KD(2.0), DKD(1.0, 2.0, 2.0), DIST(1.0, 2.0, 2.0), PKD(), RKD(), AT(4), Reduced()]
        losses += [
            FrequencyDistillation(0.5, standardize=how, low_loss="mse", high_loss=high)
            for how, high in [("variance", "log_mse"), (None, "mse")]
        ]
        shape = (4, 6)
        teacher, student = rng.normal(size=(2, len(losses), *shape)).astype(dtype)
        # The second derivative of the compression jumps at 0: keep a distance.
        student += np.sign(student) * 0.1
        y = np.array([0, 5, 2, -1])

        def term(i, x):
            loss = losses[i]
            pair = [ops.convert_to_tensor(teacher[i], dtype), x]
            if isinstance(loss, AT):
                pair = [ops.reshape(side, (4, 3, 2)) for side in pair]
            return loss.compute_loss(*pair, y=y if isinstance(loss, DKD) else None)

        def along(i, way, size):
            ends = (
                float(term(i, ops.convert_to_tensor((student[i] + end * way).astype(dtype))))
                for end in (size, -size)
            )
            return (next(ends) - next(ends)) / (2 * size)

        found = gradient(lambda x: sum(term(i, x[i]) for i in range(len(losses))), student)
        assert found.dtype == dtype
        for i, loss in enumerate(losses):
            size = max(1.0, float(term(i, ops.convert_to_tensor(student[i]))))
            for _ in range(3):
                way = rng.normal(size=shape)
                slope = (4 * along(i, way, step) - along(i, way, 2 * step)) / 3
                assert abs(slope - (found[i] * way).sum()) <= exact * size, (i, loss)
