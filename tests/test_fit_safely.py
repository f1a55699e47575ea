"""Training with and without the teacher, and keeping the better student."""

import keras
import numpy as np
import pytest
from conftest import classifier, cross_entropy, pairs
from keras import ops

from keras_fdkd import C2KDDistiller, CrossModalDistiller, FrequencyDistiller, fit_safely
from keras_fdkd.best_epoch import BestEpoch
from keras_fdkd.losses import KD, CrossModalLoss


def made(weight=1.0, teacher=None):
    keras.utils.set_random_seed(1)
    teacher = classifier(6) if teacher is None else teacher
    distiller = CrossModalDistiller(
        teacher, classifier(4, batch_norm=True), losses=[KD()], loss_weights=[weight]
    )
    distiller.compile(keras.optimizers.Adam(0.05), cross_entropy(), metrics=["accuracy"])
    return distiller


def task():
    x, y = pairs(samples=48)
    y = (x["student"][:, 0] > 0).astype("int32")
    return x, y, (x["student"][:16], y[:16])


def test_a_harmful_teacher_is_left_out():
    """The student is then the one of plain training, bit by bit."""
    x, y, validation = task()
    teacher = classifier(6)
    teacher.layers[-1].set_weights([np.zeros((16, 3)), np.array([0, 0, 90])])  # Always class 2.
    distiller = made(50.0, teacher)
    asked = {"epochs": 3, "batch_size": 16, "verbose": 0}
    kept = fit_safely(distiller, x, y, validation_data=validation, **asked)
    assert kept.kept == "plain"
    assert kept.scores["plain"] < kept.scores["distilled"]
    assert str(kept).startswith("Kept the plain student: val_task_loss")
    assert distiller.term_weights["kd_loss"] == 50.0
    plain = made(teacher=teacher).student
    plain.compile(keras.optimizers.Adam(0.05), cross_entropy())
    keras.utils.set_random_seed(0)
    best = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    plain.fit(x["student"], y, validation_data=validation, callbacks=[best], **asked)
    for mine, other in zip(distiller.student.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_a_helpful_teacher_is_kept():
    """It knows the labels of pairs that have none."""
    x, y, validation = task()
    teacher = classifier(6)
    teacher.compile(keras.optimizers.Adam(0.05), cross_entropy())
    x["teacher"][:, 0] = 3.0 * x["student"][:, 0]
    teacher.fit(x["teacher"], y, epochs=20, verbose=0)
    distiller = made(5.0, teacher)
    loss = cross_entropy(ignore_class=-1)
    distiller.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    labels = np.where(np.arange(48) % 12, -1, y)
    asked = {"epochs": 20, "batch_size": 48, "verbose": 0, "monitor": "val_loss"}
    kept = fit_safely(distiller, x, labels, validation_data=validation, **asked)
    assert kept.kept == "distilled"
    assert kept.scores["distilled"] < kept.scores["plain"]
    score = distiller.evaluate(*validation, verbose=0, return_dict=True)["loss"]
    assert score == pytest.approx(kept.scores["distilled"], rel=1e-5)
    assert np.min(kept.histories["distilled"]["val_loss"]) == kept.scores["distilled"]


@pytest.mark.filterwarnings("ignore:Early stopping conditioned")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"validation_data": None}, "choose the student"),
        ({"callbacks": []}, "cannot serve two trainings"),
        ({"monitor": ""}, "`monitor` must be"),
        ({"monitor": "accuracies"}, "`monitor` must be one of"),
        ({"mode": "up"}, "`mode` must be"),
    ],
)
def test_bad_arguments(change, said):
    x, y, validation = task()
    asked = {"validation_data": validation, "verbose": 0, "mode": "max", **change}
    with pytest.raises(ValueError, match=said):
        fit_safely(made(), x, y, **asked)


@pytest.mark.filterwarnings("ignore:Early stopping conditioned")
def test_weights_are_back_after_an_error():
    x, y, validation = task()
    distiller = made(5.0)
    asked = {"validation_data": validation, "verbose": 0, "monitor": "val_acc", "mode": "max"}
    with pytest.raises(ValueError, match="`monitor` must be one of"):
        fit_safely(distiller, x, y, **asked)
    assert distiller.term_weights["kd_loss"] == 5.0


def test_a_student_that_diverged_is_not_kept():
    x, y, validation = task()
    distiller = made(1e38)
    distiller.compile(keras.optimizers.SGD(10.0), cross_entropy())
    kept = fit_safely(distiller, x, y, validation_data=validation, verbose=0)
    assert kept.kept == "plain"
    assert np.isfinite(kept.scores["plain"])


def test_the_first_epoch_may_be_nan():
    """Nothing is better than NaN, so Keras would keep it."""

    best = BestEpoch("val_task_loss", "min", 3)
    model = classifier(4)
    best.set_model(model)
    best.on_train_begin()
    for epoch, value in enumerate((float("nan"), 2.0, 3.0)):
        model.layers[-1].bias.assign(np.full(3, epoch))
        best.on_epoch_end(epoch, {"val_task_loss": value})
    best.on_train_end()
    assert (best.best, best.best_epoch) == (2.0, 1)
    np.testing.assert_array_equal(model.layers[-1].get_weights()[1], 1.0)


@pytest.mark.parametrize(
    "asked", [{"validation_freq": 2, "epochs": 4}, {"initial_epoch": 2, "epochs": 4}], ids=str
)
def test_the_best_epoch_is_found_whichever_are_validated(asked):
    x, y, validation = task()
    kept = fit_safely(made(), x, y, validation_data=validation, batch_size=16, verbose=0, **asked)
    for name, score in kept.scores.items():
        history = kept.histories[name]["val_task_loss"]
        assert len(history) == 2
        assert score == pytest.approx(min(history))


def test_terms_that_are_not_finite():
    class Infinite(CrossModalLoss):
        def __init__(self):
            super().__init__(teacher_layer_name=None, student_layer_name=None, name="infinite")

        def call(self, teacher, student, y=None):
            return ops.sum(float("nan") * student, axis=-1)

    x, y, validation = task()
    # Without a ReLU, which takes NaN for 0 on TensorFlow.
    layers = [keras.layers.Dense(8), keras.layers.Dense(3)]
    student = keras.Sequential([keras.Input((4,)), *layers])
    distiller = CrossModalDistiller(classifier(6), student, losses=[Infinite()])
    distiller.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="Neither training came to a finite `val_task_loss`"):
        fit_safely(distiller, x, y, validation_data=validation, verbose=0)


def test_terms_are_no_part_of_what_is_compared():
    """With validation pairs `val_loss` holds them, and the distilled student would look worse."""
    x, y, _ = task()
    validation = {side: values[:16] for side, values in x.items()}, y[:16]
    kept = fit_safely(
        made(), x, y, validation_data=validation, monitor="val_loss", epochs=2, verbose=0
    )
    assert kept.monitor == "val_task_loss"
    logs = kept.histories["distilled"]
    assert min(logs["val_task_loss"]) == kept.scores["distilled"]
    assert min(logs["val_loss"]) > kept.scores["distilled"] + 0.01


def test_what_has_no_terms_to_leave_out():
    x, y, validation = task()
    for trainer in (C2KDDistiller(classifier(6), classifier(4)), classifier(4)):
        with pytest.raises(ValueError, match="whose terms can be left out"):
            fit_safely(trainer, x, y, validation_data=validation)
    with pytest.raises(ValueError, match="Compile the distiller first"):
        fit_safely(
            FrequencyDistiller(classifier(6), classifier(4)), x, y, validation_data=validation
        )
