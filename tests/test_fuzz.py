"""Malformed arguments, one at a time: each ends in an error that names the argument."""

import dataclasses
import functools
import inspect
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from conftest import classifier

import keras_fdkd
from keras_fdkd import analysis, callbacks, data, layers, losses


def malformed():
    """Values by name. Most arguments take none of them; the tables below say which takes which."""
    return {
        "None": None,
        "text": "no-such-thing",
        "empty": "",
        "bytes": b"0.5",
        "true": True,
        "false": False,
        "zero": 0,
        "-1": -1,
        "-0.5": -0.5,
        "2.0": 2.0,
        "2.5": 2.5,
        "huge": 10**400,
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": float("-inf"),
        "complex": 1j,
        "list": [],
        "list of numbers": [1.5, float("nan")],
        "list of texts": ["", "text"],
        "tuple": (0,),
        "dict": {},
        "dict of text": {"teacher": "x", "student": "y"},
        "set": {1},
        "object": object(),
        "class": keras.layers.Dense,
        "function": len,
        "array": np.zeros(3),
        "array of text": np.array(["a", "b"]),
        "tensor": keras.KerasTensor((None, 16)),
        "unbuilt model": keras.Sequential([keras.layers.Dense(3)]),
    }


BACKEND = keras.config.backend()
# What an argument takes of these.
NOTHING = frozenset()
WEIGHT = {"zero", "2.0", "2.5"}  # a number >= 0
POSITIVE = {"2.0", "2.5"}
INTEGER = NOTHING  # from 1 on
SEED = {"zero"}
AXIS = {"-1"}
BOOLEAN = {"true", "false"}
NAME = {"text"}
PATH = {"None", "text"}  # that no model has it, the distiller says
OPTIONAL = {"None"}
PATHS = {"teacher_layer_name": PATH, "student_layer_name": PATH, "name": NAME}
FEATURE = {"teacher_features": OPTIONAL, "student_features": OPTIONAL}


@dataclasses.dataclass
class Target:
    """What is called, arguments that it takes, and what else the arguments may be."""

    call: Callable
    valid: Callable[[], dict[str, Any]] = dict
    takes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def cases(self):
        for argument, taken in self.takes.items():
            for name, value in malformed().items():
                if name not in taken:
                    yield argument, name, value


@functools.cache
def models():
    return classifier(6), classifier(4)


def sides(**more):
    return lambda: dict(zip(("teacher", "student"), models(), strict=True)) | more


@functools.cache
def distiller():
    return keras_fdkd.FrequencyDistiller(*models())


def linear():
    import torch

    return {"module": torch.nn.Linear(6, 3), "example": np.ones((2, 6), "float32")}


def features():
    rng = np.random.default_rng(0)
    return {side: rng.normal(size=(6, 8)).astype("float32") for side in ("teacher", "student")}


def pair():
    return {"teacher": np.ones((6, 6), "float32"), "student": np.ones((6, 4), "float32")}


def directions():
    first, second = (
        keras_fdkd.FrequencyDistiller(classifier(a), classifier(b)) for a, b in ((6, 4), (4, 6))
    )
    return {"audio": first, "video": second}


