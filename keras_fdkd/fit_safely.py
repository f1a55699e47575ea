"""fit_safely: train the student with and without its teacher, and keep the better one."""

import math
from dataclasses import dataclass
from typing import Any

import keras

from keras_fdkd.arguments import check_choice, check_integer, check_name
from keras_fdkd.best_epoch import BestEpoch
from keras_fdkd.distillers.cross_modal import CrossModalDistiller

PLAIN, DISTILLED = "plain", "distilled"
_TASK_LOSS = "val_task_loss"


@dataclass(frozen=True)
class Kept:
    """Which student was kept, and how both did on the validation data; from `fit_safely`.

    It prints as a sentence.

    Attributes:
        kept: `"plain"` or `"distilled"`.
        monitor: The name of what was compared.
        scores: The best score of each, by `"plain"` and `"distilled"`.
        histories: Logs of both trainings, `{name: [one value per epoch]}`.
    """

    kept: str
    monitor: str
    scores: dict[str, float]
    histories: dict[str, dict[str, list[float]]]

    def __str__(self) -> str:
        plain, distilled = (f"{self.scores[name]:.4g}" for name in (PLAIN, DISTILLED))
        return f"Kept the {self.kept} student: {self.monitor} {distilled} distilled, {plain} plain."


def fit_safely(
    distiller: CrossModalDistiller,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any,
    monitor: str = _TASK_LOSS,
    mode: str = "auto",
    seed: int = 0,
    **kwargs: Any,
) -> Kept:
    """Train the student plainly and distilled, and keep the better one on validation data.

    Distillation can harm, and only validation data can tell. The student is trained twice from its
    present weights, with the same batches: first with all weights of terms at 0, then with those of
    the distiller. The best epoch of each training counts. Afterwards the student has the weights of
    the better one; if they tie, those of the plain one. Small validation sets sometimes choose
    wrongly: `keras_fdkd.study` estimates how much there is to gain.

    Args:
        distiller: Compiled `CrossModalDistiller` or `FrequencyDistiller`.
        x: Pairs, see `CrossModalDistiller.fit`. A data set must give the same batches twice.
        y: Labels.
        validation_data: Student inputs and labels, `(inputs, labels)`, or a data set. It chooses
            the epoch and the student, so it must not be the test set.
        monitor: What is compared, a name in the logs. `"val_loss"` means `"val_task_loss"`, since
            with validation pairs it holds the terms too, which only one training minimizes.
            Defaults to `"val_task_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, as Keras infers from the metric. Defaults to `"auto"`.
        seed: Integer >= 0, set before each training, so that both get the same batches. Defaults to
            `0`.
        **kwargs: See `keras.Model.fit`, except `callbacks`, whose state would pass from one
            training to the other.

    Returns:
        A `Kept`.

    Raises:
        ValueError: If the distiller is not compiled or, like `C2KDDistiller`, has no weights of
            terms to set to 0; if there are no validation data; if `monitor` is not in the logs, or
            is NaN in all epochs of both trainings.

    Example:
    >>> import numpy as np
    >>> from keras_fdkd import FrequencyDistiller
    >>> def model(size):
    ...     return keras.Sequential([keras.Input((size,)), keras.layers.Dense(16, "relu"),
    ...                              keras.layers.Dense(3)])
    >>> distiller = FrequencyDistiller(teacher=model(6), student=model(4))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss, metrics=["accuracy"])
    >>> x = {"teacher": np.ones((8, 6), "float32"), "student": np.ones((8, 4), "float32")}
    >>> y = np.zeros(8, "int32")
    >>> kept = fit_safely(distiller, x, y, validation_data=(x["student"], y), verbose=0,
    ...                   monitor="val_accuracy")
    >>> kept.kept in ("plain", "distilled"), sorted(kept.scores)
    (True, ['distilled', 'plain'])
    """
    names = list(getattr(distiller, "term_weights", ()))
    if not names:
        raise ValueError(
            "`distiller` must be a `CrossModalDistiller` or `FrequencyDistiller`, whose terms can "
            f"be left out. Received: {type(distiller).__name__}."
        )
    if getattr(distiller, "optimizer", None) is None:
        raise ValueError("Compile the distiller first. Received: one that is not compiled.")
    if validation_data is None:
        raise ValueError("`validation_data` choose the student. Received: None.")
    if "callbacks" in kwargs:
        raise ValueError("`callbacks` cannot serve two trainings. Received: callbacks.")
    check_name("monitor", monitor)
    check_choice("mode", mode, ("auto", "min", "max"))
    check_integer("seed", seed, 0)
    if monitor == "val_loss":
        monitor = _TASK_LOSS
    if monitor == _TASK_LOSS:
        # Keras cannot infer the direction of a name that is not a metric.
        mode = "min"
    # Before the values are taken, so that both trainings start with the same optimizer state.
    distiller.optimizer.build(distiller.trainable_variables)
    variables = [*distiller.variables, *distiller.optimizer.variables]
    start = _values(variables)
    weights = dict(distiller.term_weights.items())
    found, histories = {}, {}
    end_of_plain: list[Any] = []
    better: Any = None
    try:
        for name in (PLAIN, DISTILLED):
            _assign(variables, start)
            _weigh(distiller, dict.fromkeys(names, 0.0) if name == PLAIN else weights)
            best = BestEpoch(monitor, mode, kwargs.get("epochs", 1))
            keras.utils.set_random_seed(seed)
            histories[name] = distiller.fit(
                x, y, validation_data=validation_data, callbacks=[best], **kwargs
            ).history
            # It only warns if there is no such name.
            if best.best is None:
                raise ValueError(
                    f"`monitor` must be one of {sorted(histories[name])}. Received: {monitor!r}."
                )
            # Not from the history, which has no entry for an epoch without validation.
            found[name] = float(best.best) if math.isfinite(best.best) else math.nan
            better = best.monitor_op
            # Kept of the first training, the plain one; the student has the weights of the second.
            end_of_plain = end_of_plain or _values(variables)
    finally:
        _weigh(distiller, weights)
    if all(map(math.isnan, found.values())):
        raise ValueError(
            f"Neither training came to a finite `{monitor}`. A term that is not finite spoils the "
            "plain training too, where its weight is 0. Look at the logs of a plain "
            f"`distiller.fit`. Received: {histories[DISTILLED]}."
        )
    won = math.isnan(found[PLAIN]) or bool(better(found[DISTILLED], found[PLAIN]))
    kept = DISTILLED if won and not math.isnan(found[DISTILLED]) else PLAIN
    if kept == PLAIN:
        _assign(variables, end_of_plain)
        # The variables include the weights of terms, which were 0 in that training.
        _weigh(distiller, weights)
    return Kept(kept, monitor, found, histories)


def _weigh(distiller: Any, weights: dict[str, float]) -> None:
    for term, weight in weights.items():
        distiller.term_weights[term] = weight


def _values(variables: list[Any]) -> list[Any]:
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
