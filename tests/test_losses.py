"""The losses without layers of their own, and FitNet: reference numbers, edges, labels, weights."""

import keras
import numpy as np
import pytest
from conftest import assert_golden, classifier, cross_entropy, gradient, momentum_of, pairs
from keras import ops
from keras.distillation import FeatureDistillation, LogitsDistillation

from keras_fdkd import CrossModalDistiller
from keras_fdkd.layers import FeatureRegressor
from keras_fdkd.losses import AT, DIST, DKD, KD, PKD, RKD, FitNet


class Probe(keras.Model):
    """Values a sample and gradients of several losses, each of a student of its own.

    The students are the weights: after one step of SGD with momentum and rate 1 the momentum is
    minus the gradient.
    """

    def __init__(self, losses, teachers, students, ys):
        super().__init__()
        self.cases = list(zip(losses, teachers, ys, strict=True))
        self.students = [self._weight(x, f"student_{i}") for i, x in enumerate(students)]
        self.found = [
            self._weight(np.zeros(len(x)), f"found_{i}", trainable=False)
            for i, x in enumerate(students)
        ]
        self.built = True

    def _weight(self, value, name, **kwargs):
        weight = self.add_weight(shape=value.shape, initializer="zeros", name=name, **kwargs)
        weight.assign(value)
        return weight

    def call(self, inputs):
        return [student + 0.0 for student in self.students]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        total = 0.0
        for (loss, teacher, y), student, found in zip(self.cases, y_pred, self.found, strict=True):
            values = loss.call(ops.convert_to_tensor(teacher), student, y)
            found.assign(ops.stop_gradient(values))
            total = total + ops.mean(values)
        return total


def probe(losses, teachers, students, ys=None):
    """Values a sample and the gradient of their mean, for each loss."""
    model = Probe(losses, teachers, students, ys or [None] * len(losses))
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9))
    model.fit(np.zeros((1, 1), "float32"), verbose=0, batch_size=1)
    values = [ops.convert_to_numpy(found) for found in model.found]
    momenta = [momentum_of(model.optimizer, student) for student in model.students]
    return values, [-ops.convert_to_numpy(momentum) for momentum in momenta]


def assert_reference(losses, teacher, student, references, slopes, y=None):
    """Losses of one pair: one value a sample, whose mean is the reference's scalar; gradients."""
    count = len(losses)
    found = probe(losses, [teacher] * count, [student] * count, [y] * count)
    for values, slope, reference, expected in zip(*found, references, slopes, strict=True):
        assert_golden(values.mean(), reference)
        assert_golden(slope, expected)


def values(loss, teacher, student, y=None):
    """The loss of each sample."""
    return ops.convert_to_numpy(loss.call(teacher, student, y))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Reference numbers


@pytest.mark.parametrize("name", ["kd_b64_c6", "kd_b8_c50"])
def test_kd(golden, name):
    data = golden(name)
    teacher, student = data["teacher"], data["student"]
    losses = [KD(float(temperature)) for temperature in data["T"]]
    assert_reference(losses, teacher, student, data["loss_f64"], data["grad_student_f64"])


