"""What does not count has no part in anything: void pixels, holes of a teacher, padding."""

import keras
import numpy as np
import pytest
from conftest import cross_entropy
from keras import layers, ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller, RecordedTeacher
from keras_fdkd.losses import AFD, AT, DIST, DKD, KD, PKD, CrossModalLoss, FitNet

SAMPLES, SIZE, CLASSES, CHANNELS, STEPS = 4, 8, 3, 8, 5
RNG = np.random.default_rng(0)
VOID = 255


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def segmenter():
    """A map `whole` of the labels' size, one of half, and logits for each pixel."""
    inputs = keras.Input((SIZE, SIZE, 1))
    whole = layers.Conv2D(CHANNELS, 3, 1, "same", activation="tanh", name="whole")(inputs)
    half = layers.Conv2D(CHANNELS, 3, 2, "same", activation="tanh", name="half")(whole)
    both = layers.Concatenate()([whole, layers.UpSampling2D(2)(half)])
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1)(both))


SIZES = {"whole": SIZE, "half": SIZE // 2}


def recorded():
    maps = {name: (size, size, CHANNELS) for name, size in SIZES.items()}
    return RecordedTeacher(logits=(SIZE, SIZE, CLASSES), layers=maps)


def outputs(*names):
    shapes = {"logits": (SIZE, SIZE, CLASSES)}
    shapes |= {name: (size, size, CHANNELS) for name, size in SIZES.items()}
    return {name: normal(SAMPLES, *shapes[name]) for name in names}


def evaluated(distiller, x, y=None, **weights):
    return distiller.evaluate(x, y, verbose=0, return_dict=True, **weights)


def compiled(distiller, **options):
    distiller.compile("sgd", cross_entropy(**options))
    return distiller


def at(name):
    return {"teacher_layer_name": name, "student_layer_name": name}


@pytest.mark.parametrize(
    "loss",
    [KD(), DKD(), DIST(), PKD(**at("whole")), FitNet(**at("whole")), AT(**at("whole")),
     PKD(**at("half")), AT(**at("half"))],
    ids=lambda loss: f"{loss.name}-{loss.teacher_layer_name}",
)  # fmt: skip
def test_void_pixels_have_no_part_in_statistics(loss):
    read = loss.teacher_layer_name or "logits"
    labels = RNG.integers(CLASSES, size=(SAMPLES, SIZE, SIZE)).astype("int32")
    labels[:, :4, :4] = VOID  # Whole positions of the smaller map too.
    distiller = compiled(CrossModalDistiller(recorded(), segmenter(), losses=[loss]),
                         ignore_class=VOID)  # fmt: skip
    given, x = outputs(read), normal(SAMPLES, SIZE, SIZE, 1)
    first = evaluated(distiller, {"teacher_outputs": given, "student": x}, labels)
    other = given[read].copy()
    half = other.shape[1] // 2
    other[:, :half, :half] = 9 * normal(*other[:, :half, :half].shape)
    second = evaluated(distiller, {"teacher_outputs": {read: other}, "student": x}, labels)
    assert second[f"{loss.name}_loss"] == pytest.approx(first[f"{loss.name}_loss"], rel=1e-5)
    assert first[f"{loss.name}_loss"] > 1e-4


class Both(CrossModalLoss):
    """Compares the student's steps with those of two outputs of teachers."""

    takes_masks = True

    def __init__(self, first, second):
        super().__init__(
            teacher_layer_name=[first, second], student_layer_name="steps", name="both"
        )

    def values(self, teacher, student, y=None, mask=None):
        return sum(ops.mean(ops.square(one - student), axis=-1) for one in teacher)


def student_of_steps():
    inputs = keras.Input((STEPS, 4))
    x = layers.Dense(CHANNELS, name="steps")(inputs)
    return keras.Model(inputs, layers.Dense(2)(x))


def distances(student, x, *teachers):
    tap = keras.Model(student.input, student.get_layer("steps").output)
    made = tap.predict(x, verbose=0)
    return sum(((one - made) ** 2).mean(-1) for one in teachers)


def test_a_position_counts_if_all_teachers_of_a_loss_are_there():
    steps = RecordedTeacher(features=(STEPS, CHANNELS))
    teachers = {"a": steps, "b": RecordedTeacher(features=(STEPS, CHANNELS))}
    student = student_of_steps()
    distiller = CrossModalDistiller(teachers, student, losses=[Both("a", "b")])
    distiller.compile("sgd")
    first, second = normal(SAMPLES, STEPS, CHANNELS), normal(SAMPLES, STEPS, CHANNELS)
    x, there = (
        normal(SAMPLES, STEPS, 4),
        RNG.integers(2, size=(2, SAMPLES, STEPS)).astype("float32"),
    )
    found = evaluated(
        distiller,
        {
            "teacher_outputs": {"a:features": first, "b:features": second},
            "student": x,
            "teacher_weight": {"a": there[0], "b": there[1]},
        },
    )
    counts = there.prod(0) > 0
    expected = distances(student, x, first, second)[counts].mean()
    assert found["both_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_teacher_weighs_once_whatever_is_read_of_it():
    teacher = RecordedTeacher(layers={"p": (STEPS, CHANNELS), "q": (STEPS, CHANNELS)})
    student = student_of_steps()
    distiller = CrossModalDistiller(teacher, student, losses=[Both("p", "q")])
    distiller.compile("sgd")
    first, second = normal(SAMPLES, STEPS, CHANNELS), normal(SAMPLES, STEPS, CHANNELS)
    x, weight = normal(SAMPLES, STEPS, 4), np.array([0.0, 1.0, 0.5, 2.0], "float32")
    given = {"teacher_outputs": {"p": first, "q": second}, "student": x}
    found = evaluated(distiller, {**given, "teacher_weight": weight})
    values = distances(student, x, first, second).mean(1)
    assert found["both_loss"] == pytest.approx((values * weight).sum() / 3, rel=1e-5)


def test_weights_of_integers_do_not_round_those_of_the_teacher():
    distiller = CrossModalDistiller(
        RecordedTeacher(features=(STEPS, CHANNELS)), student_of_steps(), losses=[PKD()]
    )
    distiller.compile("sgd")
    given = {"features": normal(SAMPLES, STEPS, CHANNELS)}
    x = {"teacher_outputs": given, "student": normal(SAMPLES, STEPS, 4)}
    x["teacher_weight"] = np.array([0.5, 0.5, 1.0, 0.25], "float32")
    weight = np.array([1, 2, 1, 3])
    labels = np.zeros((SAMPLES, 1), "float32")
    first, second = (
        evaluated(distiller, x, labels, sample_weight=weight.astype(dtype))
        for dtype in ("int32", "float32")
    )
    assert first["pkd_loss"] == pytest.approx(second["pkd_loss"], rel=1e-6)


def test_half_the_weight_is_half_the_term_of_several_layers():
    names = list(SIZES)
    loss = AFD(teacher_layer_name=names, student_layer_name=names)
    distiller = compiled(CrossModalDistiller(recorded(), segmenter(), losses=[loss]))
    x = {"teacher_outputs": outputs(*names), "student": normal(SAMPLES, SIZE, SIZE, 1)}
    labels = np.zeros((SAMPLES, SIZE, SIZE), "int32")
    whole, half = (
        evaluated(distiller, {**x, "teacher_weight": np.full(SAMPLES, weight, "float32")}, labels)
        for weight in (1.0, 0.5)
    )
    assert half["afd_loss"] == pytest.approx(0.5 * whole["afd_loss"], rel=1e-5)


def test_outputs_of_one_loss_must_have_the_same_positions_if_some_do_not_count():
    class Pooled(Both):
        def values(self, teacher, student, y=None, mask=None):
            return ops.mean(ops.square(ops.mean(teacher[0], 1) - ops.mean(student, 1)), axis=-1)

    teacher = RecordedTeacher(layers={"p": (STEPS, CHANNELS), "q": (3, CHANNELS)})
    distiller = CrossModalDistiller(teacher, student_of_steps(), losses=[Pooled("p", "q")])
    distiller.compile("sgd")
    given = {"p": normal(SAMPLES, STEPS, CHANNELS), "q": normal(SAMPLES, 3, CHANNELS)}
    x = {"teacher_outputs": given, "student": normal(SAMPLES, STEPS, 4)}
    weight = np.ones((SAMPLES, STEPS), "float32")
    with pytest.raises(ValueError, match="differ in their positions"):
        evaluated(distiller, {**x, "teacher_weight": weight})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["whole", "half"])
def test_classifiers_of_pixels_judge_where_there_is_a_teacher(name, weighted):
    """Each pixel with the weight of its own, also if the features have fewer positions."""
    size = SIZES[name]
    distiller = FrequencyDistiller(
        recorded(), segmenter(), teacher_features=name, student_features=name, align_weight=0.3
    )
    compiled(distiller, ignore_class=VOID)
    labels = RNG.integers(CLASSES, size=(SAMPLES, SIZE, SIZE)).astype("int32")
    labels[RNG.random(labels.shape) < 0.3] = VOID
    # In blocks of two pixels each way, so that the smaller map has the same weights.
    trust = RNG.choice([0, 0.5, 1, 2], size=(SAMPLES, SIZE // 2, SIZE // 2)).astype("float32")
    trust = trust.repeat(2, 1).repeat(2, 2)
    given = outputs(name)
    x = {"teacher_outputs": given, "student": normal(SAMPLES, SIZE, SIZE, 1)}
    own = RNG.uniform(0.1, 1, size=labels.shape).astype("float32")
    weights = {"sample_weight": own} if weighted else {}
    found = evaluated(distiller, {**x, "teacher_weight": trust}, labels, **weights)

    step = SIZE // size
    there = trust[:, ::step, ::step, None] > 0
    seen, made = distiller.predict_features({**x, "teacher_outputs": {name: given[name]}})
    sides = [distiller.frequency.split(ops.convert_to_tensor(s)) for s in (seen * there, made)]
    counts = (labels != VOID) & (trust > 0)
    expected = 0.0
    for band, head in distiller.align_heads.items():
        for side in sides:
            logits = ops.log_softmax(head(side[band]))
            one_hot = np.eye(CLASSES)[np.where(labels == VOID, 0, labels)]
            values = -(ops.convert_to_numpy(logits) * one_hot).sum(-1)
            expected += (values * trust * (own if weighted else 1.0))[counts].sum() / counts.sum()
    assert found["align_loss"] == pytest.approx(expected, rel=1e-4)


def frames(steps, size, masked=True, ctc=False):
    """Features and logits for each step; steps of zeros are padding."""
    keras.utils.set_random_seed(size)
    inputs = keras.Input((steps, size))
    x = layers.Masking()(inputs) if masked else inputs
    x = layers.Dense(CHANNELS, "tanh", name="steps")(x)
    logits = layers.Dense(CLASSES)(x)
    # Keras's CTC fails on outputs with a mask, which operations drop.
    return keras.Model(inputs, 1.0 * logits if ctc else logits)


def padded(x, value=0):
    return np.concatenate([x, np.full_like(x, value)], axis=1)


@pytest.mark.parametrize("samples", [4, 6])  # As many as steps, too.
@pytest.mark.parametrize("options", [{}, {"time_steps": 6}, {"axis": 1}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_a_loss_of_whole_sequences_counts_by_samples(samples, options, masked):
    """CTC has one value per sample, though the classifiers judge each step."""
    if masked and not options:
        pytest.skip("refused: it would judge padding")
    places = {"teacher_features": "steps", "student_features": "steps"}
    models = (frames(6, size, masked, ctc=True) for size in (5, 4))
    distiller = FrequencyDistiller(*models, **places, **options, align_weight=0.3)
    distiller.compile("sgd", keras.losses.CTC())
    x = {"teacher": normal(samples, 6, 5), "student": normal(samples, 6, 4)}
    if masked:
        x["teacher"][0, 4:] = x["student"][0, 4:] = 0.0
    labels = RNG.integers(1, CLASSES, size=(samples, 2)).astype("int32")
    trust = RNG.choice([0.5, 1.0, 2.0], size=samples).astype("float32")
    trust[1] = 0.0
    found = evaluated(distiller, {**x, "teacher_weight": trust}, labels)
    one_by_one = [
        evaluated(distiller, {side: x[side][n : n + 1] for side in x}, labels[n : n + 1])
        for n in range(samples)
    ]
    values = np.array([one["align_loss"] for one in one_by_one])
    expected = (values * trust).sum() / (trust > 0).sum()
    assert found["align_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_weights_in_padding_do_not_dilute_resampled_steps(filled):
    teacher, student = normal(2, 4, 5), normal(2, 4, 4)
    labels = RNG.integers(CLASSES, size=(2, 4)).astype("int32")
    weight = np.array([[1, 2, 1, 2], [3, 1, 1, 1]], "float32")

    def terms(steps, *data):
        losses = [KD(), PKD(**at("steps"))]
        distiller = CrossModalDistiller(
            frames(steps, 5), frames(steps, 4), losses=losses, time_steps=6
        )
        teacher, student, labels, weight = data
        compiled(distiller, ignore_class=-1)
        x = {"teacher": teacher, "student": student}
        return evaluated(distiller, x, labels, sample_weight=weight)

    alone = terms(4, teacher, student, labels, weight)
    whole = terms(8, padded(teacher), padded(student), padded(labels, -1), padded(weight, filled))
    for name in ("kd_loss", "pkd_loss", "task_loss"):
        assert whole[name] == pytest.approx(alone[name], rel=1e-5), name


def test_labels_in_padding_do_not_change_the_share_of_a_sample():
    teacher, student = normal(2, 8, 5), normal(2, 8, 4)
    teacher[0, 4:] = student[0, 4:] = 0.0
    labels = RNG.integers(CLASSES, size=(2, 8)).astype("int32")
    models = frames(8, 5), frames(8, 4)
    distiller = compiled(CrossModalDistiller(*models, losses=[KD()], time_steps=6), ignore_class=-1)
    found = []
    for label in (0, -1):
        labels[0, 4:] = label
        found.append(evaluated(distiller, {"teacher": teacher, "student": student}, labels))
    assert found[0]["kd_loss"] == pytest.approx(found[1]["kd_loss"], rel=1e-5)


@pytest.mark.parametrize("options", [{"axis": 1}, {"time_steps": 8}])
def test_resampled_steps_are_not_judged_by_the_labels_of_others(options):
    places = {"teacher_features": "steps", "student_features": "steps"}
    distiller = FrequencyDistiller(
        frames(8, 5), frames(8, 4), **places, **options, align_weight=0.3
    )
    with pytest.raises(ValueError, match="would judge each by the label of another"):
        compiled(distiller, ignore_class=-1)
    compiled(FrequencyDistiller(frames(8, 5), frames(8, 4), **places, **options))  # No classifier.
    compiled(FrequencyDistiller(frames(8, 5), frames(8, 4), **places, align_weight=0.3))


def test_steps_with_a_hole_are_not_judged_by_the_labels_of_others():
    places = {"teacher_features": "steps", "student_features": "steps"}
    student = student_of_steps()
    distiller = compiled(
        FrequencyDistiller(student_of_steps(), student, **places, axis=1, align_weight=0.3)
    )
    x = {"teacher": normal(SAMPLES, STEPS, 4), "student": normal(SAMPLES, STEPS, 4)}
    labels, weight = np.zeros((SAMPLES, STEPS), "int32"), np.ones((SAMPLES, STEPS), "float32")
    weight[:, 0] = 0
    with pytest.raises(ValueError, match="labels of other steps"):
        evaluated(distiller, {**x, "teacher_weight": weight}, labels)
