"""What a model's class adds must not vanish, and the two models must be apart."""

import keras
import numpy as np
import pytest
from conftest import classifier
from keras import layers

from keras_fdkd.model_checks import check_disjoint, check_own_training, check_preprocessor

METHODS = ["train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"]


def student(**methods):
    cls = type("Own", (keras.Sequential,), methods)
    return cls([keras.Input((4,)), layers.Dense(3)])


@pytest.mark.parametrize("name", METHODS)
def test_own_training_is_refused(name):
    with pytest.raises(ValueError, match=rf"with `Own.{name}`"):
        check_own_training(student(**{name: lambda self, *args, **kwargs: None}))
    derived = type("Derived", (type(student(**{name: lambda self, *args: None})),), {})
    with pytest.raises(ValueError, match=rf"with `Own.{name}`"):
        check_own_training(derived([keras.Input((4,)), layers.Dense(3)]))
    alone = classifier(4)
    setattr(alone, name, lambda *args: None)
    with pytest.raises(ValueError, match=f"Sequential.{name}"):
        check_own_training(alone)


def test_other_classes_pass():
    check_own_training(classifier(4))
    x = keras.Input((4,))
    check_own_training(keras.Model(x, layers.Dense(3)(x)))
    check_own_training(student(fit=lambda self: None, helper=lambda self: None))


def test_preprocessor_is_refused():
    model = classifier(4)
    check_preprocessor(model, "teacher")
    model.preprocessor = None
    check_preprocessor(model, "teacher")
    model.preprocessor = layers.Rescaling(0.5, name="scaled")
    with pytest.raises(ValueError, match=r"`teacher` .* has a preprocessor.*Rescaling 'scaled'"):
        check_preprocessor(model, "teacher")


def test_shared_layers_are_refused():
    x = keras.Input((4,))
    shared = layers.Dense(5, name="shared")
    teacher = keras.Model(x, layers.Dense(3)(shared(x)))
    with pytest.raises(ValueError, match="shared/kernel"):
        check_disjoint(teacher, keras.Model(x, layers.Dense(3)(shared(x))))
    with pytest.raises(ValueError, match="must not share layers"):
        check_disjoint(teacher, teacher)
    check_disjoint(teacher, keras.models.clone_model(teacher))
    check_disjoint(teacher, keras.Model(x, layers.Dense(3)(x)))  # An input is no layer.


def test_a_shared_state_is_refused():
    x = keras.Input((4,))
    for stateful in (layers.Dropout(0.5), layers.BatchNormalization(), layers.GaussianNoise(0.1)):
        teacher, other = (keras.Model(x, layers.Dense(3)(stateful(x))) for _ in range(2))
        with pytest.raises(ValueError, match="shared variables"):
            check_disjoint(teacher, other)
    relu = layers.ReLU()
    check_disjoint(*(keras.Model(x, layers.Dense(3)(relu(x))) for _ in range(2)))


@pytest.mark.skipif(keras.config.backend() != "torch", reason="wraps a module of PyTorch")
def test_a_shared_torch_module_is_refused():
    import torch

    module = torch.nn.Linear(4, 3)

    def wrapped(inner):
        wrapper = layers.TorchModuleWrapper(inner, output_shape=(None, 3))
        return keras.Sequential([keras.Input((4,)), wrapper])

    with pytest.raises(ValueError, match="must not share layers"):
        check_disjoint(wrapped(module), wrapped(module))
    check_disjoint(wrapped(module), wrapped(torch.nn.Linear(4, 3)))


def test_equal_weights_are_not_shared_ones():
    teacher, other = classifier(4), classifier(4)
    other.set_weights(teacher.get_weights())
    check_disjoint(teacher, other)
    for mine, theirs in zip(other.variables, teacher.variables, strict=True):
        mine.assign(theirs.value)
    check_disjoint(teacher, other)
    assert np.all(other.get_weights()[0] == teacher.get_weights()[0])
