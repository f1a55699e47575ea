"""The methods that the benchmark compares, each with the settings that tuning may choose from.

What `keras_fdkd.study` knows by name is used as it is. Every method has three candidates or one,
which span a factor of 10 to 100 around what its source uses; the weight of the task loss is 1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras.distillation import FeatureDistillation

from keras_fdkd import PUBLISHED, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import AFD, AT, KD
from keras_fdkd.study import Method, methods
from recipes.shared.experiment import Experiment
from recipes.variants.parts import Scheduled

NONE = "none"
Setting = dict[str, Any]


def _weights(*values: float) -> tuple[Setting, ...]:
    return tuple({"weight": value} for value in values)


def _feature_mse(teacher: keras.Model, student: keras.Model, weight: float) -> keras.Model:
    loss = FeatureDistillation("mse", teacher_layer_name="feature", student_layer_name="feature")
    return CrossModalDistiller(teacher, student, losses=[loss], loss_weights=[weight])


def _attention(paths: tuple[str, ...]) -> Callable[..., keras.Model]:
    def make(teacher: keras.Model, student: keras.Model, weight: float) -> keras.Model:
        losses = [AT(teacher_layer_name=path, student_layer_name=path) for path in paths]
        weights = [weight] * len(losses)
        return CrossModalDistiller(teacher, student, losses=losses, loss_weights=weights)

    return make


def _afd(paths: tuple[str, ...]) -> Callable[..., keras.Model]:
    def make(teacher: keras.Model, student: keras.Model, weight: float) -> keras.Model:
        names = list(paths)
        losses = [AFD(teacher_layer_name=names, student_layer_name=names), KD()]
        return CrossModalDistiller(teacher, student, losses=losses, loss_weights=[weight, 1.0])

    return make


def _rising(teacher: keras.Model, student: keras.Model, steps: int, **options: Any) -> keras.Model:
    """Terms that rise over the first quarter of training."""
    return Scheduled(teacher, student, schedule="rise", steps=steps, **options)


def _published(weight: float) -> Setting:
    return {**PUBLISHED, "low_weight": weight, "high_weight": weight}


def _bands(scale: float, align_weight: float = 0.3) -> Setting:
    """The bands of unit variance, in the proportions of the package's defaults."""
    return {"low_weight": 3.0 * scale, "high_weight": scale, "align_weight": align_weight}


def _whole(weight: float) -> Setting:
    """The standardized feature without a split, and one shared classifier."""
    return {"cutoff": None, "low_weight": weight, "high_weight": 0.0, "align_weight": 0.3}


def _frequency(title: str, *settings: Setting) -> Method:
    return Method(FrequencyDistiller, settings, title=title)


_KNOWN = ("kd", "dkd", "dist", "fitnet", "pkd", "rkd", "crd", "c2kd")
#: Of one teacher, by name, in the order of the tables.
METHODS: dict[str, Method] = {
    **{name: methods[name] for name in _KNOWN},
    "feature_mse": Method(_feature_mse, _weights(10, 100, 1000), title="feature MSE"),
    "at": Method(_attention(()), _weights(100, 1000, 5000), title="AT"),
    "afd": Method(_afd(()), _weights(20, 200, 1000), title="AFD + KD"),
    "published_own": _frequency("FD-CMKD, published weights", _published(1.0)),
    "published": _frequency(
        "FD-CMKD, published loss", *(_published(weight) for weight in (1.0, 100.0, 1000.0))
    ),
    "ours_defaults": _frequency("FrequencyDistiller, defaults", _bands(1.0)),
    "ours_bands": _frequency(
        "FD-CMKD, unit variance", *(_bands(scale) for scale in (0.3, 1.0, 3.0))
    ),
    "ours_whole": _frequency("unit variance, no split", *map(_whole, (1.3, 4.0, 12.0))),
    "ours_tenth": _frequency("defaults, a tenth of the weights", _bands(0.1, 0.03)),
    "ours_classifiers": _frequency("shared classifiers alone", _bands(0.0)),
    "ours_rising": Method(_rising, (_bands(1.0),), title="defaults, rising"),
}
_MAPS = {"at": _attention, "afd": _afd}
#: Of three teachers.
THREE: dict[str, Method] = {
    "ours_three": _frequency("defaults, three teachers", _bands(1.0)),
    "ours_three_rising": Method(_rising, (_bands(1.0),), title="defaults, three teachers, rising"),
}
TITLES = {
    NONE: "no distillation",
    **{name: method.title for name, method in {**METHODS, **THREE}.items()},
}


def methods_of(experiment: Experiment) -> dict[str, Method]:
    """Return the methods of one teacher that the experiment's models have the layers for."""
    found = dict(METHODS)
    for name, make in _MAPS.items():
        if experiment.maps:
            found[name] = dataclasses.replace(found[name], make=make(experiment.maps))
        else:
            del found[name]
    return found


# The paper's ablation rows, pairs of band losses and cutoffs: what each changes of the whole.
_WHOLE: Setting = {
    **_bands(1.0), "cutoff": 0.5, "standardize": "variance", "low_loss": "mse",
    "high_loss": "log_mse", "band_task_weight": 0.0,
}  # fmt: skip
_CHANGES: dict[str, Setting] = {
    "ablation: feature MSE": {
        "cutoff": None, "high_weight": 0.0, "align_weight": 0.0, "standardize": None,
    },
    "ablation: frequency": {"high_loss": "mse", "align_weight": 0.0, "standardize": None},
    "ablation: align": {"cutoff": None, "high_weight": 0.0, "standardize": None},
    "ablation: frequency + align": {"high_loss": "mse", "standardize": None},
    "ablation: frequency + scale": {"high_loss": "mse", "align_weight": 0.0},
    "ablation: frequency + align + scale": {"high_loss": "mse"},
    "ablation: all with logMSE": {},
    "losses: logMSE + logMSE": {"low_loss": "log_mse"},
    "cutoff: 1/4": {"cutoff": 1 / 4},
    "cutoff: 1/3": {"cutoff": 1 / 3},
    "cutoff: 2/3": {"cutoff": 2 / 3},
    "cutoff: 3/4": {"cutoff": 3 / 4},
}  # fmt: skip
ABLATIONS: dict[str, Method] = {
    name: _frequency(name, {**_WHOLE, **change}) for name, change in _CHANGES.items()
}
