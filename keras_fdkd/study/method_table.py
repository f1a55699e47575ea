"""The methods that a study knows by name, each with the settings that tuning may choose from.

The first candidate is near the weight of the method's source, or near this package's default; the
others, and the space, span a factor of 10 to 100 around it. The weight of the task loss is 1.
"""

from collections.abc import Callable
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from keras_fdkd.distillers import (
    PUBLISHED,
    C2KDDistiller,
    CrossModalDistiller,
    FrequencyDistiller,
)
from keras_fdkd.losses import CRD, DIST, DKD, KD, PKD, RKD, BinaryKD, FitNet
from keras_fdkd.study.method import Method

_NEGATIVES = 1024


def _with(make_loss: Callable[[], Any]) -> Callable[..., Any]:
    def make(teacher: Any, student: Any, weight: float) -> Any:
        return CrossModalDistiller(teacher, student, losses=[make_loss()], loss_weights=[weight])

    return make


def _crd(teacher: Any, student: Any, samples: int, weight: float) -> Any:
    loss = CRD(samples, negatives=min(_NEGATIVES, samples))
    return CrossModalDistiller(teacher, student, losses=[loss], loss_weights=[weight])


def _bands(
    teacher: Any, student: Any, scale: float, align_weight: float, cutoff: float | None
) -> Any:
    """Bands of unit variance. Without a split the whole feature has the weight of both bands."""
    low, high = (3.0, 1.0) if cutoff else (4.0, 0.0)
    return FrequencyDistiller(
        teacher,
        student,
        cutoff=cutoff,
        low_weight=low * scale,
        high_weight=high * scale,
        align_weight=align_weight,
    )


def _published(teacher: Any, student: Any, scale: float) -> Any:
    weights = {"low_weight": scale, "high_weight": scale}
    return FrequencyDistiller(teacher, student, **{**PUBLISHED, **weights})


def _weighted(title: str, loss: Any, weights: tuple[float, ...], when: str, source: str) -> Method:
    make = loss if loss is _crd else _with(loss)
    return Method(
        make,
        candidates=tuple({"weight": weight} for weight in weights),
        space={"weight": FloatDistribution(min(weights), max(weights), log=True)},
        title=title,
        when=when,
        source=source,
    )


_LOGITS = "Teacher and student predict the same classes"

#: By name. `None` as a cutoff stands for no split.
methods: dict[str, Method] = {
    "kd": _weighted(
        "KD", KD, (2.0, 0.3, 9.0), f"{_LOGITS}; the plainest start.",
        "Hinton et al., 2015",
    ),
    "dkd": _weighted(
        "DKD", DKD, (0.5, 0.1, 2.0), f"{_LOGITS}, and there are many.",
        "Zhao et al., CVPR 2022",
    ),
    "dist": _weighted(
        "DIST", DIST, (2.0, 0.7, 6.0), f"{_LOGITS}; the teacher is far stronger.",
        "Huang et al., NeurIPS 2022",
    ),
    "binary_kd": _weighted(
        "binary KD", BinaryKD, (2.0, 0.3, 9.0), "Independent labels, several a sample.",
        "Hinton et al., 2015, a label at a time",
    ),
    "fitnet": _weighted(
        "FitNet", FitNet, (100.0, 10.0, 1000.0), "Features of any task; their scale matters.",
        "Romero et al., ICLR 2015",
    ),
    "pkd": _weighted(
        "PKD", lambda: PKD(projector="auto"), (6.0, 1.0, 30.0),
        "Features of any task, their scales removed.", "Cao et al., NeurIPS 2022",
    ),
    "rkd": _weighted(
        "RKD", RKD, (0.5, 0.1, 2.0), "Vectors whose distances matter, of any two sizes.",
        "Park et al., CVPR 2019",
    ),
    "crd": _weighted(
        "CRD", _crd, (0.4, 0.1, 1.6), "Vectors, thousands of samples or more.",
        "Tian et al., ICLR 2020",
    ),
    "c2kd": Method(
        C2KDDistiller,
        candidates=({"krc": 0.0}, {"krc": -1.0}, {"krc": 0.3}),
        space={"krc": FloatDistribution(-1.0, 0.6)},
        title="C2KD",
        when="Classes, and a teacher that may be trained too and runs in each step.",
        source="Huo et al., CVPR 2024",
        changes_teacher=True,
    ),
    "fdcmkd": Method(
        _bands,
        candidates=(
            {"scale": 1.0, "align_weight": 0.3, "cutoff": 0.5},
            {"scale": 0.1, "align_weight": 0.03, "cutoff": 0.5},
            {"scale": 1.0, "align_weight": 0.3, "cutoff": None},
            {"scale": 0.0, "align_weight": 0.3, "cutoff": 0.5},
        ),
        space={
            # Not log-uniform, because of 0, which leaves the heads alone.
            "scale": CategoricalDistribution((0.0, 0.1, 0.3, 1.0, 3.0)),
            "align_weight": CategoricalDistribution((0.03, 0.3, 1.0)),
            "cutoff": CategoricalDistribution((0.5, None)),
        },
        title="FD-CMKD, unit variance",
        when="Features of any task; few labels and many pairs.",
        source="Liu et al., AAAI 2026, with features of unit variance",
    ),
    "fdcmkd_published": Method(
        _published,
        candidates=({"scale": 1.0}, {"scale": 100.0}, {"scale": 1000.0}),
        space={"scale": FloatDistribution(1.0, 1000.0, log=True)},
        title="FD-CMKD, published",
        when="To compare with the paper. At weight 1 its terms are too small to matter.",
        source="Liu et al., AAAI 2026, with the authors' loss",
    ),
}  # fmt: skip