def test_what_keras_makes_of_kd(golden):
    """Why there is a `KD`. If Keras mends its own, this fails, and `KD` can go."""
    data = golden("kd_b64_c6")
    teacher, student = (ops.convert_to_tensor(data[side]) for side in ("teacher", "student"))
    temperatures = [float(temperature) for temperature in data["T"]]
    # Named by a string, as by default, the divergence is taken of raw logits: far off.
    for temperature, reference in zip(temperatures, data["loss_f64"], strict=True):
        found = float(LogitsDistillation(temperature).compute_loss(teacher, student))
        assert abs(found - reference) > reference
    # As an object it is right, ...
    losses = [LogitsDistillation(t, keras.losses.KLDivergence()) for t in temperatures]
    for loss, reference in zip(losses, data["loss_f64"], strict=True):
        assert_golden(loss.compute_loss(teacher, student), reference)
    # ... but probabilities below 1e-7 are cut off, and those who need it most learn nothing.
    confident = np.array([[20.0, -20.0, 0.0]], "float32")
    target = ops.convert_to_tensor(-confident)
    keras_own = gradient(lambda x: losses[0].compute_loss(target, x), confident)
    ours = gradient(lambda x: KD(1.0).compute_loss(target, x), confident)
    assert np.abs(keras_own).max() < 1e-6
    np.testing.assert_allclose(ours, [[1.0, -1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("name", ["featmse_b8_d384", "featmse_b8_d257", "featmse_map_4x7x7x32"])
def test_feature_mse_of_keras(golden, name):
    data = golden(name)
    loss = FeatureDistillation("mse")
    teacher = ops.convert_to_tensor(data["teacher"])
    found = loss.compute_loss(teacher, ops.convert_to_tensor(data["student"]))
    assert_golden(found, data["loss_f64"])
    found = gradient(lambda x: loss.compute_loss(teacher, x), data["student"])
    assert_golden(found, data["grad_student_f64"])


@pytest.mark.parametrize("name", ["dkd_b64_c6", "dkd_b8_c50", "dkd_b8_c2_confident"])
def test_dkd(golden, name):
    data = golden(name)
    teacher, student, y = data["teacher"], data["student"], data["labels"].astype("int32")
    settings = zip(data["alpha"], data["beta"], data["T"], strict=True)
    losses = [DKD(*map(float, setting)) for setting in settings]
    references, slopes = list(data["loss_f64"]), list(data["grad_student_f64"])
    for key, alpha, beta in (("tckd", 1, 0), ("nckd", 0, 1)):  # The parts, at the first T.
        losses.append(DKD(alpha, beta, float(data["T"][0])))
        references.append(data[f"{key}_f64"][0])
        slopes.append(data[f"grad_{key}_f64"][0])
    assert_reference(losses, teacher, student, references, slopes, y)


@pytest.mark.parametrize("name", ["dist_b64_c6", "dist_b8_c50", "dist_map_4x5x7x6"])
def test_dist(golden, name):
    data = golden(name)
    teacher, student = data["teacher"], data["student"]
    settings = zip(*(np.atleast_1d(data[key]) for key in ("beta", "gamma", "tau")), strict=True)
    losses = [DIST(*map(float, setting)) for setting in settings]
    references = list(np.atleast_1d(data["loss_f64"]))
    slopes = list(data["grad_student_f64"].reshape(-1, *student.shape))
    if "inter_f64" in data:  # The parts, at the last temperature.
        for key, inter, intra in (("inter", 1, 0), ("intra", 0, 1)):
            losses.append(DIST(inter, intra, float(data["tau"][-1])))
            references.append(data[f"{key}_f64"][-1])
            slopes.append(data[f"grad_{key}_f64"][-1])
    assert_reference(losses, teacher, student, references, slopes)


PKD_FILES = ["map_4x7x7x32", "vec_b64_d512", "vec_b8_d384", "vec_b8_d257", "map_resize_4to8"]


@pytest.mark.parametrize("name", PKD_FILES)
def test_pkd(golden, name):
    data = golden(f"pkd_{name}")
    references = [data["loss_f64"]], [data["grad_student_f64"]]
    assert_reference([PKD()], data["teacher"], data["student"], *references)


def test_at(golden):
    data = golden("at_two_stage")
    stages = range(int(data["n_stages"]))
    teachers, students = ([data[f"{side}_{i}"] for i in stages] for side in ("teacher", "student"))
    values, slopes = probe([AT(int(data["p"]))] * len(stages), teachers, students)
    for i in stages:
        assert_golden(values[i].mean(), data["loss_stage_f64"][i])
        assert_golden(slopes[i], data[f"grad_student_{i}_f64"])


@pytest.mark.parametrize("name", ["rkd_b8_d384", "rkd_b64_d512"])
def test_rkd(golden, name):
    data = golden(name)
    losses = {"student": RKD(), "distance": RKD(1, 0), "angle": RKD(0, 1)}
    teachers, students = [data["teacher"]] * 3, [data["student"]] * 3
    values, slopes = probe(list(losses.values()), teachers, students)
    for key, value, slope in zip(losses, values, slopes, strict=True):
        assert_golden(value.mean(), data[f"{'loss' if key == 'student' else key}_f64"])
        if f"grad_{key}_f64" in data:
            assert_golden(slope, data[f"grad_{key}_f64"])


class Hints(keras.Model):
    """Trains a feature itself, along with the adapter of a loss."""

    def __init__(self, loss, teacher, student):
        super().__init__()
        self.distillation = loss
        self.adapter = loss.build_adapter(teacher, student)
        self.feature = self.add_weight(shape=student.shape, initializer="zeros", name="feature")
        self.feature.assign(student)
        self.built = True

    def call(self, inputs, training=False):
        return self.adapter(inputs, self.feature + 0.0, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 100.0 * self.distillation.compute_loss(*y_pred)


@pytest.mark.parametrize("name", ["fitnet_reg1x1", "fitnet_reg3x3s2"])
def test_fitnet(golden, name):
    data = golden(name)
    teacher, student = data["teacher"], data["student"]
    model = Hints(FitNet(), teacher, student)
    regressor = model.adapter.regressor
    regressor.linear.set_weights([data["conv_kernel"], data["conv_bias"]])
    norm = regressor.batch_norm
    norm.gamma.assign(data["bn_gamma"])
    norm.beta.assign(data["bn_beta"])
    given, regressed = model.adapter(teacher, student, training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(given), teacher)
    assert_golden(ops.convert_to_numpy(ops.stop_gradient(regressed)), data["regressed_f64"])

    channels = teacher.shape[-1]
    norm.moving_mean.assign(np.zeros(channels))
    norm.moving_variance.assign(np.ones(channels))
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9))
    history = model.fit(teacher, batch_size=len(teacher), shuffle=False, verbose=0).history
    assert_golden(history["loss"][0], data["loss_feat_weighted_f64"])
    variables = {
        "student": model.feature,
        "conv_kernel": regressor.linear.kernel,
        "bn_gamma": norm.gamma,
        "bn_beta": norm.beta,
    }
    for key, variable in variables.items():
        found = -ops.convert_to_numpy(momentum_of(model.optimizer, variable))
        assert_golden(found, data[f"grad_{key}_f64"])
    assert_golden(ops.convert_to_numpy(norm.moving_mean), data["bn_running_mean_f64"])
    # The reference's running variance is unbiased, Keras's is not.
    count = np.prod(teacher.shape[:-1])
    biased = 0.9 + (data["bn_running_var_f64"] - 0.9) * (count - 1) / count
    assert_golden(ops.convert_to_numpy(norm.moving_variance), biased)


# Formulas


def test_kd_is_the_sum_of_the_parts_of_dkd():
    """KD = TCKD + (1 - p_y of the teacher) NCKD, sample by sample."""
    teacher, student, y = draw(4, 3), draw(4, 3, seed=1), np.array([0, 2, 1, 2])
    p = np.exp(teacher / 2)
    others = 1 - (p / p.sum(1, keepdims=True))[np.arange(4), y]
    tckd, nckd = (values(DKD(*weights, 2.0), teacher, student, y) for weights in ((1, 0), (0, 1)))
    expected = values(KD(2.0), teacher, student)
    np.testing.assert_allclose(tckd + others * nckd, expected, rtol=1e-5)


def test_further_axes_are_averaged():
    """A map of logits is the mean over its pixels."""
    teacher, student = draw(2, 2, 1, 3), draw(2, 2, 1, 3, seed=1)
    pixels = [x.reshape(4, 3) for x in (teacher, student)]
    for loss in (KD(), DIST(2.0, 0.0)):
        expected = values(loss, *pixels).reshape(2, 2).mean(1)
        np.testing.assert_allclose(values(loss, teacher, student), expected, rtol=1e-5)
    within = DIST(0.0, 2.0)
    expected = values(within, *pixels)
    assert (expected == expected[0]).all()
    np.testing.assert_allclose(values(within, teacher, student), expected[:2], rtol=1e-5)


def test_pkd_ignores_scale_and_shift():
    x = draw(4, 3, 3, 2)
    scales, shifts = np.array([0.1, 30.0], "float32"), np.array([5.0, -2.0], "float32")
    assert values(PKD(), x, x * scales + shifts).max() < 1e-7
    np.testing.assert_allclose(values(PKD(), x, -x).mean(), 2 * 35 / 36, rtol=1e-5)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_at_of_sequences(p):
    """Maps of one axis; pooling to a size that is no divisor has overlapping bins."""
    teacher, student = draw(2, 7, 3), draw(2, 10, 5, seed=1)
    bins = [(0, 2), (1, 3), (2, 5), (4, 6), (5, 8), (7, 9), (8, 10)]
    pooled = np.stack([student[:, a:b].mean(1) for a, b in bins], 1)

    def attention(x):
        a = (np.abs(x.astype("float64")) ** p).mean(-1)
        return a / np.linalg.norm(a, axis=1, keepdims=True)

    expected = ((attention(pooled) - attention(teacher)) ** 2).mean(1)
    np.testing.assert_allclose(values(AT(p), teacher, student), expected, rtol=1e-5)
    np.testing.assert_allclose(values(AT(p), student, teacher), expected, rtol=1e-5)


def test_at_pools_each_axis_where_it_is_larger():
    x = draw(2, 6, 3, 4)
    wide, high = np.repeat(x[:, ::2], 2, axis=2), x
    expected = values(AT(), x.reshape(2, 3, 2, 3, 4).mean(2), x[:, ::2])
    np.testing.assert_allclose(values(AT(), wide, high), expected, rtol=1e-5)


def test_rkd_sample_by_sample():
    """The plain double and triple sums, with two samples that are equal in the student."""
    teacher, student = draw(5, 4).astype("float64"), draw(5, 3, seed=1).astype("float64")
    student[3] = student[1]

    def relations(x):
        n = len(x)
        d = np.array([[np.linalg.norm(x[j] - x[i]) for j in range(n)] for i in range(n)])
        e = np.array([[(x[j] - x[i]) / (d[i, j] or 1) for j in range(n)] for i in range(n)])
        return d / (d.sum() / (n * n - n)), np.einsum("ijd,ikd->ijk", e, e)

    def huber(x):
        return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)

    (d_t, a_t), (d_s, a_s) = relations(teacher), relations(student)
    distance, angle = huber(d_s - d_t).mean(1), huber(a_s - a_t).mean((1, 2))
    pair = teacher.astype("float32"), student.astype("float32")
    np.testing.assert_allclose(values(RKD(1, 0), *pair), distance, rtol=1e-4)
    np.testing.assert_allclose(values(RKD(0, 1), *pair), angle, rtol=1e-4)
    np.testing.assert_allclose(values(RKD(), *pair), 25 * distance + 50 * angle, rtol=1e-4)


# Labels


def test_labels_of_dkd():
    teacher, student, y = draw(4, 3), draw(4, 3, seed=1), np.array([2, 0, 1, 1], "int32")
    loss = DKD()
    expected = values(loss, teacher, student, y)
    one_hot = np.eye(3, dtype="float32")[y]
    for labels in (y, y.astype("int64"), y.astype("float32"), y[:, None], one_hot):
        np.testing.assert_allclose(values(loss, teacher, student, labels), expected, rtol=1e-6)
    best = teacher.argmax(1)
    assert (best != y).any()
    unlabelled = values(loss, teacher, student, best)
    assert not np.allclose(unlabelled, expected)
    np.testing.assert_array_equal(values(loss, teacher, student), unlabelled)
    np.testing.assert_array_equal(values(loss, teacher, student, np.full(4, -1)), unlabelled)
    some = values(loss, teacher, student, np.array([2, -1, 1, -1]))
    np.testing.assert_allclose(some, np.where([1, 0, 1, 0], expected, unlabelled), rtol=1e-6)
    # Two classes: (batch, 2) is one-hot, (batch, 1) is not.
    pair = teacher[:, :2], student[:, :2]
    binary = [values(loss, *pair, labels) for labels in (y % 2, y[:, None] % 2, np.eye(2)[y % 2])]
    np.testing.assert_allclose(binary[1:], [binary[0]] * 2, rtol=1e-6)


def test_labels_that_are_no_classes():
    teacher, student = draw(4, 3), draw(4, 3, seed=1)
    for wrong in ([0, 1, 2, 3], [0.0, 0.5, 1.0, 2.0], [[0], [1], [2], [7]], [0.0, np.nan, 1, 1]):
        for labels in (np.array(wrong), np.array(wrong, "float32")):
            with pytest.raises(ValueError, match="integers below 3.*Received: labels from"):
                DKD().compute_loss(teacher, student, labels)
    # Tensors are not looked at: their samples have no loss and no gradient, the others both.
    y = np.array([2, 3, 1, 255], "int32")
    found, (slope,) = probe([DKD()], [teacher], [student], [ops.convert_to_tensor(y)])
    expected = values(DKD(), teacher, student, np.array([2, -1, 1, -1]))
    np.testing.assert_allclose(found[0][[0, 2]], expected[[0, 2]], rtol=1e-6)
    assert np.isnan(found[0][[1, 3]]).all()
    assert slope[[0, 2]].any()
    assert not slope[[1, 3]].any()


@pytest.mark.parametrize("y", [np.zeros((4, 5)), np.zeros((4, 2, 3)), {"a": np.zeros(4)}])
def test_labels_of_another_shape(y):
    with pytest.raises(ValueError, match="or one-hot, for logits of shape"):
        DKD().call(draw(4, 3), draw(4, 3), y)


# Edges


def hard_logits():
    """Confident, equal, constant and lonely predictions."""
    confident = 1000 * np.array([[1, -1, 0], [-1, 1, 0], [1, 1, -1], [0, 0, 1]], "float32")
    constant = np.full((4, 3), 0.1, "float32")
    one_class = 1000 * np.eye(3, dtype="float32")[[0, 0, 0, 0]]
    return [
        (confident, -confident),
        (draw(4, 3), confident),
        (confident, confident),
        (constant, draw(4, 3)),
        (draw(4, 3), constant),
        (draw(4, 3), 0 * constant),
        (one_class, one_class[:, ::-1].copy()),
        (draw(1, 2), 1000 * draw(1, 2, seed=1)),
    ]


@pytest.mark.parametrize("loss", [KD(), DKD(), DIST(temperature=4.0)], ids=type)
def test_hard_logits(loss):
    teachers, students = zip(*hard_logits(), strict=True)
    found, slopes = probe([loss] * len(students), teachers, students)
    for case, (value, slope) in enumerate(zip(found, slopes, strict=True)):
        assert np.isfinite(value).all(), case
        assert np.isfinite(slope).all(), case
        assert np.abs(slope).max() < 100, case
    if not isinstance(loss, DIST):  # What underflows still counts.
        assert (found[0][:2] > 1000).all()
        assert (np.abs(slopes[0][:2]).max(1) > 0.5).all()
    np.testing.assert_allclose(found[2], 0, atol=1e-5)
    if isinstance(loss, DIST):
        for constant in (4, 5):  # A constant student correlates with nothing, and stays.
            np.testing.assert_allclose(found[constant], 32)
            assert not slopes[constant].any()
        assert (found[7] >= 16).all()  # One sample has no correlation within classes.


def infinite_logits():
    """Masked classes on one side or both, and logits that leave float32 in a sum."""
    inf, huge = np.float32(np.inf), np.float32(3e38)
    x, masked = draw(4, 3), draw(4, 3, seed=1)
    masked[0, 1] = masked[1, :2] = masked[2] = -inf
    both = draw(4, 3, seed=2)
    both[masked == -inf] = -inf
    up = x.copy()
    up[0, 2] = up[1, :2] = up[2] = huge
    mixed = np.array([[3e38, -inf, 0], [-inf, 9, -inf], [3e38, -3e38, 0], [-3e38, 3e38, 3e38]])
    cases = [masked, both, up, mixed.astype("float32"), x]
    sides = zip(*((teacher, student) for teacher in cases for student in cases), strict=True)
    return [np.concatenate(side) for side in sides]


@pytest.mark.parametrize(
    "loss",
    [KD(), KD(1e-3), KD(1e4), DKD(), DKD(1, 1, 1e-3), DIST(), DIST(1, 1, 1e-3)],
    ids=lambda loss: f"{loss.name}-{loss.temperature}",
)
def test_infinite_logits(loss):
    teacher, student = infinite_logits()
    ys = [None]
    if isinstance(loss, DKD):
        ys.append(np.random.default_rng(0).integers(3, size=len(teacher)))
    count = len(ys)
    found, slopes = probe([loss] * count, [teacher] * count, [student] * count, ys)
    for value, slope in zip(found, slopes, strict=True):
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()
        assert slope.any()
        assert not slope[np.isinf(student)].any()


@pytest.mark.parametrize("loss", [KD(2.0), DKD(1, 8, 2.0), DIST(1, 0, 2.0)], ids=type)
def test_masked_classes_are_no_classes(loss):
    """What is masked on both sides might as well not be there."""
    teacher, student, y = draw(4, 5), draw(4, 5, seed=1), np.array([0, 4, 3, 0], "int32")
    kept = [0, 3, 4]
    masked = [np.where(np.isin(np.arange(5), kept), x, -np.inf) for x in (teacher, student)]
    labels = (np.searchsorted(kept, y), y) if isinstance(loss, DKD) else (None, None)
    pairs = [(teacher[:, kept], student[:, kept]), [x.astype("float32") for x in masked]]
    if isinstance(loss, DIST):  # Which correlates entries, of which zeros are some.
        p = [np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in masked]
        expected = 4 * (1 - np.array([np.corrcoef(*rows)[0, 1] for rows in zip(*p, strict=True)]))
    else:
        expected = values(loss, *pairs[0], labels[0])
    np.testing.assert_allclose(values(loss, *pairs[1], labels[1]), expected, rtol=1e-5)
    slopes = [
        gradient(lambda v, t=t, y=y: ops.sum(loss.call(t, v, y)), np.array(s))
        for (t, s), y in zip(pairs, labels, strict=True)
    ]
    assert not slopes[1][:, [1, 2]].any()
    if not isinstance(loss, DIST):
        np.testing.assert_allclose(slopes[1][:, kept], slopes[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [KD(), DKD(), DIST(1, 0)], ids=type)
def test_broken_logits_stay_broken(loss):
    teacher, student = draw(4, 3), draw(4, 3, seed=1)
    for broken in (teacher, student):
        broken[1, 2] = np.nan
        found = values(loss, teacher, student)
        assert np.isnan(found[1])
        if not isinstance(loss, DIST):  # Which compares over the batch.
            assert np.isfinite(found[[0, 2, 3]]).all()


def test_two_classes_have_no_others():
    found, slopes = probe([DKD(0, 1)], [draw(4, 2)], [draw(4, 2, seed=1)], [np.array([0, 1, 1, 0])])
    assert not found[0].any()
    assert not slopes[0].any()


def hard_features(*shape):
    """Dead, constant, equal, lonely, tiny, huge and shifted features of a batch of 4."""
    x, teacher = draw(4, *shape), draw(4, *shape, seed=1)
    zero_row, constant, equal = x.copy(), x.copy(), x.copy()
    zero_row[1] = 0
    constant[..., 0] = 0.1
    equal[2] = equal[0]
    cases = [0 * x, np.full_like(x, 100.1), zero_row, constant, equal]
    cases += [1e-15 * x, 1e8 * x, x + 1000, teacher]
    students = [case.astype("float32") for case in cases]
    teachers = [teacher] * len(students) + [students[0], students[2], draw(1, *shape)]
    students += [teacher, x, draw(1, *shape, seed=1)]
    # The mean of seven equal numbers is not always that number.
    return [draw(7, *shape), *teachers], [np.full((7, *shape), 100.1, "float32"), *students]


@pytest.mark.parametrize(("loss", "shape"), [(PKD(), (3,)), (AT(1), (5, 2)), (RKD(), (3,))])
def test_hard_features(loss, shape):
    teachers, students = hard_features(*shape)
    found, slopes = probe([loss] * len(students), teachers, students)
    for case, (value, slope) in enumerate(zip(found, slopes, strict=True)):
        assert np.isfinite(value).all(), case
        assert np.isfinite(slope).all(), case
    assert not slopes[1].any()  # Zeros have no direction,
    if not isinstance(loss, AT):
        assert not slopes[0].any()  # nor have constants,
        assert not slopes[2].any()
    np.testing.assert_allclose(found[9], 0, atol=1e-7)  # and the teacher itself is right.
    if isinstance(loss, RKD):
        assert not found[-1].any()
    # Where nothing is dead, the gradient is not either.
    for case in (3, 4, 5, 8):
        assert slopes[case].any(), case


def test_half_precision():
    """Computed in float32: squares and sums leave the range of float16."""
    for loss, shape in ((KD(), (3,)), (DKD(), (3,)), (DIST(), (3,)), (AT(), (4, 3)), (RKD(), (3,))):
        half = keras.KerasTensor((None, *shape), dtype="float16")
        assert loss.call(half, half).dtype == "float32"
    teacher, student = (300 * draw(4, 3, seed=i).astype("float16") for i in (0, 1))
    found = values(PKD(), ops.convert_to_tensor(teacher), ops.convert_to_tensor(student))
    expected = values(PKD(), teacher.astype("float32"), student.astype("float32"))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_teacher_gets_no_gradient():
    """Even where it could: learning is one way."""
    student = draw(4, 3)
    losses = (KD(), DKD(), DIST(), PKD(), RKD())
    maps = ops.reshape(student, (1, 4, 3))

    def total(x):
        value = AT().compute_loss(ops.reshape(x, (1, 4, 3)), maps) + ops.sum(x)
        return value + sum(loss.compute_loss(x, student) for loss in losses)

    np.testing.assert_array_equal(gradient(total, draw(4, 3, seed=1)), np.ones_like(student))


class Compare(keras.layers.Layer):
    """Several losses, each over its own pair of inputs."""

    def __init__(self, losses, **kwargs):
        super().__init__(**kwargs)
        self.distillation = losses

    def call(self, teachers, students):
        pairs = zip(self.distillation, teachers, students, strict=True)
        return [loss.call(teacher, student) for loss, teacher, student in pairs]

    def compute_output_spec(self, teachers, students):
        pairs = zip(self.distillation, teachers, students, strict=True)
        return [loss.call(teacher, student) for loss, teacher, student in pairs]


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others know all sizes")
@pytest.mark.parametrize("loss", [KD(), PKD(), AT(), FitNet()], ids=lambda loss: loss.name)
def test_steps_that_only_the_step_knows(loss):
    """One step is not compared with all: where the numbers differ, the value is NaN."""
    import tensorflow as tf

    unknown = tf.TensorSpec((2, None, 3))
    value = tf.function(loss.compute_loss, input_signature=[unknown, unknown])
    rng = np.random.default_rng(0)
    six, one = (rng.normal(size=(2, steps, 3)).astype("float32") for steps in (6, 1))
    assert np.isfinite(value(six, six[::-1]))
    assert np.isnan(value(six, one))


def test_unknown_batch_size():
    """Symbolic tensors, and compiled functions over batches of several sizes."""
    cases = {
        KD(): ((3,), (3,)),
        DKD(): ((3,), (3,)),
        DIST(): ((2, 3), (2, 3)),
        PKD(): ((4, 4, 2), (2, 3, 2)),
        AT(): ((4, 4, 2), (6, 3, 5)),
        RKD(): ((6,), (3,)),
        FitNet(): ((3,), (3,)),
    }
    inputs = [[keras.Input(shape) for shape in side] for side in zip(*cases.values(), strict=True)]
    for loss, *pair in zip(cases, *inputs, strict=True):
        loss.validate_outputs(*pair)
    outputs = Compare(list(cases))(*inputs)
    assert [tuple(output.shape) for output in outputs] == [(None,)] * len(cases)
    model = keras.Model(inputs, outputs)
    arrays = [[draw(4, *x.shape[1:], seed=i) for x in side] for i, side in enumerate(inputs)]
    found = model.predict(arrays, verbose=0)
    for loss, teacher, student, value in zip(cases, *arrays, found, strict=True):
        np.testing.assert_allclose(value, values(loss, teacher, student), rtol=1e-4)


# Weights of samples


def test_sample_weight():
    """As in `keras.losses.Loss`: a sum of weighted values over the batch size."""
    vectors, maps = (draw(4, 3), draw(4, 3, seed=1)), (draw(4, 5, 2), draw(4, 5, 2, seed=1))
    weight = np.array([2, 0, 1, 0], "float32")
    for loss, pair in ((KD(), vectors), (DKD(), vectors), (FitNet(), vectors), (AT(1), maps)):
        each = values(loss, *pair)
        weighted = loss.compute_loss(*pair, sample_weight=weight)
        assert float(weighted) == pytest.approx((2 * each[0] + each[2]) / 4, rel=1e-5)
        assert float(loss.compute_loss(*pair)) == pytest.approx(each.mean(), rel=1e-5)
        # Weight 0 drops a sample: the others' values know nothing of it.
        changed = [np.where((weight == 0).reshape(-1, *[1] * (x.ndim - 1)), 7 - x, x) for x in pair]
        again = loss.compute_loss(*changed, sample_weight=weight)
        assert float(again) == pytest.approx(float(weighted), rel=1e-5)


def test_sample_weight_of_relations():
    """Who has weight 0 is still seen by the others; what belongs to the batch is scaled."""
    teacher, student = draw(4, 3), draw(4, 3, seed=1)
    weight = np.array([1, 2, 0, 3], "float32")
    for loss in (DIST(), PKD(), RKD()):
        found = float(loss.compute_loss(teacher, student, sample_weight=weight))
        assert found == pytest.approx(float((weight * values(loss, teacher, student)).mean()), 1e-5)
    within = values(DIST(inter_weight=0), teacher, student)
    found = float(DIST(inter_weight=0).compute_loss(teacher, student, sample_weight=weight))
    assert found == pytest.approx(within[0] * 1.5, 1e-5)


# Arguments


PATHS = {"teacher_layer_name": "a/b", "student_layer_name": "c"}
CONFIGURED = [
    KD(2.5, name="soft", **PATHS),
    DKD(0.5, 2, 3, name="decoupled", **PATHS),
    DIST(0.5, 2, 3, name="correlated", **PATHS),
    PKD(projector="auto", name="pearson", **PATHS),
    AT(3, name="attention", **PATHS),
    RKD(1, 2, 1e-6, name="relations", **PATHS),
    FitNet(name="hint", **PATHS),
]


@pytest.mark.parametrize("loss", CONFIGURED, ids=lambda loss: loss.name)
def test_config(loss):
    config = loss.get_config()
    assert config["name"] == loss.name
    assert config["teacher_layer_name"] == "a/b"
    defaults = type(loss)().get_config()
    assert all(config[key] != defaults[key] for key in config if key != "regressor")
    assert type(loss).from_config(config).get_config() == config
    stored = keras.saving.serialize_keras_object(loss)
    assert stored["registered_name"] == f"keras_fdkd>{type(loss).__name__}"
    restored = keras.saving.deserialize_keras_object(stored)
    assert type(restored) is type(loss)
    assert restored.get_config() == config


def test_config_of_own_regressor():
    loss = FitNet(keras.layers.Dense(7, name="mine"))
    restored = FitNet.from_config(loss.get_config())
    assert (restored.regressor.units, restored.regressor.name) == (7, "mine")


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (KD, {"temperature": 0}),
        (DKD, {"alpha": -1}),
        (DKD, {"beta": "8"}),
        (DKD, {"temperature": float("nan")}),
        (DIST, {"inter_weight": -0.1}),
        (DIST, {"intra_weight": None}),
        (DIST, {"temperature": -1}),
        (AT, {"p": 0.5}),
        (AT, {"p": True}),
        (RKD, {"distance_weight": -1}),
        (RKD, {"angle_weight": float("inf")}),
        (RKD, {"eps": 0}),
        (FitNet, {"regressor": "dense"}),
        (PKD, {"teacher_layer_name": 3}),
    ],
)
def test_bad_arguments(loss, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name}.*must be.*Received: {name}="):
        loss(**arguments)


