"""Shared by all tests: reference numbers, tolerances, small models."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def golden():
    """Load a reference file by name."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


#: What trains a whole recipe says the same on each backend, and takes minutes.
whole_recipe = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="whole recipes run once, on PyTorch"
)


def assert_golden(value, reference):
    """The float32 tolerance of the reference numbers (tests/golden/README.md)."""
    value = ops.convert_to_numpy(value) if ops.is_tensor(value) else np.asarray(value)
    reference = np.asarray(reference)
    assert value.shape == reference.shape
    bound = 1e-5 * np.abs(reference) + 2e-6 * np.abs(reference).max()
    np.testing.assert_array_less(np.abs(value - reference), np.maximum(bound, 1e-30))


def gradient(function, x):
    """Gradient of the scalar `function(x)` with respect to `x`, through Keras's own training.

    A model that holds `x` as its only weight takes one step of SGD with momentum and rate 1: its
    momentum is then minus the gradient.
    """

    class Holder(keras.Model):
        def __init__(self):
            super().__init__(dtype=str(x.dtype))
            self.value = self.add_weight(shape=x.shape, initializer="zeros", dtype=str(x.dtype))
            self.value.assign(x)
            self.built = True

        def call(self, inputs):
            return self.value + 0.0

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return function(y_pred)

    model = Holder()
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9))
    model.fit(np.zeros((1, 1), "float32"), verbose=0, batch_size=1)
    return -ops.convert_to_numpy(momentum_of(model.optimizer, model.value))


def momentum_of(optimizer, variable):
    """The momentum an SGD optimizer keeps for a variable."""
    wanted = variable.path.replace("/", "_")
    matches = [v for v in optimizer.variables if v.path.endswith(f"{wanted}_momentum")]
    assert len(matches) == 1, (wanted, [v.path for v in optimizer.variables])
    return matches[0]


def classifier(inputs, features=16, classes=3, **layers):
    """A small model with a hidden layer `feature`; `layers` may add dropout and batch norm."""
    stack = [keras.Input((inputs,)), keras.layers.Dense(features, name="feature")]
    if layers.get("batch_norm"):
        stack.append(keras.layers.BatchNormalization())
    stack.append(keras.layers.Activation("relu", name="pool"))
    if layers.get("dropout"):
        stack.append(keras.layers.Dropout(layers["dropout"]))
    return keras.Sequential([*stack, keras.layers.Dense(classes, name="logits")])


class Opaque(keras.layers.Layer):
    """A layer that Keras has no configuration of."""

    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def call(self, inputs):
        return inputs


def pairs(samples=24, teacher=6, student=4, classes=3, seed=0):
    """Random inputs of both sides, and labels."""
    rng = np.random.default_rng(seed)
    x = {
        "teacher": rng.normal(size=(samples, teacher)).astype("float32"),
        "student": rng.normal(size=(samples, student)).astype("float32"),
    }
    return x, rng.integers(classes, size=samples).astype("int32")


def cross_entropy(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **kwargs)
