"""RecordedTap: what losses read of a teacher that is known by its outputs only."""

from collections.abc import Mapping
from typing import Any, NoReturn

import keras
from keras import ops

from keras_fdkd.expose import PREDICTIONS
from keras_fdkd.features import FEATURES
from keras_fdkd.masks import mask_key
from keras_fdkd.recorded_teacher import LOGITS, PROBABILITIES, RecordedTeacher

_LEAST = 1e-7  # as Keras clips probabilities


class RecordedTap:
    """Works like a `keras_fdkd.features.FeatureTap`, on recorded outputs.

    Args:
        teacher: What is recorded.
        reads: Names of what is read, with the name of a recorded output, or `None` for the feature
            (for `"predictions"`: the logits).

    Raises:
        ValueError: If something that is read is not recorded.
    """

    def __init__(self, teacher: RecordedTeacher, reads: Mapping[str, str | None]) -> None:
        self.paths = {name: path for name, path in reads.items() if name != PREDICTIONS}
        self.resolved = {name: path or FEATURES for name, path in self.paths.items()}
        logits = PROBABILITIES if PROBABILITIES in teacher.shapes else LOGITS
        self.data_names = dict(self.resolved)
        if PREDICTIONS in reads or logits in teacher.shapes:
            self.data_names[PREDICTIONS] = logits
        self.spec: dict[str, Any] = {}
        for name, recorded in self.data_names.items():
            if recorded not in teacher.shapes:
                raise ValueError(
                    f"A loss reads {recorded!r} of the teacher, which is not recorded: give "
                    f"`RecordedTeacher` its shape. Received: {teacher!r}."
                )
            shape = teacher.shapes[recorded]
            self.spec[name] = keras.KerasTensor((None, *shape), name=recorded)
            if recorded in teacher.masked:
                self.spec[mask_key(name)] = keras.KerasTensor((None, *shape[:-1], 1), "bool")
        #: What is recorded as probabilities and read as logits.
        as_logits = self.data_names.get(PREDICTIONS) == PROBABILITIES
        self.converted = frozenset({PREDICTIONS} if as_logits else ())
        for name in list(self.data_names):
            self.data_names[mask_key(name)] = mask_key(self.data_names[name])

    def received(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return recorded outputs by the names under which they are read."""
        found = {name: outputs[came] for name, came in self.data_names.items() if came in outputs}
        for name in self.converted & set(found):
            found[name] = ops.log(ops.maximum(found[name], _LEAST))
        return found

    def meaning(self, name: str) -> str | None:
        """Return what an output means: predictions have become logits."""
        return "logits" if name == PREDICTIONS else None

    def kind(self, name: str) -> None:
        """Return nothing: probabilities of a sigmoid cannot be told from others."""

    def ends_in(self, name: str) -> str:
        """Return where an output comes from, for messages."""
        return "what was recorded"

    def channels_first_by(self, name: str) -> None:
        """Return nothing: recorded outputs have their channels last."""

    def __call__(self, inputs: Any, training: bool = False) -> NoReturn:
        raise ValueError(
            "A recorded teacher cannot be run: the data must bring its outputs, as "
            f'"teacher_outputs" with {sorted(set(self.data_names.values()))}.'
        )

    predict = predict_on_batch = __call__