def specs(*shapes):
    return [keras.KerasTensor((None, *shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("loss", "shapes", "message"),
    [
        (KD(), ((3,), (4,)), "same shape"),
        (KD(), ((1,), (1,)), "one logit a class"),
        (KD(), ((), ()), "needs outputs of 2 to any number of axes"),
        (DKD(), ((2, 3), (4, 3)), "same shape"),
        (DIST(), ((2, 2, 3), (2, 4, 3)), "same shape"),
        (PKD(), ((4,), (5,)), "same shape"),
        (PKD(), ((4, 4, 2), (4, 4, 3)), "same shape"),
        (PKD(), ((4, 2), (3, 2)), "same shape"),
        (PKD(), ((4, 4, 2), (4, 2)), "same shape"),
        (PKD(), ((None, 4, 2), (4, 4, 2)), "must know both"),
        (AT(), ((4,), (4,)), "needs outputs of 3 to"),
        (AT(), ((4, 4, 2), (4, 2)), "same shape"),
        (AT(), ((4, None, 2), (4, 4, 2)), "must know both"),
        (RKD(), ((4, 2), (4, 2)), "needs outputs of 2 axes"),
        (FitNet(), ((4,), (4, 2)), "convolution maps"),
        (FitNet(), ((4, 4, 2), (4, None, 2)), "convolution maps"),
        (FitNet(), ((4, 2), (None, 2)), "convolution maps"),
        (FitNet(), ((2, 2, 2, 2), (2, 2, 2, 2)), "needs outputs of 2 to 4 axes"),
        (FitNet(keras.layers.Flatten()), ((), ()), "needs outputs of 2 to any"),
    ],
)
def test_outputs_that_cannot_be_compared(loss, shapes, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*Received: "):
        loss.validate_outputs(*specs(*shapes))


@pytest.mark.parametrize("loss", CONFIGURED, ids=lambda loss: loss.name)
def test_lists_of_outputs(loss):
    pair = [specs((4, 4, 3), (4, 4, 3))] * 2
    with pytest.raises(ValueError, match="one loss for each pair of layers"):
        loss.validate_outputs(*pair)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 4, 3)])
