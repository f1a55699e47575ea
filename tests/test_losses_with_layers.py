"""CRD and AFD, the losses with layers of their own: reference numbers, edges, banks, training."""

import keras
import numpy as np
import pytest
from conftest import assert_golden, classifier, cross_entropy, momentum_of, pairs
from keras import ops

from keras_fdkd import CrossModalDistiller
from keras_fdkd.layers import ContrastiveMemory, LayerAttention
from keras_fdkd.losses import AFD, CRD, FitNet


class Harness(keras.Model):
    """Trains the student's features themselves, along with the layer of a loss."""

    def __init__(self, loss, student):
        super().__init__()
        self.distillation = loss
        self.arrays = [np.asarray(x, "float32") for x in student]
        self.features = [
            keras.layers.Embedding(len(x), x[0].size, name=f"feature_{i}")
            for i, x in enumerate(self.arrays)
        ]
        for layer in self.features:
            layer.build()

    def connect(self, teacher):
        """Build the layer of the loss for the given outputs of the teacher."""
        self.single = not isinstance(teacher, list)
        sides = ([teacher] if self.single else teacher, self.arrays)
        specs = [[keras.KerasTensor((None, *x.shape[1:])) for x in side] for side in sides]
        specs = [spec[0] for spec in specs] if self.single else specs
        self.adapter = self.distillation.build_adapter(*specs)
        self.built = True
        self.reset()

    def reset(self):
        for layer, array in zip(self.features, self.arrays, strict=True):
            layer.set_weights([array.reshape(len(array), -1)])

    def call(self, inputs, training=False):
        student = [
            ops.reshape(layer(inputs["row"]), (-1, *array.shape[1:]))
            for layer, array in zip(self.features, self.arrays, strict=True)
        ]
        student = student[0] if self.single else student
        numbers = {"index": inputs["index"]} if "index" in inputs else {}
        return self.adapter(inputs["teacher"], student, training=training, **numbers)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.distillation.compute_loss(*y_pred, y=y, sample_weight=sample_weight)


def harness(loss, teacher, student):
    """A connected model and its whole batch."""
    several = isinstance(teacher, list)
    model = Harness(loss, student if several else [student])
    model.connect(teacher)
    teacher = keras.tree.map_structure(lambda x: np.asarray(x, "float32"), teacher)
    size = len(teacher[0]) if several else len(teacher)
    return model, {"teacher": teacher, "row": np.arange(size, dtype="int32")}


def step(model, x):
    """One training step; returns the loss and the gradient of any variable."""
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9))
    size = len(x["row"])
    history = model.fit(x, batch_size=size, shuffle=False, verbose=0).history
    return history["loss"][0], lambda v: -ops.convert_to_numpy(momentum_of(model.optimizer, v))


def arrays(variables):
    return [ops.convert_to_numpy(v) for v in variables]


# CRD


def test_crd_two_steps(golden):
    data = golden("crd_b8")
    candidates = data["contrast_index"]
    np.testing.assert_array_equal(candidates[:, 0], data["index"])
    settings = {
        "dim": data["memory_s"].shape[1],
        "negatives": int(data["K"]),
        "temperature": float(data["temperature"]),
        "momentum": float(data["momentum"]),
    }
    loss = CRD(int(data["num_data"]), **settings)
    model, x = harness(loss, data["teacher"], data["student"])
    x["index"] = data["index"].astype("int32")
    memory = model.adapter
    memory.draw_negatives = lambda index: ops.convert_to_tensor(candidates[:, 1:], "int32")
    memory.student_memory.assign(data["memory_s"])
    memory.teacher_memory.assign(data["memory_t"])

    for call in (1, 2):
        model.reset()
        for side, embed in (("s", memory.embed_student), ("t", memory.embed_teacher)):
            embed.set_weights([data[f"embed_{side}_kernel"], data[f"embed_{side}_bias"]])
        value, found = step(model, x)
        assert_golden(value, data[f"loss_call{call}_f64"])
        assert_golden(found(model.features[0].embeddings), data[f"grad_student_call{call}_f64"])
        kernel, bias = memory.embed_student.kernel, memory.embed_teacher.bias
        assert_golden(found(kernel), data[f"grad_embed_s_kernel_call{call}_f64"])
        assert_golden(found(bias), data[f"grad_embed_t_bias_call{call}_f64"])
        # Z comes from the first call and stays.
        assert_golden(ops.exp(memory.log_z_student), data["Z_s_f64"])
        assert_golden(ops.exp(memory.log_z_teacher), data["Z_t_f64"])
        if call == 1:
            assert_golden(memory.student_memory, data["memory_s_after1_f64"])
            assert_golden(memory.teacher_memory, data["memory_t_after1_f64"])


