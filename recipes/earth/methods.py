"""The methods to compare: they differ in what is split, and along which axes.

All rows of `FrequencyDistiller` have the package's default weights (3 for the low band, 1 for the
high one, 4 for what is not split) times a scale, and no shared classifiers.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.features import FEATURES
from keras_fdkd.losses import AT
from keras_fdkd.study import Method, methods
from recipes.earth.models import FEATURE

SPACE, CHANNELS = (1, 2), -1


@keras.saving.register_keras_serializable(package="recipes.earth")
class ShuffledDistiller(FrequencyDistiller):
    """Control: the positions of both maps change places before they are split over space.

    It is one permutation for all tiles and both sides. What is compared stays the same, but "low"
    then means nothing: the band is a subspace of the same size, drawn at random.
    """

    def compare(
        self, teacher: dict[str, Any], student: dict[str, Any], training: bool
    ) -> dict[str, Any]:
        return super().compare(_shuffled(teacher), _shuffled(student), training)


def _shuffled(outputs: dict[str, Any]) -> dict[str, Any]:
    return {**outputs, FEATURES: shuffle_positions(outputs[FEATURES])}


def shuffle_positions(x: Any) -> Any:
    """Permute the positions of maps `(batch, height, width, channels)`, always alike."""
    _, height, width, channels = x.shape
    order = np.random.default_rng(0).permutation(height * width)
    flat = ops.take(ops.reshape(x, (-1, height * width, channels)), order, axis=1)
    return ops.reshape(flat, (-1, height, width, channels))


def _bands(
    teacher: keras.Model,
    student: keras.Model,
    scale: float,
    *,
    cutoff: float | None = 0.5,
    axis: Any = SPACE,
    standardize: str | None = "variance",
    kind: type[FrequencyDistiller] = FrequencyDistiller,
) -> keras.Model:
    # The same sum, so that rows differ in the split and not in the weight.
    low, high = (4.0, 0.0) if cutoff is None else (3.0, 1.0)
    return kind(
        teacher,
        student,
        teacher_features=FEATURE,
        student_features=FEATURE,
        cutoff=cutoff,
        axis=axis,
        standardize=standardize,
        low_weight=low * scale,
        high_weight=high * scale,
    )


def _attention(teacher: keras.Model, student: keras.Model, weight: float) -> keras.Model:
    loss = AT(teacher_layer_name=FEATURE, student_layer_name=FEATURE)
    return CrossModalDistiller(teacher, student, losses=[loss], loss_weights=[weight])


def _frequency(title: str, **options: Any) -> Method:
    make = functools.partial(_bands, **options)
    return Method(make, ({"scale": 1.0}, {"scale": 0.1}), title=title)


#: By name, in the order of the tables.
METHODS: dict[str, Method] = {
    "kd": methods["kd"],
    # Large, since squares of parts of a unit vector are small; 1000 is as published.
    "at": Method(_attention, ({"weight": 1000.0}, {"weight": 100.0}), title="AT"),
    "feature_mse": _frequency("feature MSE", cutoff=None, standardize=None),
    "whole": _frequency("no split", cutoff=None),
    "space_quarter": _frequency("split over space at 1/4", cutoff=0.25),
    "space_half": _frequency("split over space at 1/2"),
    "space_three_quarters": _frequency("split over space at 3/4", cutoff=0.75),
    "shuffled": _frequency("split over shuffled positions at 1/2", kind=ShuffledDistiller),
    # What `channels` is set beside: standardized as it is, so only the split differs.
    "channels_whole": _frequency("no split, channels standardized", cutoff=None, axis=CHANNELS),
    "channels": _frequency("split along channels at 1/2", axis=CHANNELS),
}
#: Pairs of methods that differ in one thing, the first with it, and what that is.
CONTRASTS: dict[tuple[str, str], str] = {
    ("space_quarter", "whole"): "a split over space at 1/4, beside none",
    ("space_half", "whole"): "a split over space at 1/2, beside none",
    ("space_three_quarters", "whole"): "a split over space at 3/4, beside none",
    ("space_half", "shuffled"): "the order of the positions",
    ("shuffled", "whole"): "a split over shuffled positions, beside none",
    ("channels", "channels_whole"): "a split along channels, beside none",
}