def test_outputs_that_can(shape):
    for loss in (KD(), DIST(), PKD(), FitNet()):
        loss.validate_outputs(*specs(shape, shape))
    unknown = (*(None for _ in shape[:-1]), 3)
    for loss in (KD(), PKD(), FitNet(), *([AT()] if len(shape) > 1 else [])):
        loss.validate_outputs(*specs(unknown, unknown))


# Regressors


@pytest.mark.parametrize(
    ("given", "target", "kernel"),
    [
        ((5,), (3,), (5, 3)),
        ((8, 5), (4, 3), (3, 5, 3)),
        ((6, 5), (4, 3), (3, 5, 3)),
        ((4, 5), (4, 3), (1, 5, 3)),
        ((8, 7, 5), (4, 4, 3), (3, 4, 5, 3)),
        ((None, 6, 5), (None, 6, 3), (1, 1, 5, 3)),
    ],
)
def test_feature_regressor(given, target, kernel):
    layer = FeatureRegressor(target)
    outputs = layer(keras.Input(given))
    assert tuple(outputs.shape) == (None, *target)
    assert tuple(layer.linear.kernel.shape) == kernel
    assert layer.compute_output_shape((None, *given)) == (None, *target)
    restored = FeatureRegressor.from_config(layer.get_config())
    assert restored.target_shape == target


