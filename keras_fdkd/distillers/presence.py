"""Which samples and positions have a teacher, and how much it counts there."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd.data.data_sets import to_numpy
from keras_fdkd.distillers.counted import per_sample
from keras_fdkd.losses.reduction import weights_like
from keras_fdkd.masks import mask_key


def weight_key(name: str) -> str:
    """Return the name under which the weights of an output of the teacher are passed on."""
    return f"{name}_weight"


def without_absent(inputs: Any, weight: Any) -> Any:
    """Return the teacher's inputs with zeros for the samples where it is absent.

    Args:
        inputs: Nested tensors; with several teachers, a dict by their names.
        weight: `"teacher_weight"`: shape `(batch, ...)`, or a dict of such by name; or `None`.
    """
    if weight is None:
        return inputs
    if isinstance(weight, Mapping):
        return {name: without_absent(inputs[name], weight.get(name)) for name in inputs}
    there = mean_present(weight) > 0

    def blank(leaf: Any) -> Any:
        if "float" not in keras.backend.standardize_dtype(leaf.dtype):
            return leaf  # Integers and texts cannot hold NaN.
        leaf = ops.convert_to_tensor(leaf)
        return ops.where(ops.reshape(there, (-1, *[1] * (len(leaf.shape) - 1))), leaf, 0.0)

    return keras.tree.map_structure(blank, inputs)


def with_presence(
    outputs: Mapping[str, Any],
    weight: Any,
    names: Collection[str],
    teacher_of: Callable[[str], str | None],
) -> dict[str, Any]:
    """Return the teacher's outputs, each with its weights; where these are 0, outputs become 0.

    `present` tells which samples have a teacher, `with_presence_masks` which positions.

    Args:
        outputs: Tensors by name, some of them with masks.
        weight: `"teacher_weight"`: shape `(batch,)` or, for positions, `(batch, ...)`; with several
            teachers, a dict of such by name; or `None`.
        names: Names of the outputs that are not masks.
        teacher_of: Function from the name of an output to that of its teacher.
    """
    outputs = dict(outputs)
    if weight is None:
        return outputs
    for name in names:
        own = weight.get(teacher_of(name)) if isinstance(weight, Mapping) else weight
        value = outputs.get(name)
        if own is None or value is None or keras.tree.is_nested(value):
            continue
        own = _float(own)
        if len(value.shape) < 3:  # Nothing here has positions.
            own = mean_present(own)
        there = weights_at(value, own)[..., None] > 0
        # NaN times a weight of 0 would still be NaN.
        outputs[name] = ops.where(there, value, ops.zeros_like(value))
        outputs[weight_key(name)] = own
    return outputs


def with_presence_masks(outputs: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return outputs with masks where weights tell positions apart, or where there were masks.

    Args:
        outputs: What `with_presence` returned.
        names: As for `with_presence`.
    """
    outputs = dict(outputs)
    for name in names:
        own, mask = outputs.get(weight_key(name)), outputs.get(mask_key(name))
        # Samples count by their weights; a mask has to agree with them.
        if own is not None and (mask is not None or len(own.shape) > 1):
            there = weights_at(outputs[name], own)[..., None] > 0
            outputs[mask_key(name)] = (
                there if mask is None else ops.logical_and(there, ops.cast(mask, "bool"))
            )
    return outputs


def weights_at(output: Any, weight: Any) -> Any:
    """Return weights of samples or positions as one for each position of an output."""
    ones = ops.ones_like(output[..., 0], dtype=weight.dtype)
    return weights_like(ones, weight) * ones


def present(weight: Any) -> Any:
    """Return which samples have a teacher, boolean of shape `(batch,)`, or `None` for all."""
    return None if weight is None else mean_present(weight) > 0


def weight_of(
    names: Collection[str], outputs: Mapping[str, Any], teachers: Collection[str] = ()
) -> Any:
    """Return the weight of what is compared of the teachers; `None` if there are no weights.

    Of several teachers it is the product; several outputs of one teacher have its weight once.

    Args:
        names: Of the outputs; with several teachers they begin with that of the teacher.
        outputs: What `with_presence` returned.
        teachers: Names of the teachers, if there are several.
    """
    found: dict[str, Any] = {}
    for name in names:
        teacher, own = name.partition(":")[0] if teachers else "", outputs.get(weight_key(name))
        # A pooled output has one weight per sample; another one tells positions apart.
        if own is not None and (teacher not in found or len(own.shape) > len(found[teacher].shape)):
            found[teacher] = own
    return functools.reduce(times, found.values(), None)


def times(sample_weight: Any, weight: Any) -> Any:
    """Return the product of weights of samples or positions, each of which may be `None`."""
    if sample_weight is None or weight is None:
        return weight if sample_weight is None else sample_weight
    first, second = ops.convert_to_tensor(sample_weight), ops.convert_to_tensor(weight)
    if len(first.shape) < len(second.shape):
        first, second = second, first
    return first * weights_like(first, second)


def scaled(sample_weight: Any, weight: Any, valid: Any = None) -> Any:
    """Return weights of samples for a mean over those that have a teacher and are valid.

    Args:
        sample_weight: Shape `(batch, ...)`, or `None`.
        weight: `"teacher_weight"`, shape `(batch, ...)`, or `None`.
        valid: 0 to 1, shape `(batch, ...)`, or `None`.
    """
    known = None if valid is None else per_sample(valid)
    trust = None if weight is None else mean_present(weight)
    there = None if trust is None else ops.cast(trust > 0, "float32")
    own = None if sample_weight is None else per_sample(sample_weight)
    counts = times(known, there)
    result = times(times(own, known), trust)
    if counts is None:
        return result
    share = ops.mean(counts)
    return result / ops.where(share > 0, share, 1.0)


def check_teacher_weight(weight: Any, teachers: Collection[str | None]) -> None:
    """Raise unless weights are numbers >= 0, by the names of the teachers if they are a dict.

    Args:
        weight: Array, or a dict of arrays.
        teachers: Names of the teachers; `None` names the only one.
    """
    if isinstance(weight, Mapping):
        unknown = sorted(set(weight) - {name for name in teachers if name is not None})
        if unknown:
            raise ValueError(
                '"teacher_weight" must be an array, or a dict of arrays by the names of the '
                f"teachers {sorted(map(str, teachers))}. Received: {sorted(weight)}."
            )
    for leaf in keras.tree.flatten(weight):
        values = to_numpy(leaf)
        fits = values.dtype.kind in "biuf" and values.ndim
        if not fits or not np.all(np.isfinite(values)) or (values.size and values.min() < 0):
            raise ValueError(
                '"teacher_weight" must hold finite numbers >= 0, shape (samples,) or, of '
                "positions, (samples, ...): 0 where the teacher is not there. Received: "
                f"{values.dtype} of shape {values.shape}"
                + (f", from {values.min()} to {values.max()}." if fits and values.size else ".")
            )


def _float(weight: Any) -> Any:
    weight = ops.convert_to_tensor(weight)
    while len(weight.shape) > 1 and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    return ops.cast(weight, "float32")


def mean_present(weight: Any) -> Any:
    """Return one weight per sample: the mean over the positions where there is a teacher."""
    weight = _float(weight)
    if len(weight.shape) < 2:
        return weight
    axes = tuple(range(1, len(weight.shape)))
    count = ops.sum(ops.cast(weight > 0, weight.dtype), axis=axes)
    # A sample without a teacher at any position: 0 / 1 instead of 0 / 0.
    return ops.sum(weight, axis=axes) / ops.maximum(count, 1.0)
