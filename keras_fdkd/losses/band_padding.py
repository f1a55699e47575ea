"""Padding and holes, which must not become part of a spectrum."""

from typing import Any

from keras import ops

from keras_fdkd.layers.axes import axes_of
from keras_fdkd.layers.step_resampler import resampled
from keras_fdkd.losses.cross_modal_loss import check_same_shape
from keras_fdkd.losses.reduction import samples_of


def without_padding(loss: Any, teacher: Any, student: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Return both features and the remaining mask: none where steps are split.

    Padding along a split axis would become part of the spectrum, so the valid steps of each
    sequence are first resampled to the teacher's number of steps.

    Args:
        loss: The `FrequencyDistillation` that compares them.
        teacher: Feature.
        student: Feature.
        mask: Boolean, shape `(batch, steps)`, for both; or `None`. Or a pair, one for the
            teacher and one for the student, each of which may be `None`: then the steps of the
            two sides do not correspond, and are resampled whatever the axis.
    """
    of_sides = isinstance(mask, tuple)
    masks = mask if of_sides else (mask, mask)
    along_channels = axes_of(loss.axis, teacher.shape) == (len(teacher.shape) - 1,)
    found = [one for one in masks if one is not None]
    of_sides = of_sides and all(len(one.shape) > 1 for one in found)
    if all(len(one.shape) < 2 for one in found):  # They only tell which samples are present.
        along_channels = True
        mask = found[0] if found else None
    if found and (of_sides or not along_channels):
        if len(teacher.shape) > 3:
            raise ValueError(
                'Some positions of maps have no teacher (`"teacher_weight"` of 0), and the '
                "split along positions would take the holes for part of the spectrum: pass "
                "one weight per sample, or split the channels (`axis=-1`). "
                f"Received: axis={loss.axis}, features of shape {tuple(teacher.shape)}."
            )
        if len(teacher.shape) == 3:
            steps = teacher.shape[1] if teacher.shape[1] is not None else ops.shape(teacher)[1]
            teacher, student = (
                resampled(side, steps, one)
                for side, one in zip((teacher, student), masks, strict=True)
            )
        # What remains is which samples have any position.
        there = [samples_of(one) for one in found]
        mask = there[0] if len(there) == 1 else ops.logical_and(*there)
    check_same_shape(loss, teacher, student, slice(1, None))  # Sizes may have been unknown.
    return teacher, student, None if isinstance(mask, tuple) else mask