def test_feature_regressor_computes():
    """Another stride along each axis, and the same after it is stored with a model."""
    model = keras.Sequential([keras.Input((8, 7, 5)), FeatureRegressor((4, 4, 3))])
    x = draw(2, 8, 7, 5)
    found = model.predict(x, verbose=0)
    assert found.shape == (2, 4, 4, 3)
    assert (found >= 0).all()
    layer = model.layers[0]
    layer.linear.set_weights([np.zeros((3, 4, 5, 3)), np.array([1.0, -1.0, 2.0])])
    expected = np.broadcast_to(np.array([1, 0, 2]) / np.sqrt(1 + 1e-5), (2, 4, 4, 3))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("target", [(), (4, 4, 4, 4), (0,), (4, None), 3, (4.0,)])
def test_bad_target_shape(target):
    with pytest.raises(ValueError, match="target_shape.*Received: "):
        FeatureRegressor(target)


class Unbuilt(keras.layers.Layer):
    """A regressor that builds itself when called, with dropout to see `training`."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units, kernel_initializer="ones")
        self.dropout = keras.layers.Dropout(0.999, seed=0)

    def call(self, inputs):
        return self.dropout(self.dense(inputs))


def test_own_regressor():
    loss = FitNet(Unbuilt(3))
    teacher, student = specs((3,), (5,))
    loss.validate_outputs(teacher, student)
    adapter = loss.build_adapter(teacher, student)
    assert len(adapter.trainable_variables) == 2
    x = draw(4, 3), np.ones((4, 5), "float32")
    for training in (True, False):
        given, regressed = adapter(*x, training=training)
        np.testing.assert_array_equal(ops.convert_to_numpy(given), x[0])
        regressed = ops.convert_to_numpy(ops.stop_gradient(regressed))
        assert bool((regressed == 5).all()) is not training
    with pytest.raises(ValueError, match="same shape"):
        FitNet(Unbuilt(4)).build_adapter(teacher, student)
    with pytest.raises(ValueError, match="same shape"):
        loss.compute_loss(*x)  # Without the adapter.


def test_regressor_in_mixed_precision():
    """The student's side may be in half precision; the teacher's stays as it is."""
    loss = FitNet(keras.layers.Dense(3, dtype="mixed_bfloat16"))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        adapter = loss.build_adapter(*specs((3,), (3,)))
    finally:
        keras.config.set_dtype_policy(policy)
    teacher, regressed = adapter(draw(4, 3), draw(4, 3))
    dtypes = [keras.backend.standardize_dtype(x.dtype) for x in (teacher, regressed)]
    assert dtypes == ["float32", "bfloat16"]
    loss.validate_outputs(teacher, regressed)
    assert loss.call(teacher, regressed).shape == (4,)


# Training


def test_all_in_one_distiller():
    x, y = pairs()
    losses = [
        KD(),
        DKD(),
        DIST(),
        PKD(teacher_layer_name="pool", student_layer_name="pool"),
        RKD(),
        FitNet(teacher_layer_name="pool", student_layer_name="pool"),
    ]
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=losses)
    regressor = distiller.adapters["fitnet"].regressor
    before = [ops.convert_to_numpy(weight) for weight in regressor.weights]
    distiller.compile("adam", loss=cross_entropy())
    history = distiller.fit(x, y, sample_weight=np.ones(len(y)), verbose=0, epochs=2).history
    for name in ("kd", "dkd", "dist", "pkd", "rkd", "fitnet"):
        assert np.isfinite(history[f"{name}_loss"]).all()
        assert history[f"{name}_loss"][0] > 0
    total = history["task_loss"][0] + sum(history[f"{loss.name}_loss"][0] for loss in losses)
    assert history["loss"][0] == pytest.approx(total, rel=1e-4)
    after = [ops.convert_to_numpy(weight) for weight in regressor.weights]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("shapes", [((6,), (4,)), ((4, 4, 6), (2, 3, 5)), ((7, 6), (7, 4))])
def test_pkd_projects_the_student(shapes):
    """Its value is that of the projected feature, and a file keeps the projector's weights."""
    models = []
    for shape in shapes:
        inputs = keras.Input(shape)
        hidden = keras.layers.Activation("linear", name="pool")(inputs)
        flat = keras.layers.Flatten()(hidden)
        models.append(keras.Model(inputs, keras.layers.Dense(3)(flat)))
    paths = {"teacher_layer_name": "pool", "student_layer_name": "pool"}
    distiller = CrossModalDistiller(*models, losses=[PKD(projector="auto", **paths)])
    distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
    rng = np.random.default_rng(0)
    x = {
        side: rng.normal(size=(6, *shape)).astype("float32")
        for side, shape in zip(("teacher", "student"), shapes, strict=True)
    }
    found = distiller.fit(x, np.zeros(6, "int32"), verbose=0).history["pkd_loss"][0]
    projected = distiller.adapters["pkd"].regressor(x["student"])
    assert tuple(projected.shape) == (6, *shapes[0])
    expected = values(PKD(), ops.convert_to_tensor(x["teacher"]), projected).mean()
    assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="trains a layer of its own"):
        PKD(projector="auto").validate_model_compatibility(*models)
    PKD().validate_model_compatibility(*models)
    copy = PKD.from_config(distiller._loss_terms.losses["pkd"].get_config())
    assert copy.projector == "auto"