@pytest.mark.parametrize("num_samples", [5, 1_000_000])
def test_crd_formula(num_samples):
    """The loss of scores `o` as written, in float64, and finite far outside its range."""
    loss = CRD(num_samples, negatives=20)
    o = np.random.default_rng(0).uniform(0.1, 5, (2, 3, 21))
    c = 20 / num_samples
    expected = -np.log(o / (o + c + 1e-7))[..., 0].sum(0)
    expected -= np.log(c / (o + c + 1e-7))[..., 1:].sum((0, 2))
    found = loss.call(*(ops.convert_to_tensor(np.log(x), "float32") for x in o))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-6)
    extreme = ops.convert_to_tensor(np.full((1, 21), 500.0), "float32")
    assert np.isfinite(ops.convert_to_numpy(loss.call(extreme, -extreme))).all()


def test_crd_draws_others_uniformly():
    memory = ContrastiveMemory(4, dim=2, negatives=3000, seed=1)
    index = ops.convert_to_tensor([0, 1, 3], "int32")
    drawn = ops.convert_to_numpy(memory.draw_negatives(index))
    assert drawn.shape == (3, 3000)
    counts = np.stack([np.bincount(row, minlength=4) for row in drawn])
    assert not counts[[0, 1, 2], [0, 1, 3]].any()
    others = counts[counts > 0]
    assert len(others) == 9
    # 1000 expected, with a deviation of 26.
    assert (abs(others - 1000) < 130).all()
    assert (drawn != ops.convert_to_numpy(memory.draw_negatives(index))).any()
    again = ContrastiveMemory(4, dim=2, negatives=3000, seed=1)
    np.testing.assert_array_equal(drawn, ops.convert_to_numpy(again.draw_negatives(index)))


def test_crd_first_banks():
    memory = ContrastiveMemory(500, dim=12, negatives=2, seed=0)
    memory.build((None, 3), (None, 4))
    banks = np.stack(arrays([memory.teacher_memory, memory.student_memory]))
    assert 0.49 < abs(banks).max() <= 0.5  # sqrt(3 / 12)
    assert abs(banks.mean()) < 0.02
    assert (banks[0] != banks[1]).all()


def small_crd(**kwargs):
    settings = {"num_samples": 9, "dim": 4, "negatives": 20, "seed": 0}
    loss = CRD(**{**settings, **kwargs})
    adapter = loss.build_adapter(keras.KerasTensor((None, 6)), keras.KerasTensor((None, 5)))
    return loss, adapter


def features(size=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(size, n)).astype("float32") for n in (6, 5)]


