"""The teacher of a distiller: what it is asked, what it returns, and how it is identified."""

import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn

import keras

from keras_fdkd.data.needs import Needs
from keras_fdkd.distillers.group_tap import GroupTap
from keras_fdkd.distillers.presence import with_presence
from keras_fdkd.distillers.recorded_tap import RecordedTap
from keras_fdkd.distillers.teacher_pass import teacher_pass
from keras_fdkd.features import PREDICTIONS, FeatureTap, check_model
from keras_fdkd.fingerprints import fingerprint
from keras_fdkd.recorded_teacher import RecordedTeacher

_INPUTS = "inputs"
_TAKEN = ("layer", "features", "predictions")  # Names of what is read begin with these.


class FrozenTeacher:
    """One teacher or several, which run in inference mode or are recorded, and never change.

    Args:
        teacher: Built `keras.Model`, `RecordedTeacher`, or a dict of these by name.
        reads: What the losses read of it, names with paths, see `keras_fdkd.features.FeatureTap`
            and `GroupTap`.
    """

    is_frozen = True

    def __init__(self, teacher: Any, reads: Mapping[str, Any]) -> None:
        named = teacher if isinstance(teacher, Mapping) else {None: teacher}
        self.named_models = {
            name: one for name, one in named.items() if isinstance(one, keras.Model)
        }
        self.models = list(self.named_models.values())
        if isinstance(teacher, Mapping):
            self.tap: Any = GroupTap(teacher, reads, _tap)
        else:
            self.tap = _tap(teacher, dict(reads))
        self.masks = {f"{name}_mask" for name in reads} & set(self.tap.spec)
        self.names = set(reads)
        self.reads = self.names | self.masks
        recorded = {name for name, one in named.items() if isinstance(one, RecordedTeacher)}
        outputs = {name: self._data_names(name, name in recorded) for name in named}
        self.needs = Needs(outputs, frozenset(recorded), not self.is_frozen)
        self._held_fingerprint: str | None = None
        self._holds = False

    def _data_names(self, teacher: str | None, with_masks: bool) -> frozenset[str]:
        """Return the names in data of what is read of one teacher, with masks if asked."""
        names = {name for name in self.names if self.teacher_of(name) == teacher}
        masks = {f"{name}_mask" for name in names} & self.masks if with_masks else set()
        return frozenset(map(self.data_name, names | masks))

    def data_name(self, name: str) -> str:
        """Return the name that an output has in `"teacher_outputs"`."""
        return self.tap.data_names.get(name, name)

    def teacher_of(self, name: str) -> str | None:
        """Return which of several teachers gives what is read under `name`."""
        return self.tap.teacher_of(name) if isinstance(self.tap, GroupTap) else None

    def run_reads(self, inputs: Any = None) -> set[str]:
        """Return the names in data of what is read of the teachers that run, masks included.

        Args:
            inputs: With several teachers, a dict with those that run. Defaults to `None`: all.
        """
        some = self.needs.has_names and isinstance(inputs, Mapping)
        asked = {
            name: self.teacher_of(name.removesuffix("_mask") if name in self.masks else name)
            for name in self.reads
        }
        return {
            self.data_name(name)
            for name, teacher in asked.items()
            if teacher not in self.needs.recorded and (not some or teacher in inputs)
        }

    def before_step(self, inputs: Any, variables: list, values: list | None, step: Any) -> Any:
        """Return what replaces the teacher's inputs in the batch.

        Args:
            inputs: The teacher's inputs.
            variables: See `teacher_pass`.
            values: See `teacher_pass`.
            step: See `teacher_pass`.
        """
        ours = [variable for model in self.models for variable in model.variables]
        seeds = [v for v in ours if v.name == "seed_generator_state"]
        return teacher_pass(self.tap, inputs, variables, values, seeds, step)

    def in_call(self, outputs: Any, training: bool, weight: Any = None) -> dict[str, Any]:
        """Return what the losses read, from what `before_step` or the data gave.

        Args:
            outputs: Outputs by their names in data.
            training: Whether the student trains.
            weight: `"teacher_weight"`, or `None`.
        """
        return with_presence(self.tap.received(outputs), weight, self.names, self.teacher_of)

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights; while `fit` runs, it is computed only once."""
        if self._held_fingerprint is not None:
            return self._held_fingerprint
        found = {name: fingerprint(model) for name, model in self.named_models.items()}
        # Of a single teacher the plain one, as `keras_fdkd.fingerprint` tells it.
        one = found[None] if None in found else _joined(found)
        if self._holds:
            self._held_fingerprint = one
        return one

    def hold(self, while_fit_runs: bool) -> None:
        """Say whether `fit` runs, during which the weights cannot change."""
        self._holds = while_fit_runs
        self._held_fingerprint = None


class TrainedTeacher(FrozenTeacher):
    """A model that is trained too: it runs inside the distiller's `call`, with gradients."""

    is_frozen = False

    def before_step(self, inputs: Any, variables: list, values: list | None, step: Any) -> Any:
        return {_INPUTS: inputs}

    def in_call(self, outputs: Any, training: bool, weight: Any = None) -> dict[str, Any]:
        if not isinstance(outputs, Mapping) or set(outputs) != {_INPUTS}:
            refuse_outputs()
        return self.tap(outputs[_INPUTS], training=training)


def check_teacher(teacher: Any) -> None:
    """Raise unless this is a model, a recorded teacher, or several of these by name."""
    if isinstance(teacher, (list, tuple)) or (isinstance(teacher, Mapping) and not teacher):
        raise ValueError(
            'Several teachers must come as a dict by name: `teacher={"video": ..., "text": ...}`. '
            f"Received: teacher={teacher!r}."
        )
    named = teacher if isinstance(teacher, Mapping) else {"teacher": teacher}
    for name, one in named.items():
        wrong = not isinstance(name, str) or not name or ":" in name or "/" in name
        if wrong or name in _TAKEN:
            raise ValueError(
                f"Names of teachers must be strings without ':' and '/', and none of {_TAKEN}. "
                f"Received: {name!r} in `teacher`."
            )
        if one is None:
            raise ValueError(
                "A teacher of which there are outputs alone is a `keras_fdkd.RecordedTeacher`: "
                "`RecordedTeacher(features=(512,), logits=(6,))`. Received: teacher=None."
            )
        if not isinstance(one, RecordedTeacher):
            check_model(one, "teacher" if one is teacher else f"teacher[{name!r}]")


def refuse_outputs() -> NoReturn:
    """Raise, because the outputs of a teacher that trains change in each step."""
    raise ValueError(
        "This distiller trains the teacher, so its outputs cannot be computed once: "
        'pass its inputs, as {"teacher": ..., "student": ...}. Received: "teacher_outputs".'
    )


def _tap(teacher: Any, reads: dict[str, Any]) -> Any:
    if isinstance(teacher, RecordedTeacher):
        return RecordedTap(teacher, reads)
    paths = {name: path for name, path in reads.items() if name != PREDICTIONS}
    return FeatureTap(teacher, paths, "teacher")


def _joined(fingerprints: Mapping[Any, str]) -> str:
    return hashlib.blake2b(str(sorted(fingerprints.items())).encode(), digest_size=8).hexdigest()
