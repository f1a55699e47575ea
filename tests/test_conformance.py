"""Keras's own conformance checks on every public class."""

import inspect

import keras
import pytest
from keras.src import testing
from test_saving import MAKERS

from keras_fdkd import distillers, layers, losses

LAYERS = [
    (layers.FrequencySplit, {"cutoff": 0.3, "axis": 1, "include_dc": True}, (2, 6, 3)),
    (layers.FrequencySplit, {"cutoff": 0.4, "axis": (1, 2)}, (2, 6, 5, 3)),
    (layers.Standardize, {"scale": "norm", "center": False, "epsilon": 1e-6}, (2, 5)),
    (layers.Standardize, {"axis": (1, 2)}, (2, 6, 5, 3)),
    (layers.BandClassifier, {"num_classes": 3}, (2, 5)),
    (layers.FeatureProjector, {"units": 4}, (2, 5)),
    (layers.FeatureProjector, {"units": 4, "sizes": (7, None)}, (2, 3, 6, 5)),
    (layers.FeatureProjector, {"units": 4, "sizes": (7,)}, (2, 3, 5)),
    (layers.StepResampler, {"steps": 4}, (2, 6, 5)),
    (layers.FeatureRegressor, {"target_shape": (4,)}, (2, 5)),
    (layers.FeatureRegressor, {"target_shape": (4, 4, 3)}, (2, 8, 8, 5)),
    (layers.FeatureRegressor, {"target_shape": (4, 9, 3)}, (2, 8, 5, 5)),
    (layers.LogitProxy, {"num_classes": 3, "hidden": 4}, (2, 4, 4, 5)),
]
# Layers of several inputs, which the check of one input cannot run.
SEVERAL_INPUTS = [
    layers.ContrastiveMemory(12, dim=4, negatives=6, temperature=0.1, momentum=0.4, seed=1),
    layers.LayerAttention(dim=8),
]
LOSSES = [
    losses.KD(3.0, name="a"),
    losses.BinaryKD(3.0, name="c"),
    losses.DKD(0.5, 4.0, temperature=2.0),
    losses.DIST(0.5, 2.0, temperature=3.0),
    losses.FitNet(teacher_layer_name="pool", student_layer_name="a/b"),
    losses.PKD(teacher_layer_name="pool"),
    losses.AT(teacher_layer_name="x", student_layer_name="y"),
    losses.RKD(1.0, 3.0),
    losses.CRD(10, dim=4, negatives=5, temperature=0.1, momentum=0.3, seed=2),
    losses.AFD(dim=8, teacher_layer_name=["x"], student_layer_name=["y", "z"]),
    losses.FrequencyDistillation(0.3, 1, "norm", 2.0, 3.0, "log_mse", keras.losses.Huber(0.5)),
    losses.FrequencyDistillation(0.3, (1, 2), "norm"),
    losses.LogMeanSquaredError(reduction="sum", name="b"),
]


@pytest.fixture
def case():
    class Case(testing.TestCase):
        def runTest(self):  # noqa: N802
            pass

    return Case()


@pytest.mark.parametrize(("cls", "arguments", "shape"), LAYERS)
def test_layers(case, cls, arguments, shape):
    case.run_layer_test(cls, arguments, input_shape=shape, run_training_check=False)


@pytest.mark.parametrize("instance", [*SEVERAL_INPUTS, *LOSSES], ids=lambda i: type(i).__name__)
def test_serialization(case, instance):
    case.run_class_serialization_test(instance)


@pytest.mark.parametrize("make", MAKERS)
def test_distillers(case, make):
    case.run_class_serialization_test(make())


def arguments_of(cls):
    parameters = inspect.signature(cls.__init__).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in kinds} - {"self"}


PUBLIC = [
    getattr(module, name)
    for module in (layers, losses, distillers)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) and name != "CrossModalLoss"
]


@pytest.mark.parametrize("cls", PUBLIC)
def test_configurations_hold_every_argument(cls):
    made = [layer(**arguments) for layer, arguments, _ in LAYERS]
    made += [*SEVERAL_INPUTS, *LOSSES, *(make() for make in MAKERS)]
    found = [instance for instance in made if type(instance) is cls]
    assert found, cls
    for instance in found:
        assert arguments_of(cls) <= set(instance.get_config())