BANDS = {
    "cutoff": NOTHING,  # with `high_weight`
    "axis": AXIS,
    "standardize": OPTIONAL,
    "low_weight": WEIGHT,
    "high_weight": WEIGHT,
    "low_loss": NOTHING,
    "high_loss": NOTHING,
}
MEMORY = {
    "num_samples": NOTHING,
    "dim": INTEGER,
    "negatives": INTEGER,
    "temperature": POSITIVE,
    "momentum": {"zero"},
    "seed": SEED | OPTIONAL,
}
TARGETS = {
    "CrossModalDistiller": Target(
        keras_fdkd.CrossModalDistiller,
        sides(losses=[losses.RKD()]),
        {
            "teacher": NOTHING,
            "student": NOTHING,
            "losses": NOTHING,
            "loss_weights": OPTIONAL,
            "logs": {"list"},
            "term_weights": OPTIONAL | {"dict"},
            "time_steps": OPTIONAL,
            "task_output": OPTIONAL,
            **FEATURE,
        },
    ),
    "FrequencyDistiller": Target(
        keras_fdkd.FrequencyDistiller,
        sides(),
        {
            "teacher": NOTHING,
            "student": NOTHING,
            **FEATURE,
            **BANDS,
            "pair_weights": OPTIONAL,
            "align_weight": WEIGHT | OPTIONAL,
            "band_task_weight": WEIGHT,
            "align_loss": OPTIONAL,
            "projector": OPTIONAL,  # The sizes are equal.
            "extra_losses": OPTIONAL | {"list"},
            "extra_loss_weights": OPTIONAL | {"list"},
        },
    ),
    "C2KDDistiller": Target(
        keras_fdkd.C2KDDistiller,
        lambda: {"teacher": classifier(6), "student": classifier(4)},
        {
            "teacher": NOTHING,
            "student": NOTHING,
            **FEATURE,
            "krc": {"zero", "-1", "-0.5"},
        },
    ),
    "MutualDistiller": Target(
        keras_fdkd.MutualDistiller,
        lambda: {"distillers": directions()},
        {"distillers": NOTHING},
    ),
    "KD": Target(losses.KD, takes={"temperature": POSITIVE, **PATHS}),
    "DKD": Target(
        losses.DKD, takes={"alpha": WEIGHT, "beta": WEIGHT, "temperature": POSITIVE, **PATHS}
    ),
    "DIST": Target(
        losses.DIST,
        takes={"inter_weight": WEIGHT, "intra_weight": WEIGHT, "temperature": POSITIVE, **PATHS},
    ),
    "BinaryKD": Target(losses.BinaryKD, takes={"temperature": POSITIVE, **PATHS}),
    "PKD": Target(losses.PKD, takes={"projector": OPTIONAL | {"unbuilt model"}, **PATHS}),
    "AT": Target(losses.AT, takes={"p": POSITIVE, **PATHS}),
    "RKD": Target(
        losses.RKD,
        takes={"distance_weight": WEIGHT, "angle_weight": WEIGHT, "eps": POSITIVE, **PATHS},
    ),
    "FitNet": Target(losses.FitNet, takes={"regressor": OPTIONAL | {"unbuilt model"}, **PATHS}),
    "FrequencyDistillation": Target(
        losses.FrequencyDistillation,
        takes={**BANDS, **PATHS, "dtype": OPTIONAL, "projector": OPTIONAL | {"unbuilt model"}},
    ),
    "LogMeanSquaredError": Target(
        losses.LogMeanSquaredError,
        takes={"reduction": OPTIONAL, "name": NAME, "dtype": OPTIONAL},
    ),
    "CrossModalLoss": Target(losses.CrossModalLoss, lambda: {"name": "mine"}, PATHS),
    "CRD": Target(losses.CRD, lambda: {"num_samples": 9}, {**MEMORY, **PATHS}),
    "AFD": Target(
        losses.AFD,
        lambda: {"teacher_layer_name": ["a"], "student_layer_name": ["b"]},
        {
            "teacher_layer_name": NOTHING,
            "student_layer_name": NOTHING,
            "dim": INTEGER,
            "name": NAME,
        },
    ),
    "BandClassifier": Target(
        layers.BandClassifier,
        lambda: {"num_classes": 3},
        {"num_classes": INTEGER, "positions": OPTIONAL},
    ),
    "ContrastiveMemory": Target(layers.ContrastiveMemory, lambda: {"num_samples": 9}, MEMORY),
    "FeatureProjector": Target(
        layers.FeatureProjector,
        lambda: {"units": 3},
        {"units": INTEGER, "sizes": OPTIONAL},
    ),
    "FeatureRegressor": Target(
        layers.FeatureRegressor, lambda: {"target_shape": (3,)}, {"target_shape": NOTHING}
    ),
    "FrequencySplit": Target(
        layers.FrequencySplit, takes={"cutoff": NOTHING, "axis": AXIS, "include_dc": BOOLEAN}
    ),
    "LayerAttention": Target(layers.LayerAttention, takes={"dim": INTEGER}),
    "LogitProxy": Target(
        layers.LogitProxy,
        lambda: {"num_classes": 3},
        {"num_classes": INTEGER, "hidden": OPTIONAL},
    ),
    "StepResampler": Target(layers.StepResampler, lambda: {"steps": 3}, {"steps": INTEGER}),
    "logits_view": Target(
        keras_fdkd.logits_view,
        lambda: {"model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])},
        {"model": NOTHING},
    ),
    "Standardize": Target(
        layers.Standardize,
        takes={"scale": NOTHING, "axis": AXIS | {"zero"}, "center": BOOLEAN, "epsilon": WEIGHT},
    ),
    "band_similarity": Target(
        analysis.band_similarity,
        lambda: {"source": features()},
        {
            "source": NOTHING,
            "data": OPTIONAL,
            "labels": OPTIONAL,
            "cutoff": OPTIONAL,
            "axis": OPTIONAL | AXIS,
            "shuffles": INTEGER,
            "seed": SEED,
        },
    ),
    "extract_features": Target(
        analysis.extract_features,
        lambda: {"distiller": distiller(), "data": pair()},
        {"distiller": NOTHING, "data": NOTHING},
    ),
    "plot_similarity": Target(
        analysis.plot_similarity,
        lambda: {"reports": {"random": analysis.band_similarity(features())}},
        {"reports": NOTHING},
    ),
    "plot_learning_curves": Target(
        analysis.plot_learning_curves,
        lambda: {"histories": {"alone": [{"loss": [2.0, 1.0]}]}, "metric": "loss"},
        {"histories": NOTHING, "metric": NOTHING},
    ),
    "plot_modalities": Target(
        analysis.plot_modalities,
        lambda: {"panels": {"before": features()}, "labels": np.arange(6) % 3, "max_samples": 4},
        {"panels": NOTHING, "labels": NOTHING, "max_samples": INTEGER, "seed": SEED},
    ),
    "BandSimilarity": Target(
        callbacks.BandSimilarity,
        lambda: {"data": pair()},
        {"data": frozenset(malformed()), "every": INTEGER},  # Data are looked at when needed.
    ),
    "CrashSafeBackup": Target(
        callbacks.CrashSafeBackup,
        lambda: {"folder": tempfile.mkdtemp()},
        {"folder": {"text"}, "keep": BOOLEAN},
    ),
    "Ensemble": Target(
        keras_fdkd.Ensemble,
        lambda: {"models": [classifier(6), classifier(6)]},
        {"models": NOTHING, "features": OPTIONAL, "layer_names": OPTIONAL},
    ),
    "WeightSchedule": Target(
        callbacks.WeightSchedule,
        lambda: {"weights": {"kd_loss": abs}},
        {"weights": NOTHING, "every": INTEGER},
    ),
    "RecordedTeacher": Target(
        keras_fdkd.RecordedTeacher,
        lambda: {"features": (3,)},
        {
            "features": NOTHING,
            "logits": OPTIONAL,
            "probabilities": OPTIONAL,
            "layers": OPTIONAL | {"dict"},
            "masked": {"list"},
        },
    ),
    "cache_teacher": Target(
        data.cache_teacher,
        lambda: {"distiller": distiller(), "data": pair(), "verbose": 0},
        {
            "distiller": NOTHING,
            "data": NOTHING,
            "path": {"None", "text"},
            "dtype": {"None"},
            "batch_size": INTEGER,
            "verbose": INTEGER | {"zero"},
            "key": OPTIONAL | NAME,
            "augmented": BOOLEAN,
        },
    ),
    "checked": Target(data.checked, lambda: {"data": keras.utils.PyDataset()}, {"data": NOTHING}),
    "fingerprint": Target(
        keras_fdkd.fingerprint, lambda: {"model": models()[0]}, {"model": NOTHING}
    ),
}
if BACKEND == "torch":  # The others have no module that it takes.
    TARGETS["from_torch"] = Target(
        keras_fdkd.from_torch,
        linear,
        {
            "module": NOTHING,
            "example": NOTHING,
            "features": OPTIONAL,
            "logits": OPTIONAL,
            "data_format": OPTIONAL,
            "name": OPTIONAL | NAME,
        },
    )


@pytest.mark.parametrize("name", TARGETS)
def test_malformed_arguments(name):
    target = TARGETS[name]
    valid = target.valid()
    target.call(**valid)
    failures = []
    for argument, kind, value in target.cases():
        try:
            target.call(**{**valid, argument: value})
        except (ValueError, TypeError) as error:
            if f"`{argument}" not in str(error) and f"{argument}=" not in str(error):
                failures.append(f"{argument}={kind}: {type(error).__name__} says {str(error)!r}")
        except Exception as error:
            failures.append(f"{argument}={kind}: {type(error).__name__} {error}")
        else:
            failures.append(f"{argument}={kind}: accepted")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("name", TARGETS)
def test_what_an_argument_takes(name, tmp_path, monkeypatch):
    """That the tables leave out no more than is right."""
    monkeypatch.chdir(tmp_path)
    target = TARGETS[name]
    valid = target.valid()
    for argument, taken in target.takes.items():
        for kind in sorted(taken):
            target.call(**{**valid, argument: malformed()[kind]})


def test_every_public_name_is_among_them():
    """And every argument of theirs that is not one of Keras."""
    names = set()
    for module in (losses, layers, analysis, callbacks):
        names |= set(module.__all__)
    names |= {name for name in keras_fdkd.__all__ if callable(getattr(keras_fdkd, name))}
    of_torch = set() if BACKEND == "torch" else {"from_torch"}
    # `fit_safely` hands its data on to `fit`; tests/test_fit_safely.py has its arguments.
    assert names - set(TARGETS) == {"SimilarityReport", "fit_safely"} | of_torch
    for target in TARGETS.values():
        parameters = inspect.signature(target.call).parameters.values()
        arguments = {p.name for p in parameters if p.kind != inspect.Parameter.VAR_KEYWORD}
        assert arguments == set(target.takes), target.call


def test_there_are_many():
    assert sum(len(list(target.cases())) for target in TARGETS.values()) >= 500
