"""CommonSteps: sequences of both sides, resampled to the same number of steps for comparison."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import is_integer
from keras_fdkd.data.pairs import TEACHER
from keras_fdkd.distillers.counted import per_sample
from keras_fdkd.distillers.masks import only
from keras_fdkd.distillers.presence import weight_key, weights_at
from keras_fdkd.features import PREDICTIONS
from keras_fdkd.layers import StepResampler
from keras_fdkd.losses.reduction import mean_over
from keras_fdkd.masks import mask_key


class CommonSteps:
    """Resamples the valid part of each sequence that is compared.

    Args:
        steps: Number of steps, `"teacher"` for that of the teacher's outputs, or `None` to resample
            nothing.
        teacher: Names of what is read of the teacher, and all its outputs, symbolic.
        student: The same for the student.
        dtype: Dtype of the resampled sequences.

    Raises:
        ValueError: If `steps` is anything else, no output is a sequence, or the teacher's have no
            known common number of steps.
    """

    def __init__(
        self,
        steps: Any,
        teacher: tuple[Collection[str], Mapping[str, Any]],
        student: tuple[Collection[str], Mapping[str, Any]],
        dtype: Any,
    ) -> None:
        self.given = steps
        self._names = [
            sorted(name for name in names if _is_sequence(spec.get(name)))
            for names, spec in (teacher, student)
        ]
        self._resample: StepResampler | None = None
        self.are_masked = False  # Whether what is resampled has padding.
        self.teacher_spec, self.student_spec = dict(teacher[1]), dict(student[1])
        if steps is None:
            return
        is_teachers = isinstance(steps, str) and steps == TEACHER
        if not is_teachers and not is_integer(steps, 1):
            raise ValueError(
                "`time_steps` must be a positive integer, 'teacher' or `None`. "
                f"Received: time_steps={steps!r}."
            )
        shapes = {name: tuple(self.teacher_spec[name].shape) for name in self._names[0]}
        if not shapes or not self._names[1]:
            raise ValueError(
                "`time_steps` is for sequences (batch, time, dim): leave it out. Received: "
                f"time_steps={steps!r}, and none that is compared of both sides."
            )
        sizes = {shape[1] for shape in shapes.values()}
        if is_teachers and (len(sizes) > 1 or None in sizes):
            raise ValueError(
                "The teacher's sequences have no known common number of steps: pass it as "
                f"`time_steps`. Received: time_steps='teacher', and {shapes}."
            )
        self._resample = StepResampler(sizes.pop() if is_teachers else steps, dtype=dtype)
        self._resample.build((None, None, 1))  # It has no weights, so any sizes will do.
        count = self._resample.steps
        self.are_masked = any(
            mask_key(name) in spec
            for names, spec in zip(self._names, (teacher[1], student[1]), strict=True)
            for name in names
        )
        self.teacher_spec = _symbolic(count, self.teacher_spec, self._names[0])
        self.student_spec = _symbolic(count, self.student_spec, self._names[1])

    def __call__(
        self, teacher: dict[str, Any], student: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the outputs of both taps, with sequences in the same number of steps."""
        resample = self._resample
        if resample is None:
            return teacher, student
        first, second = (
            _resampled(resample, outputs, names)
            for outputs, names in zip((teacher, student), self._names, strict=True)
        )
        return first, second

    def moves(self, name: str) -> bool:
        """Whether an output of the student is resampled."""
        return self._resample is not None and name in self._names[1]

    def masks(self, student: Mapping[str, Any]) -> list[Any]:
        """Return the masks of the student's sequences before they are resampled."""
        if self._resample is None:
            return []
        keys = [mask_key(name) for name in (PREDICTIONS, *self._names[1])]
        return [only(student[key]) for key in dict.fromkeys(keys) if key in student]

    def weights(self, sample_weight: Any, masks: Sequence[Any]) -> Any:
        """Return weights as they apply to resampled sequences: one per sample.

        Args:
            sample_weight: Of samples or steps, or `None`.
            masks: What `masks` returned: weights of padding have no part in the mean.
        """
        if self._resample is None or sample_weight is None or len(sample_weight.shape) < 2:
            return sample_weight
        size = sample_weight.shape[1]
        mask = next((one for one in masks if size in (None, one.shape[1])), None)
        return per_sample(sample_weight) if mask is None else mean_over(sample_weight, mask)


def _resampled(
    resample: StepResampler, outputs: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    outputs = dict(outputs)
    for name in names:
        key, weight = mask_key(name), weight_key(name)
        mask = outputs[key][..., 0] if key in outputs else None
        if weight in outputs and len(outputs[weight].shape) > 1:
            outputs[weight] = _resampled_weights(resample, outputs[name], outputs[weight], mask)
        outputs[name] = resample.call(outputs[name], mask)
        if mask is not None:
            ones = ops.ones_like(outputs[name][..., :1], dtype="bool")
            outputs[key] = ops.logical_and(ops.any(mask, axis=1)[:, None, None], ones)
    return outputs


def _resampled_weights(resample: StepResampler, output: Any, weight: Any, mask: Any) -> Any:
    """Return the weights of the steps that are made, 0 if one that they are made of has 0."""
    weight = weights_at(output, weight)[..., None]
    there = resample.call(ops.cast(weight > 0, weight.dtype), mask)
    # Shares of neighbours that are both there sum to 1, but for rounding.
    return ops.where(there > 1 - 1e-5, resample.call(weight, mask), 0.0)[..., 0]


def _symbolic(steps: int, spec: dict[str, Any], names: list[str]) -> dict[str, Any]:
    for name in names:
        shape = (spec[name].shape[0], steps, spec[name].shape[2])
        spec[name] = keras.KerasTensor(shape, spec[name].dtype, name=spec[name].name)
        spec.pop(mask_key(name), None)  # What remains is whether a sample has any step.
    return spec


def _is_sequence(output: Any) -> bool:
    return not keras.tree.is_nested(output) and len(getattr(output, "shape", ())) == 3
