"""Bad input: a clear error at construction, `compile` or before the first step."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller


def make(teacher=None, student=None, **kwargs):
    return FrequencyDistiller(teacher or classifier(6), student or classifier(4), **kwargs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher_features": "poool"}, r"no layer 'poool' in `teacher`.*Nearest names: \['pool'"),
        ({"student_features": "encoder/pool"}, "no layer 'encoder/pool' in `student`"),
        ({"cutoff": 0.0}, "`cutoff` must be a number above 0 and below 1"),
        ({"cutoff": 1.0}, "`cutoff` must be a number above 0 and below 1"),
        ({"cutoff": "half"}, "`cutoff` must be a number"),
        ({"cutoff": 0.01}, "`cutoff` leaves the low band empty"),
        ({"cutoff": 0.99}, "`cutoff` leaves the high band empty"),
        ({"cutoff": None}, "`cutoff=None` leaves no high band"),
        ({"axis": 0}, "`axis` must be"),
        ({"axis": 2}, "`axis` must be one of the axes"),
        ({"axis": "time"}, "`axis` must be"),
        ({"low_weight": -1.0}, "`low_weight` must be a finite number >= 0"),
        ({"high_weight": float("nan")}, "`high_weight` must be a finite number >= 0"),
        ({"align_weight": "1"}, "`align_weight` must be a finite number >= 0"),
        ({"band_task_weight": True}, "`band_task_weight` must be a finite number >= 0"),
        (
            {"low_weight": 0, "high_weight": 0, "align_weight": 0},
            "At least one weight must be positive",
        ),
        ({"low_loss": "mae"}, "`low_loss` must be one of"),
        ({"high_loss": lambda a, b: 0}, "`high_loss` must be one of"),
        ({"standardize": "l2"}, "`standardize` must be one of"),
        ({"standardize": False}, "`standardize` must be one of"),
        ({"low_loss": keras.losses.MeanSquaredError(reduction="none")}, "must reduce to a scalar"),
        ({"align_loss": cross_entropy(reduction=None)}, "must reduce to a scalar"),
        ({"align_loss": "mse"}, "`align_loss` must be a `keras.losses.Loss`"),
        ({"projector": "dense"}, "`projector` must be 'auto'"),
        ({"projector": keras.layers.Dense(5)}, "must have the same shape"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_sizes_with_projection_refused():
    with pytest.raises(ValueError, match=r"same shape.*teacher \(None, 16\), student \(None, 12\)"):
        make(student=classifier(4, features=12), projector=None)


def test_small_features():
    with pytest.raises(ValueError, match="at least 4 long"):
        make(classifier(6, features=3), classifier(4, features=3))


def test_models():
    with pytest.raises(ValueError, match="`teacher` must be a `keras.Model`"):
        make(teacher=keras.layers.Dense(3))
    with pytest.raises(ValueError, match="`student` must be built"):
        make(student=keras.Sequential([keras.layers.Dense(3)]))


def test_feature_that_is_not_per_sample():
    x = keras.Input((6,))
    scalar = keras.ops.sum(x, axis=-1)
    model = keras.Model(x, keras.layers.Dense(3)(x))
    with_scalar = keras.Model(x, [model(x), scalar])
    with pytest.raises(ValueError, match="a feature for each sample"):
        make(teacher=with_scalar, teacher_features=scalar)
    frames = keras.Input((8, None))
    hidden = keras.layers.Activation("relu", name="frames")(frames)
    pooled = keras.layers.GlobalAveragePooling1D(data_format="channels_first")(hidden)
    sequence = keras.Model(frames, keras.layers.Dense(3)(pooled))
    with pytest.raises(ValueError, match="its last size known.*known number of channels"):
        make(teacher=sequence, teacher_features="frames")
    batch_gone = keras.Model(x, [model(x), keras.ops.mean(x, axis=0, keepdims=True)])
    with pytest.raises(ValueError, match="a feature for each sample"):
        make(teacher=batch_gone, teacher_features=batch_gone.outputs[1])


def test_shared_layers():
    shared = keras.layers.Dense(16)
    x = keras.Input((6,))
    teacher = keras.Model(x, keras.layers.Dense(3)(shared(x)))
    student = keras.Model(x, keras.layers.Dense(3)(shared(x)))
    with pytest.raises(ValueError, match="must not share layers"):
        make(teacher, student)
    with pytest.raises(ValueError, match="must not share layers"):
        make(teacher, teacher)


def test_student_inputs_named_like_a_pair():
    inputs = {name: keras.Input((2,), name=name) for name in ("teacher", "student")}
    hidden = keras.layers.Dense(16)(keras.layers.Concatenate()(list(inputs.values())))
    with pytest.raises(ValueError, match="must not be named like the sides"):
        make(student=keras.Model(inputs, keras.layers.Dense(3)(hidden)))


@pytest.mark.parametrize("loss", [None, lambda y, logits: keras.ops.mean(logits - y)])
def test_heads_need_a_loss_on_labels(loss):
    with pytest.raises(ValueError, match="need a loss on labels"):
        make().compile("adam", loss=loss)
    make(align_weight=0).compile("adam", loss=loss)  # Without heads any loss will do.


def test_heads_need_one_output():
    x = keras.Input((4,))
    hidden = keras.layers.Dense(16)(x)
    # Neither has the shape of the teacher's.
    outputs = [keras.layers.Dense(5)(hidden), keras.layers.Dense(2)(hidden)]
    with pytest.raises(ValueError, match="need a student with one output"):
        make(student=keras.Model(x, outputs), align_weight=0.3)


X, Y = pairs()


@pytest.mark.parametrize(
    ("x", "came"),
    [
        ({"student": X["student"]}, r"a dict with the keys \['student'\]"),
        ({"teachr": X["teacher"], "student": X["student"]}, r"\['student', 'teachr'\]"),
        ({**X, "extra": X["student"]}, r"\['extra', 'student', 'teacher'\]"),
        (X["student"], "ndarray"),
        ((X["teacher"], X["student"]), "tuple"),
    ],
)
def test_training_data(x, came):
    distiller = make()
    distiller.compile("adam", loss=cross_entropy())
    with pytest.raises(ValueError, match=f"Training data must be a dict.*Received: .*{came}"):
        distiller.fit(x, Y, verbose=0)


def test_training_data_from_a_dataset():
    class Students(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return X["student"], Y

    distiller = make()
    distiller.compile("adam", loss=cross_entropy())
    with pytest.raises(ValueError, match="Training data must be a dict"):
        distiller.fit(Students(), verbose=0)


@pytest.mark.parametrize("bad", [-1, 3])
def test_labels_out_of_range(bad):
    distiller = make()
    distiller.compile("adam", loss=cross_entropy())
    labels = np.where(Y == 0, bad, Y)
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.2.*student has 3 outputs"):
        distiller.fit(X, labels, verbose=0)


def test_one_hot_labels_of_another_size():
    distiller = make()
    distiller.compile("adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"Labels must have shape \(samples, 3\)"):
        distiller.fit(X, np.eye(4)[Y], verbose=0)
