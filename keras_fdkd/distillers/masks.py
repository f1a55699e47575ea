"""Keras masks of what is compared: which positions are present on both sides."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, takes_argument
from keras_fdkd.losses.reduction import samples_of


def masks_of(
    keys: tuple[Sequence[str], Sequence[str]],
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
) -> list[Any]:
    """Return the masks of what is read of teacher and student, each `None` if there is none.

    Of several outputs of a side a position counts if it is present in all of them.

    Args:
        keys: Names of what is read of the teacher, and of the student.
        teacher: Outputs of its tap, with their masks of shape `(batch, ..., 1)`.
        student: The same for the student.

    Raises:
        ValueError: If masks of one side differ in their positions.
    """
    return [
        _joined([outputs[f"{key}_mask"] for key in names if f"{key}_mask" in outputs])
        for names, outputs in zip(keys, (teacher, student), strict=True)
    ]


def _joined(masks: Sequence[Any]) -> Any:
    if len(masks) < 2:
        return masks[0] if masks else None
    shapes = [tuple(mask.shape)[1:] for mask in masks]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            "Several outputs that one loss compares have positions that do not count, and differ "
            "in their positions: give each pair of outputs a loss of its own. "
            f"Received: masks of shapes {[tuple(mask.shape) for mask in masks]}."
        )
    return functools.reduce(ops.logical_and, masks)


def both(masks: Sequence[Any]) -> Any:
    """Return where all given masks hold, boolean of shape `(batch, ...)`, or `None`."""
    masks = [mask for mask in masks if mask is not None]
    if not masks:
        return None
    first, *more = [only(mask) for mask in masks]
    return ops.logical_and(first, *more) if more else first


def only(mask: Any) -> Any:
    """Return one mask, as `masks_of` gives it, boolean of shape `(batch, ...)`, or `None`."""
    return None if mask is None else ops.cast(mask[..., 0], "bool")


def with_samples(mask: Any, there: Any) -> Any:
    """Return a mask of positions or samples without the samples that are absent."""
    if mask is None or there is None:
        return there if mask is None else mask
    return ops.logical_and(mask, ops.reshape(there, (-1, *[1] * (len(mask.shape) - 1))))


def fitted(mask: Any, output: Any) -> Any:
    """Return a mask in an output's positions; if they differ, whether a sample has any."""
    if len(mask.shape) == len(output.shape) - 1 and mask.shape[1:] == output.shape[1:-1]:
        return mask
    there = ops.cast(samples_of(mask), "int32")
    ones = ops.ones_like(output[..., 0], dtype="int32")
    return ones * ops.reshape(there, (-1, *[1] * (len(ones.shape) - 1))) > 0


def check_masks(name: str, loss: Any, pair: tuple[Any, Any], masks: list[Any]) -> None:
    """Raise if what a loss compares is masked and the loss would count what is masked."""
    if all(mask is None for mask in masks):
        return
    if not leaves_out(name, loss, pair, "carry a Keras mask"):
        return
    positions = [tuple(output.shape[1:-1]) for output in pair]
    if positions[0] != positions[1]:
        raise ValueError(
            f"The outputs that `{name}` compares carry a Keras mask and differ in their positions. "
            "Give both models the same number of steps, or pool them first. "
            f"Received: teacher {tuple(pair[0].shape)}, student {tuple(pair[1].shape)}."
        )
    if hasattr(loss, "check_masked"):
        loss.check_masked(tuple(pair[0].shape))


def leaves_out(name: str, loss: Any, pair: tuple[Any, Any], why: str) -> bool:
    """Return whether a loss leaves out positions that do not count, warning if it cannot be told.

    Args:
        name: Of the loss.
        loss: Any loss.
        pair: What it compares.
        why: Why some do not count, for messages.

    Raises:
        ValueError: If it would count them.
    """
    takes = getattr(loss, "takes_masks", False)
    if isinstance(loss, CrossModalLoss) and takes is not False:
        reduces = type(loss).compute_loss is not CrossModalLoss.compute_loss
        masks_itself = takes_argument(type(loss).call, "mask")
        # The code of a loss tells; where it says nothing, a warning must do.
        takes = True if loss.gives_positions() or masks_itself or (takes and reduces) else None
    if takes is None:
        warnings.warn(
            f"The outputs that `{name}` compares {why}, which its `call` does not "
            "take: what stands in the padding counts. Give `call` an argument `mask`, or define "
            "`values`, with one value per position, instead of `call`.",
            stacklevel=6,
        )
    elif not takes:
        raise ValueError(
            f"The outputs that `{name}` compares {why}, and `{type(loss).__name__}` "
            "would compare the padding too. Pool them first, or use a loss that leaves padding "
            "out, such as `KD`, `PKD`, `FitNet`, `AT` or `FrequencyDistillation`. "
            f"Received: {keras.tree.map_structure(lambda output: tuple(output.shape), pair)}."
        )
    return bool(takes)
