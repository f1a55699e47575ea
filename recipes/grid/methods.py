"""What is compared: bands along time, along channels, along both, and none."""

from typing import Any

import keras

from keras_fdkd import CrossModalDistiller, FrequencyDistiller
from keras_fdkd.losses import KD, PKD, FrequencyDistillation
from keras_fdkd.study import Method

#: Features of either side are resampled to as many steps: sentences last 34 to 61 pictures.
STEPS = 40
_TIME, _CHANNELS = 1, -1
_PLACE = {"teacher_layer_name": "feature", "student_layer_name": "feature"}
_LAYERS = {"teacher_features": "feature", "student_features": "feature"}
# The weights of both bands together are 4 times the scale, whatever is split.
_SCALES = ({"scale": 1.0}, {"scale": 0.1})


def _weights(scale: float, cutoff: float | None = 0.5) -> dict[str, Any]:
    low, high = (3.0, 1.0) if cutoff else (4.0, 0.0)
    return {"cutoff": cutoff, "low_weight": low * scale, "high_weight": high * scale}


def _bands(axis: int) -> Any:
    def make(teacher: Any, student: Any, scale: float) -> keras.Model:
        options = {**_LAYERS, "axis": axis, "time_steps": STEPS}
        return FrequencyDistiller(teacher, student, **options, **_weights(scale))

    return make


def _both(teacher: Any, student: Any, scale: float) -> keras.Model:
    channels = FrequencyDistillation(axis=_CHANNELS, **_PLACE, **_weights(scale / 2))
    options = {**_LAYERS, "axis": _TIME, "time_steps": STEPS, "extra_losses": [channels]}
    return FrequencyDistiller(teacher, student, **options, **_weights(scale / 2))


def _whole(teacher: Any, student: Any, scale: float) -> keras.Model:
    options = {**_LAYERS, "axis": _TIME, "time_steps": STEPS}
    return FrequencyDistiller(teacher, student, **options, **_weights(scale, None))


def _pkd(teacher: Any, student: Any, weight: float) -> keras.Model:
    loss = PKD(projector="auto", **_PLACE)
    options = {"losses": [loss], "loss_weights": [weight], "time_steps": STEPS}
    return CrossModalDistiller(teacher, student, **options)


def _kd(steps: int | None) -> Any:
    def make(teacher: Any, student: Any, weight: float) -> keras.Model:
        # Of words the output has no mask; the layer has one.
        loss = KD(teacher_layer_name="logits", student_layer_name="logits")
        options = {"losses": [loss], "loss_weights": [weight], "time_steps": steps}
        return CrossModalDistiller(teacher, student, **options)

    return make


def methods_of(task: str) -> dict[str, Method]:
    """Return the methods by name.

    Args:
        task: `"letters"`, with one prediction a sentence, or `"words"`, with one a step.
    """
    soft = _kd(None if task == "letters" else STEPS)
    return {
        "kd": Method(soft, ({"weight": 2.0}, {"weight": 0.3}), title="KD"),
        "pkd": Method(_pkd, ({"weight": 6.0}, {"weight": 1.0}), title="PKD"),
        "time": Method(_bands(_TIME), _SCALES, title="bands along time"),
        "channels": Method(_bands(_CHANNELS), _SCALES, title="bands along channels"),
        "both": Method(_both, _SCALES, title="bands along time and along channels"),
        "whole": Method(_whole, _SCALES, title="no split"),
    }
