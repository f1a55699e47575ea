"""The methods that the benchmark compares, each with the settings that tuning may choose from.

Every method has three candidates, which span a factor of 10 to 100 around what its source uses; the
package's defaults are also run as they are. The weight of the task loss is 1 for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras.distillation import FeatureDistillation

from keras_fdkd import PUBLISHED, C2KDDistiller, CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import AFD, AT, CRD, DIST, DKD, KD, PKD, RKD, FitNet
from recipes.experiment import Experiment

NEGATIVES = 1024
Setting = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One way to train a student with a teacher.

    Attributes:
        title: In tables.
        make: From teacher, student, experiment, number of training samples and one setting to
            the distiller; `None` where nothing is distilled.
        settings: Candidates of the tuning.
        maps: Whether it needs layers with maps of one kind in both models.
        frozen_teacher: Whether the teacher can run once, before training.
        similarity: Whether to measure the bands of both features after training.
    """

    title: str
    make: Callable[..., keras.Model] | None
    settings: tuple[Setting, ...] = ({},)
    maps: bool = False
    frozen_teacher: bool = True
    similarity: bool = False


def applies(method: Method, experiment: Experiment) -> bool:
    """Return whether the experiment's models have what the method compares."""
    return bool(experiment.maps) or not method.maps


def _weights(*values: float) -> tuple[Setting, ...]:
    return tuple({"weight": value} for value in values)


def _with(*make_losses: Callable[[], Any]) -> Callable[..., keras.Model]:
    """Return a maker of a distiller with these losses, all of the same weight."""

    def make(
        teacher: keras.Model,
        student: keras.Model,
        experiment: Experiment,
        count: int,
        weight: float,
    ) -> keras.Model:
        losses = [make_loss() for make_loss in make_losses]
        return CrossModalDistiller(
            teacher, student, losses=losses, loss_weights=[weight] * len(losses)
        )

    return make


def _feature_mse() -> FeatureDistillation:
    return FeatureDistillation("mse", teacher_layer_name="feature", student_layer_name="feature")


def _crd(
    teacher: keras.Model, student: keras.Model, experiment: Experiment, count: int, weight: float
) -> keras.Model:
    return _with(lambda: CRD(count, negatives=NEGATIVES))(
        teacher, student, experiment, count, weight
    )


def _maps(
    teacher: keras.Model, student: keras.Model, experiment: Experiment, count: int, weight: float
) -> keras.Model:
    losses = [AT(teacher_layer_name=path, student_layer_name=path) for path in experiment.maps]
    weights = [weight] * len(losses)
    return CrossModalDistiller(teacher, student, losses=losses, loss_weights=weights)


def _afd(
    teacher: keras.Model, student: keras.Model, experiment: Experiment, count: int, weight: float
) -> keras.Model:
    paths = list(experiment.maps)
    losses = [AFD(teacher_layer_name=paths, student_layer_name=paths), KD()]
    return CrossModalDistiller(teacher, student, losses=losses, loss_weights=[weight, 1.0])


def _c2kd(
    teacher: keras.Model, student: keras.Model, experiment: Experiment, count: int, krc: float
) -> keras.Model:
    return C2KDDistiller(teacher, student, krc=krc)


def frequency(
    teacher: keras.Model, student: keras.Model, experiment: Experiment, count: int, **options: Any
) -> keras.Model:
    """Return a `FrequencyDistiller`."""
    return FrequencyDistiller(teacher, student, **options)


def _published(weight: float) -> Setting:
    return {**PUBLISHED, "low_weight": weight, "high_weight": weight}


def _bands(scale: float) -> Setting:
    """The bands of unit variance, in the proportions of the package's defaults."""
    return {"low_weight": 3.0 * scale, "high_weight": scale, "align_weight": 0.3}


def _whole(weight: float) -> Setting:
    """The standardized feature without a split, and one shared classifier."""
    return {"cutoff": None, "low_weight": weight, "high_weight": 0.0, "align_weight": 0.3}


METHODS: dict[str, Method] = {
    "none": Method("no distillation", None),
    "kd": Method("KD", _with(KD), _weights(0.3, 2, 9)),
    "dkd": Method("DKD", _with(DKD), _weights(0.1, 0.5, 2)),
    "dist": Method("DIST", _with(DIST), _weights(0.7, 2, 6)),
    "feature_mse": Method("feature MSE", _with(_feature_mse), _weights(10, 100, 1000)),
    "fitnet": Method("FitNet", _with(FitNet), _weights(10, 100, 1000)),
    "pkd": Method("PKD", _with(PKD), _weights(1, 6, 30)),
    "rkd": Method("RKD", _with(RKD), _weights(0.1, 0.5, 2)),
    "crd": Method("CRD", _crd, _weights(0.1, 0.4, 1.6)),
    "at": Method("AT", _maps, _weights(100, 1000, 5000), maps=True),
    "afd": Method("AFD + KD", _afd, _weights(20, 200, 1000), maps=True),
    "c2kd": Method(
        "C2KD", _c2kd, ({"krc": -1.0}, {"krc": 0.0}, {"krc": 0.3}), frozen_teacher=False
    ),
    "published": Method(
        "FD-CMKD, published",
        frequency,
        tuple(_published(w) for w in (1.0, 100.0, 1000.0)),
        similarity=True,
    ),
    "ours_defaults": Method(
        "FrequencyDistiller, defaults", frequency, (_bands(1.0),), similarity=True
    ),
    "ours_bands": Method(
        "FD-CMKD, unit variance",
        frequency,
        tuple(_bands(w) for w in (0.3, 1.0, 3.0)),
        similarity=True,
    ),
    "ours_whole": Method(
        "unit variance, no split",
        frequency,
        tuple(_whole(w) for w in (1.3, 4.0, 12.0)),
        similarity=True,
    ),
}

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
ABLATIONS: dict[str, Setting] = {name: {**_WHOLE, **change} for name, change in _CHANGES.items()}
