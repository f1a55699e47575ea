"""GroupTap: what losses read of several teachers, each addressed by its name."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_fdkd.features import FEATURES
from keras_fdkd.masks import mask_key

# Tells a layer that is called "features" from the default feature.
_LAYER = "layer:"


class GroupTap:
    """Works like a `keras_fdkd.features.FeatureTap`, for several teachers.

    Args:
        teachers: The teachers by name.
        reads: Names of what is read, with the place: `"video"` for the default of a teacher,
            `"video:backbone/pool"` for a layer; or `None` if the name says it (`"video:features"`,
            `"video:predictions"`, `"video:layer:backbone/pool"`).
        make: Function from a teacher and what is read of it to its tap.

    Raises:
        ValueError: If a place names no teacher, or a teacher is not read.
    """

    def __init__(
        self,
        teachers: Mapping[str, Any],
        reads: Mapping[str, Any],
        make: Callable[[Any, dict[str, Any]], Any],
    ) -> None:
        self._names = tuple(teachers)
        self._places = {name: self._place(name, where) for name, where in reads.items()}
        by_teacher: dict[str, dict[str, Any]] = {teacher: {} for teacher in teachers}
        for teacher, inner, path in self._places.values():
            by_teacher[teacher][inner] = path
        if unread := sorted(name for name, inner in by_teacher.items() if not inner):
            raise ValueError(
                "Each teacher must be read by a loss, by `teacher_layer_name` or "
                f"`teacher_features`. Received: none that reads {unread}."
            )
        self.taps = {name: make(teachers[name], inner) for name, inner in by_teacher.items()}
        self.spec: dict[str, Any] = {}
        self.data_names: dict[str, str] = {}
        for name, (teacher, inner, _) in self._places.items():
            tap = self.taps[teacher]
            for key, own in ((name, inner), (mask_key(name), mask_key(inner))):
                if own in tap.spec:
                    self.spec[key] = tap.spec[own]
                    self.data_names[key] = self._data_name(teacher, tap, own)
        self.paths = {name: where for name, where in reads.items() if where is not None}
        self.resolved = {
            name: f"{teacher}:{self.taps[teacher].resolved.get(inner, inner)}"
            for name, (teacher, inner, _) in self._places.items()
        }

    @property
    def converted(self) -> frozenset[str]:
        """The names of outputs that are recorded as probabilities and read as logits."""
        return frozenset(
            name
            for name, (teacher, inner, _) in self._places.items()
            if inner in self.taps[teacher].converted
        )

    def teacher_of(self, name: str) -> str:
        """Return the name of the teacher that gives what is read under `name`."""
        return self._places[name][0]

    def received(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs, as the data or `__call__` gave them, by the names they are read under."""
        by_teacher: dict[str, dict[str, Any]] = {name: {} for name in self.taps}
        for key, value in outputs.items():
            teacher, _, inner = key.partition(":")
            # Data may bring more than what is read.
            if teacher in by_teacher:
                by_teacher[teacher][inner] = value
        return self._read({name: tap.received(by_teacher[name]) for name, tap in self.taps.items()})

    def _read(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        read = {}
        for name, (teacher, inner, _) in self._places.items():
            for key, own in ((name, inner), (mask_key(name), mask_key(inner))):
                if own in found.get(teacher, ()):
                    read[key] = found[teacher][own]
        return read

    def __call__(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        found = {name: self.taps[name](inputs[name], training=training) for name in inputs}
        return self._named(found)

    def predict(self, inputs: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Return the outputs of the teachers whose inputs are given, as NumPy arrays."""
        return self._named(
            {name: self.taps[name].predict(inputs[name], batch_size) for name in inputs}
        )

    def predict_on_batch(self, inputs: Any) -> dict[str, Any]:
        """Return the same, for one batch."""
        return self._named(
            {name: self.taps[name].predict_on_batch(inputs[name]) for name in inputs}
        )

    def _named(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return outputs by the names that they have in data."""
        read = self._read(found)
        return {self.data_names[name]: value for name, value in read.items()}

    def meaning(self, name: str) -> str | None:
        """Return what an output means, see `FeatureTap.meaning`."""
        return self._ask("meaning", name)

    def kind(self, name: str) -> str | None:
        """Return what made an output's probabilities, see `FeatureTap.kind`."""
        return self._ask("kind", name)

    def ends_in(self, name: str) -> str:
        """Return what makes an output, see `FeatureTap.ends_in`."""
        return f"{self.teacher_of(name)}: {self._ask('ends_in', name)}"

    def channels_first_by(self, name: str) -> str | None:
        """Return what puts an output's channels first, see `FeatureTap.channels_first_by`."""
        return self._ask("channels_first_by", name)

    def _ask(self, what: str, name: str) -> Any:
        teacher, inner, _ = self._places[name]
        return getattr(self.taps[teacher], what)(inner)

    @staticmethod
    def _data_name(teacher: str, tap: Any, inner: str) -> str:
        return f"{teacher}:{tap.data_names.get(inner, inner)}"

    def _place(self, name: str, where: Any) -> tuple[str, str, str | None]:
        """Return the teacher, the name of what its tap reads, and the path."""
        said = name if where is None else where
        teacher, _, rest = said.partition(":") if isinstance(said, str) else ("", "", "")
        if teacher not in self._names:
            raise ValueError(
                "There are several teachers: say which one is read, by "
                f"`teacher_layer_name` of a loss or `teacher_features`: its name, "
                f'or its name and a path such as "{self._names[0]}:backbone/pool". '
                f"Teachers: {list(self._names)}. Received: {where!r} for {name!r}."
            )
        if where is not None:
            return teacher, _LAYER + rest if rest else FEATURES, rest or None
        return teacher, rest, rest.removeprefix(_LAYER) if rest.startswith(_LAYER) else None


def group_key(path: str, names: Mapping[str, Any] | tuple[str, ...], default: str) -> str | None:
    """Return the name under which a place is read, `None` if the path names no teacher.

    Args:
        path: `"video"` or `"video:backbone/pool"`.
        names: Names of the teachers.
        default: What is read without a path: `"features"` or `"predictions"`.
    """
    teacher, _, rest = path.partition(":")
    if teacher not in names:
        return None
    return f"{teacher}:{_LAYER}{rest}" if rest else f"{teacher}:{default}"
