"""Checks and defaults of the distillers' arguments."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_fdkd.arguments import check_axis, check_number
from keras_fdkd.data.pairs import is_pair
from keras_fdkd.layers.axes import Axis, axes_of

LEAST = 4  # size of an axis that can be split


def check_weights(**weights: Any) -> None:
    """Raise unless each weight is a finite number >= 0 and one of them is positive."""
    for name, weight in weights.items():
        check_number(name, weight)
    if not any(weights.values()):
        raise ValueError(
            f"At least one weight must be positive ({', '.join(f'`{name}`' for name in weights)}): "
            "with all of them 0 nothing is distilled; train the student with its own `fit` "
            f"instead. Received: {weights}."
        )


def check_feature(feature: keras.KerasTensor, axis: Axis, role: str) -> None:
    """Raise unless `feature` is one tensor with a row per sample that can be split along `axis`.

    Sizes other than the last may be unknown until it runs.
    """
    shape = feature.shape
    if len(shape) < 2 or shape[0] == 1 or shape[-1] is None:
        raise ValueError(
            f"`{role}_features` must give a feature for each sample, shape (batch, ..., dim), with "
            "its last size known: name another layer, or give the model inputs with a known number "
            f"of channels. Received: {feature.name!r} of shape {shape}."
        )
    check_axis(axis)
    axes = axes_of(axis, shape)
    least, where = (LEAST, "the split axis") if len(axes) == 1 else (2, "each split axis")
    if any(shape[n] is not None and shape[n] < least for n in axes):
        raise ValueError(
            f"`{role}_features` must be at least {least} long along {where}: name a layer whose "
            f"output is larger, or split another axis. Received: shape {shape}, axis={axis}."
        )


def check_input_names(student: keras.Model) -> None:
    """Raise if the student's own dict of inputs looks like a pair."""
    inputs = getattr(student, "input", None)
    if isinstance(inputs, Mapping) and is_pair(inputs):
        raise ValueError(
            'The student\'s inputs must not be named like the sides of a pair, "teacher" and '
            f'"student". Received input names: {sorted(inputs)}.'
        )


def check_own_terms(logs: Any, weights: Any) -> None:
    """Raise unless the terms that a subclass adds are named, and weighed, as they must be.

    Args:
        logs: Names of its terms and monitors.
        weights: Dict of numbers >= 0 by some of these names.
    """
    if not isinstance(logs, (list, tuple)) or not all(
        isinstance(name, str) and name for name in logs
    ):
        raise ValueError(f"`logs` must be a tuple of names. Received: logs={logs!r}.")
    if not isinstance(weights, Mapping) or set(weights) - set(logs):
        raise ValueError(
            "`term_weights` must be a dict of numbers by names in `logs`. "
            f"Received: term_weights={weights!r}, logs={logs!r}."
        )
    for name, weight in weights.items():
        check_number(f"term_weights[{name!r}]", weight)


def check_distinct(names: Sequence[str]) -> None:
    """Raise if two entries of the logs have one name, or one hides the whole loss."""
    if repeated := sorted({name for name in names if names.count(name) > 1 or name == "loss"}):
        raise ValueError(
            "Two terms must not have one name in the logs: give the loss another `name`. "
            f"Received twice: {repeated}."
        )


def check_names(terms: Collection[str], outputs: Sequence[str], metrics: Sequence[Any]) -> None:
    """Raise if a metric, or the loss of an output, has the name of a term, which would be lost.

    Args:
        terms: Names of the terms in the logs.
        outputs: Names of the student's outputs if there are several, else none.
        metrics: What `compile` got as `metrics` and `weighted_metrics`, nested.
    """
    names = [_metric_name(metric) for metric in keras.tree.flatten(metrics)]
    # If there are several outputs, Keras puts their names before those of losses and metrics.
    candidates = set(names) | {f"{output}_loss" for output in outputs}
    candidates |= {f"{output}_{name}" for output in outputs for name in names}
    if taken := sorted(candidates & set(terms)):
        raise ValueError(
            "A metric or an output has the name of a term of distillation in the logs, where one "
            "would hide the other: rename it. "
            f"Received: {taken}, beside the terms {sorted(terms)}."
        )


def _metric_name(metric: Any) -> str:
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", None) or metric)


@contextlib.contextmanager
def policy_of(model: keras.Model) -> Iterator[None]:
    """Make layers under the dtype policy of `model`, whatever the global one is by now."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(model.dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