def unit(x):
    x = ops.convert_to_numpy(x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_crd_evaluation_leaves_all_alone():
    """No update, no index; the positive is the pair's own, and repeated calls agree."""
    loss, memory = small_crd()
    before = arrays(memory.variables)
    assert any(v is memory.seed_generator.state for v in memory.variables)
    first = loss.call(*memory(*features(), training=False))
    scores = memory(*features())
    np.testing.assert_array_equal(*(ops.convert_to_numpy(v) for v in (first, loss.call(*scores))))
    assert np.isfinite(ops.convert_to_numpy(first)).all()
    for old, new in zip(before, arrays(memory.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    # Both columns 0 are the same product, divided by two different Z.
    gaps = ops.convert_to_numpy(scores[0] - scores[1])[:, 0]
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-5)

    memory(*features(), training=True, index=np.array([0, 4, 8]))
    for variable in (memory.log_z_teacher, memory.log_z_student):
        assert np.isfinite(float(variable))
    (log_z,) = arrays([memory.log_z_student])
    memory(*features(seed=1), training=True, index=np.array([1, 2, 3]))
    assert log_z == arrays([memory.log_z_student])[0]
    # An evaluation batch is scored with the Z of training.
    own = ops.convert_to_numpy(memory(*features())[1])[:, 0] + log_z
    embeds = (memory.embed_teacher, memory.embed_student)
    v = [unit(embed(x)) for embed, x in zip(embeds, features(), strict=True)]
    np.testing.assert_allclose(own, (v[0] * v[1]).sum(1) / 0.07, rtol=1e-4)


def test_crd_training_updates_the_seen():
    _, memory = small_crd(momentum=0.25)
    before = arrays([memory.teacher_memory, memory.student_memory])
    index = np.array([7, 0, 2])
    inputs = features()
    memory(*inputs, training=True, index=index)
    after = arrays([memory.teacher_memory, memory.student_memory])
    embeds = (memory.embed_teacher, memory.embed_student)
    for old, new, embed, x in zip(before, after, embeds, inputs, strict=True):
        expected = old.copy()
        expected[index] = unit(0.25 * old[index] + 0.75 * unit(embed(x)))
        np.testing.assert_allclose(new, expected, atol=1e-6)


@pytest.mark.parametrize(("size", "zero"), [(1, False), (3, True)])
def test_crd_finite(size, zero):
    """Zero features and a batch of one."""
    teacher, student = (x * (not zero) for x in features(size))
    model, x = harness(CRD(9, dim=4, negatives=20, seed=0), teacher, student)
    x["index"] = np.arange(size, dtype="int32") + 2
    value, found = step(model, x)
    assert np.isfinite(value)
    gradient = found(model.features[0].embeddings)
    assert np.isfinite(gradient).all()
    assert gradient.any() != zero
    assert all(np.isfinite(v).all() for v in arrays(model.adapter.variables))


def test_crd_half_precision_and_maps():
    memory = ContrastiveMemory(4, dim=3, negatives=5, temperature=0.05, dtype="mixed_float16")
    memory.build((None, 3, 2), (None, 2, 2, 2))
    inputs = [keras.Input(shape) for shape in ((3, 2), (2, 2, 2))]
    model = keras.Model(inputs, memory(*inputs))
    assert [output.dtype for output in model.outputs] == ["float32"] * 2
    assert memory.student_memory.dtype == "float32"
    scores = model.predict([np.ones((2, *x.shape[1:]), "float32") for x in inputs], verbose=0)
    assert all(np.isfinite(score).all() for score in scores)


def test_crd_checks_the_index():
    loss, _ = small_crd()
    for good in (
        np.arange(9),
        np.array([8, 0, 3], "uint8"),
        np.arange(9)[:, None],
        np.zeros(0, int),
    ):
        loss.check_index(good)
    for bad, words in (
        (np.arange(9) - 1, r"must be in 0\.\.8.*Received: numbers from -1 to 7"),
        (np.arange(10), r"must be in 0\.\.8.*Received: numbers from 0 to 9"),
        (np.array([2**32 + 3]), "must be in"),
        (np.array([1, 5, 3, 5]), "each sample once.*Received: 5 more than once"),
        (np.arange(9) / 2, "integers of shape.*dtype float64"),
        (np.ones(3, bool), "integers of shape.*dtype bool"),
        (np.zeros((3, 2), int), r"integers of shape.*Received: shape \(3, 2\)"),
        (np.array(3), r"integers of shape.*Received: shape \(\)"),
    ):
        with pytest.raises(ValueError, match=words):
            loss.check_index(bad)
    _, memory = small_crd()
    for bad in (np.array([0.0, 1.0, 2.0], "float32"), np.zeros((3, 2), "int32")):
        with pytest.raises(ValueError, match="`index` must hold the numbers"):
            memory(*features(), training=True, index=bad)


@pytest.mark.parametrize(
    "index", [[2, -1, 7], [-5, 3, 9], [9, 1000, -9], [0, 2**31 - 1, 8], [-(2**31), 0, 0]]
)
def test_crd_steps_with_numbers_out_of_range(index):
    """In a compiled step they move no bank, and their samples alone have no loss."""
    index = np.array(index, "int32")
    known = (index >= 0) & (index < 9)
    teacher, student = features()
    model, x = harness(CRD(9, dim=4, negatives=20, seed=0), teacher, student)
    x["index"] = index
    memory = model.adapter
    banks = arrays([memory.teacher_memory, memory.student_memory])
    embeds = [
        unit(embed(f))
        for embed, f in zip(
            (memory.embed_teacher, memory.embed_student), (teacher, student), strict=True
        )
    ]
    value, found = step(model, x)
    assert np.isnan(value)
    gradient = found(model.features[0].embeddings)
    assert np.isfinite(gradient).all()
    assert not gradient[~known].any()
    assert gradient[known].any() == known.any()
    assert all(np.isfinite(found(v)).all() for v in memory.trainable_variables)
    after = arrays([memory.teacher_memory, memory.student_memory])
    seen = np.isin(np.arange(9), index[known])
    for old, new, v in zip(banks, after, embeds, strict=True):
        np.testing.assert_array_equal(new[~seen], old[~seen])
        if known.any() and len(set(index[known])) == known.sum():
            rows = index[known]
            np.testing.assert_allclose(new[rows], unit(0.5 * old[rows] + 0.5 * v[known]), atol=1e-6)
    # `Z` is that of the known samples, or still to be set.
    z = arrays([memory.log_z_teacher, memory.log_z_student])
    assert np.isfinite(z).all() if known.any() else np.isneginf(z).all()


def test_crd_z_is_that_of_the_known():
    inputs = features()
    logs = []
    for index in (np.array([4, 2, -1]), np.array([4, 2])):
        keras.utils.set_random_seed(0)
        _, memory = small_crd(negatives=40000)  # So many that the draw hardly matters.
        keep = len(index) if (index >= 0).all() else 3
        scores = memory(*(f[:keep] for f in inputs), training=True, index=index)
        assert all(np.isfinite(score[:2]).all() for score in arrays(scores))
        assert all(np.isnan(score[2:]).all() for score in arrays(scores))
        logs.append(arrays([memory.log_z_teacher, memory.log_z_student]))
    np.testing.assert_allclose(*logs, atol=0.05)


def test_crd_needs_the_index_in_training():
    assert CRD.needs_index
    _, memory = small_crd()
    with pytest.raises(ValueError, match="index"):
        memory(*features(), training=True)


def test_crd_traces_with_an_unknown_batch():
    """Symbolic calls see shapes alone: no bank changes, and the same graph takes any batch."""
    loss, memory = small_crd()
    before = arrays(memory.variables)
    inputs = [keras.Input((6,)), keras.Input((5,)), keras.Input((), dtype="int32")]
    outputs = memory(*inputs[:2], training=True, index=inputs[2])
    assert [output.shape for output in outputs] == [(None, 21)] * 2
    for old, new in zip(before, arrays(memory.variables), strict=True):
        np.testing.assert_array_equal(old, new)
    model = keras.Model(inputs, loss.call(*outputs))
    for size in (2, 3):
        assert model([*features(size), np.arange(size)]).shape == (size,)


@pytest.mark.parametrize("cls", [CRD, ContrastiveMemory])
@pytest.mark.parametrize(
    "wrong",
    [
        {"num_samples": 1},
        {"num_samples": 10.0},
        {"dim": 0},
        {"negatives": True},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"momentum": 1.0},
        {"momentum": -0.1},
    ],
)
def test_crd_arguments(cls, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}="):
        cls(**{"num_samples": 10, **wrong})


@pytest.mark.parametrize("shape", [(None,), (None, None, 3)])
def test_crd_shapes(shape):
    good, bad = keras.KerasTensor((None, 4)), keras.KerasTensor(shape)
    for outputs in ((bad, good), (good, bad), ([good], good)):
        with pytest.raises(ValueError, match="one tensor a side"):
            CRD(10).build_adapter(*outputs)
    with pytest.raises(ValueError, match="all but the batch size known"):
        ContrastiveMemory(10).build(shape, (None, 4))


# AFD


def afd_parameters(data, attention):
    """The stored parameters and gradients, next to the variables they belong to."""
    stacks = {f"linear_trans_s_key_layer_{i}": stack for i, stack in enumerate(attention.keys)}
    stacks["linear_trans_s_bilinear"] = attention.bilinear
    for i, stack in enumerate(attention.queries):
        stacks[f"linear_trans_t_query_layer_{i}"] = stack
    variables = {"p_t": attention.teacher_positions, "p_s": attention.student_positions}
    for name, stack in stacks.items():
        dense, norm = stack.layers[:2]
        variables[f"{name}_linear_w"], variables[f"{name}_linear_b"] = dense.kernel, dense.bias
        variables[f"{name}_bn_w"], variables[f"{name}_bn_b"] = norm.gamma, norm.beta
    stored = {key.removeprefix("param_") for key in data if key.startswith("param_")}
    assert set(variables) == stored
    return variables


def layers(count):
    return [f"layer_{i}" for i in range(count)]


def afd(teacher, student, dim=4):
    return AFD(teacher_layer_name=layers(teacher), student_layer_name=layers(student), dim=dim)


def test_afd_values_and_gradients(golden):
    data = golden("afd_small")
    teacher = [data[f"teacher_{i}"] for i in range(int(data["n_teacher"]))]
    student = [data[f"student_{i}"] for i in range(int(data["n_student"]))]
    loss = afd(len(teacher), len(student), dim=int(data["qk_dim"]))
    model, x = harness(loss, teacher, student)
    variables = afd_parameters(data, model.adapter)
    for name, variable in variables.items():
        variable.assign(data[f"param_{name}"])
    value, found = step(model, x)
    assert_golden(value, data["loss_f64"])
    for i, layer in enumerate(model.features):
        expected = data[f"grad_student_{i}_f64"]
        assert_golden(found(layer.embeddings).reshape(expected.shape), expected)
    for name, variable in variables.items():
        expected = data[f"grad_param_{name}_f64"]
        if name.endswith("linear_b") or name == "linear_trans_s_bilinear_bn_b":
            # Zero: batch normalization and softmax each undo a shift.
            assert abs(found(variable) - expected).max() < 1e-8, name
        else:
            assert_golden(found(variable), expected)


def pooled(energy, sizes):
    """Adaptive average pooling as PyTorch documents it, on the axes after the batch axis."""
    for axis, size in enumerate(sizes, start=1):
        given = energy.shape[axis]
        cells = [range(i * given // size, -(-(i + 1) * given // size)) for i in range(size)]
        energy = np.stack([np.take(energy, c, axis).mean(axis) for c in cells], axis)
    return energy


@pytest.mark.parametrize(
    ("teacher", "student"),
    [((6,), (12,)), ((7,), (5,)), ((4, 6), (7, 3))],
)
def test_afd_resizes_maps(teacher, student):
    """Any sizes, against plain NumPy."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=(3, *teacher, 2)).astype("float32")
    f = rng.normal(size=(3, *student, 4)).astype("float32")
    values = [(g**2).mean(-1), pooled((f**2).mean(-1), teacher)]
    values = [v.reshape(3, -1) for v in values]
    values = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in values]
    expected = ((values[0] - values[1]) ** 2).mean(1)
    g, f = ops.convert_to_tensor(g), ops.convert_to_tensor(f)
    found = afd(1, 1).call([g], ([f], ops.ones((3, 1, 1))))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_afd_finite(size):
    """A batch of one and one layer of the student; maps of zeros in the student and in both."""
    rng = np.random.default_rng(0)
    teacher = [rng.normal(size=(size, 4, 3))]
    student = [rng.normal(size=(size, 8, 2))]
    for x in student:
        x[1:] = 0
    for x in teacher:
        x[2:] = 0
    model, x = harness(afd(1, 1), teacher, student)
    value, found = step(model, x)
    assert np.isfinite(value)
    assert value > 0
    gradients = [found(v) for v in model.trainable_variables]
    assert all(np.isfinite(g).all() for g in gradients)
    assert all(found(layer.embeddings)[0].any() for layer in model.features)


def test_afd_of_zeros_is_zero():
    zeros = ops.zeros((2, 4, 3))
    values = afd(1, 1).call([zeros], ([zeros], ops.ones((2, 1, 1))))
    np.testing.assert_array_equal(ops.convert_to_numpy(values), [0, 0])


def test_afd_weak_activations_are_not_dead():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 4, 3)).astype("float32") for _ in range(2)]
    loss = afd(1, 1)
    attention = ops.ones((2, 1, 1))
    plain, weak = (
        ops.convert_to_numpy(loss.call([maps[0]], ([ops.convert_to_tensor(f)], attention)))
        for f in (maps[1], maps[1] * np.float32(1e-5))
    )
    np.testing.assert_allclose(weak, plain, rtol=1e-4)


def test_afd_evaluation_uses_moving_statistics():
    """A sample is scored alike whatever comes with it, and nothing moves."""
    rng = np.random.default_rng(0)
    teacher = [rng.normal(size=(5, 4, 3)).astype("float32") for _ in range(2)]
    student = [rng.normal(size=(5, 8, 2)).astype("float32") for _ in range(2)]
    attend = LayerAttention(dim=4)
    _, (_, trained) = attend(teacher, student, training=True)
    before = arrays(attend.variables)
    _, (_, whole) = attend(teacher, student, training=False)
    others = [[np.concatenate([x[:1], 3 * x[1:] + 1]) for x in side] for side in (teacher, student)]
    _, (_, moved) = attend(*others, training=False)
    whole, moved = ops.convert_to_numpy(whole), ops.convert_to_numpy(moved)
    assert whole.shape == (5, 2, 2)
    np.testing.assert_allclose(whole[:1], moved[:1], atol=1e-6)
    assert abs(whole[1:] - moved[1:]).max() > 1e-3
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-6)
    assert abs(whole - ops.convert_to_numpy(trained)).max() > 1e-3
    for old, new in zip(before, arrays(attend.variables), strict=True):
        np.testing.assert_array_equal(old, new)


def test_afd_traces_with_an_unknown_batch():
    loss = afd(1, 2)
    inputs = [keras.Input(shape) for shape in ((4, 4, 3), (8, 8, 2), (3, 5, 2))]
    adapter = loss.build_adapter(inputs[:1], inputs[1:])
    outputs = adapter(inputs[:1], inputs[1:])
    model = keras.Model(inputs, loss.call(*outputs))
    assert model.output_shape == (None,)
    maps = [np.ones((2, *x.shape[1:]), "float32") for x in inputs]
    # Constant maps have the same value whatever their size.
    np.testing.assert_allclose(model.predict(maps, verbose=0), [0, 0], atol=1e-6)


def test_afd_without_layers():
    with pytest.raises(ValueError, match="`teacher_layer_name` is required.*Received: teacher_lay"):
        AFD()
    with pytest.raises(ValueError, match="`student_layer_name` is required"):
        AFD(teacher_layer_name=["a"])


def test_afd_arguments():
    for names in ({"teacher_layer_name": "one"}, {"student_layer_name": None}):
        with pytest.raises(ValueError, match=r"must be a list of layer paths\. Received"):
            AFD(**{"teacher_layer_name": ["a"], "student_layer_name": ["b"], **names})
    for make in (lambda: afd(1, 1, dim=0), lambda: LayerAttention(dim=True)):
        with pytest.raises(ValueError, match="`dim` must be a positive integer"):
            make()


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ((None, 4), (None, 4)),
        ((None, 4, 3), (None, 4, 4, 3)),
        ((None, None, 3), (None, 4, 3)),
        ((None, 2, 2, 2, 2, 3), (None, 2, 2, 2, 2, 3)),
    ],
)
def test_afd_shapes(teacher, student):
    specs = [[keras.KerasTensor(shape)] for shape in (teacher, student)]
    with pytest.raises(ValueError, match="`AFD` compares maps of shape"):
        afd(1, 1).build_adapter(*specs)


def test_afd_takes_lists():
    spec = keras.KerasTensor((None, 4, 3))
    for outputs in ((spec, [spec]), ([spec], spec)):
        with pytest.raises(ValueError, match="`AFD` compares lists of maps"):
            afd(1, 1).validate_outputs(*outputs)
    with pytest.raises(ValueError, match="must be a list of maps"):
        LayerAttention().build([(None, 4)], [(None, 4, 3)])


# Both


@pytest.mark.parametrize(
    "made",
    [
        CRD(10, dim=4, negatives=6, temperature=0.1, momentum=0.9, seed=3, name="contrast"),
        CRD(10, teacher_layer_name="a/b", student_layer_name="c"),
        AFD(teacher_layer_name=["a", "b"], student_layer_name=["c"], dim=8, name="attend"),
        ContrastiveMemory(10, dim=4, negatives=6, temperature=0.1, momentum=0.9, seed=3),
        LayerAttention(dim=8, name="attend"),
    ],
    ids=lambda made: type(made).__name__,
)
def test_config_round_trip(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def sequential(length, channels):
    """A small model with two maps."""
    stack = [keras.Input((length, 2)), keras.layers.Dense(channels, name="early")]
    stack += [keras.layers.AveragePooling1D(2), keras.layers.Dense(channels, name="late")]
    return keras.Sequential([*stack, keras.layers.Flatten(), keras.layers.Dense(3)])


def adapter_of(distiller, name):
    (found,) = [layer for layer in distiller._flatten_layers() if name in layer.name]
    return found


def test_crd_in_a_distiller(tmp_path):
    """Numbered batches, validation without numbers, and banks that are saved along."""
    x, y = pairs(samples=20)
    pair, x = x, {**x, "index": np.arange(len(y), dtype="int32")}
    taps = {f"{side}_features": "pool" for side in ("teacher", "student")}
    loss = CRD(len(y), dim=4, negatives=40, seed=0)
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[loss], **taps)
    memory = adapter_of(distiller, "crd")
    before = arrays([memory.teacher_memory, memory.embed_student.kernel])
    distiller.compile(keras.optimizers.SGD(0.01), loss=cross_entropy())
    logs = distiller.fit(x, y, batch_size=10, epochs=4, verbose=0).history["crd_loss"]
    assert logs[-1] < logs[0]
    bank, kernel = arrays([memory.teacher_memory, memory.embed_student.kernel])
    assert (bank != before[0]).any(axis=1).all()
    assert (kernel != before[1]).any()
    logs = distiller.evaluate(pair, y, batch_size=10, verbose=0, return_dict=True)
    assert np.isfinite(logs["crd_loss"])
    np.testing.assert_array_equal(bank, arrays([memory.teacher_memory])[0])
    distiller.save(tmp_path / "distiller.keras")
    loaded = adapter_of(keras.saving.load_model(tmp_path / "distiller.keras"), "crd")
    np.testing.assert_array_equal(bank, arrays([loaded.teacher_memory])[0])
    assert float(loaded.log_z_student) == float(memory.log_z_student)


def test_afd_in_a_distiller():
    rng = np.random.default_rng(0)
    lengths = {"teacher": 12, "student": 16}
    x = {side: rng.normal(size=(20, n, 2)).astype("float32") for side, n in lengths.items()}
    y = rng.integers(3, size=20)
    loss = AFD(teacher_layer_name=["early", "late"], student_layer_name=["early", "late"], dim=4)
    distiller = CrossModalDistiller(
        sequential(12, 6), sequential(16, 4), losses=[loss], loss_weights=[200]
    )
    variables = adapter_of(distiller, "afd").trainable_variables
    before = arrays(variables)
    distiller.compile(keras.optimizers.SGD(0.01), loss=cross_entropy())
    logs = distiller.fit(x, y, batch_size=10, epochs=4, verbose=0).history["afd_loss"]
    assert logs[-1] < logs[0]
    after = zip(variables, before, arrays(variables), strict=True)
    still = [variable.path for variable, old, new in after if (old == new).all()]
    # Shifts that batch normalization or softmax undoes need not move.
    assert all(path.endswith(("/bias", "/beta")) for path in still)
    logs = distiller.evaluate(x, y, batch_size=10, verbose=0, return_dict=True)
    assert np.isfinite(logs["afd_loss"])


def test_losses_of_one_name_train_apart():
    """On PyTorch, gradients of weights of one path would add up over the steps."""
    x, y = pairs()
    weights = []
    for names in (("fitnet", "fitnet"), ("first", "second")):
        keras.utils.set_random_seed(0)
        losses = [FitNet(name=name) for name in names]
        distiller = CrossModalDistiller(classifier(6), classifier(4), losses=losses)
        distiller.compile(keras.optimizers.SGD(0.1), loss=cross_entropy())
        distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        weights.append([a.get_weights() for a in distiller.adapters.values()])
    for first, second in zip(*map(keras.tree.flatten, weights), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_afd_compares_large_maps_in_half_precision():
    layer = LayerAttention(4, dtype="mixed_float16")
    maps = [np.full((2, 3, 5), 1e5, "float32")]
    teacher, _ = layer(maps, maps)
    assert np.isfinite(ops.convert_to_numpy(teacher[0])).all()
