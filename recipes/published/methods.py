"""The methods of the paper's tables, each comparing the features before the last activation.

The first candidate of each is the weight of its source, which the paper's protocol uses; the others
are for ours.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_fdkd import FrequencyDistiller
from keras_fdkd.study import Method, methods
from recipes.benchmark.methods import ABLATIONS
from recipes.benchmark.methods import METHODS as BENCHMARKED
from recipes.published.models import with_features
from recipes.shared.paper_numbers import ABLATION, LOSSES, SAME


def _feature_mse(teacher: keras.Model, student: keras.Model, weight: float) -> keras.Model:
    return FrequencyDistiller(
        teacher, student, cutoff=None, standardize=None, low_weight=weight, high_weight=0.0,
        align_weight=0.0,
    )  # fmt: skip


def _compared(method: Method) -> Method:
    """Return a method whose models hand out what the paper compares."""

    def make(teacher: keras.Model, student: keras.Model, **setting: Any) -> keras.Model:
        return method.make(with_features(teacher), with_features(student), **setting)

    return dataclasses.replace(method, make=make)


_MSE = Method(
    _feature_mse,
    tuple({"weight": weight} for weight in (1.0, 0.1, 10.0)),
    title="feature MSE",
)
#: By name, in the paper's order; the last are this package's own.
METHODS: dict[str, Method] = {
    # What compares logits alone needs no features.
    "kd": methods["kd"],
    "dist": methods["dist"],
    "dkd": methods["dkd"],
    "feature_mse": _compared(_MSE),
    "pkd": _compared(methods["pkd"]),
    "c2kd": methods["c2kd"],
    "published": _compared(BENCHMARKED["published"]),
    "fdcmkd": _compared(methods["fdcmkd"]),
}
#: Of the paper's table of parts, with this package's weights.
ABLATION_ROWS: dict[str, Method] = {
    name: _compared(ABLATIONS[name]) for name in (*ABLATION, *LOSSES) if name not in SAME
}
_CLASSIFIERS = {"align_weight", "band_task_weight"}


def without_classifiers(known: dict[str, Method]) -> dict[str, Method]:
    """Return methods without classifiers of bands, as the paper has them for segmentation.

    C2KD is left out: here it needs one label a sample.
    """
    return {name: _bare(method) for name, method in known.items() if name != "c2kd"}


def _bare(method: Method) -> Method:
    make: Callable[..., Any] = method.make
    settings = tuple(
        {key: 0.0 if key in _CLASSIFIERS else value for key, value in setting.items()}
        for setting in method.candidates
    )
    # What was another setting only by its classifiers is there once.
    once = [one for place, one in enumerate(settings) if one not in settings[:place]]
    space = {key: one for key, one in method.space.items() if key not in _CLASSIFIERS}
    return dataclasses.replace(method, make=make, candidates=tuple(once), space=space)
