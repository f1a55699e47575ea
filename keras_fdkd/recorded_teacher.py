"""RecordedTeacher: a teacher that is known by its outputs only."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_fdkd.arguments import is_integer

FEATURES, LOGITS, PROBABILITIES = "features", "logits", "probabilities"


@keras.saving.register_keras_serializable(package="keras_fdkd")
class RecordedTeacher:
    """Stands in for a teacher whose outputs were recorded; the training data bring them.

    Use it if the teacher belongs to another framework, is too large to run in training, or is no
    longer available: training needs only its outputs, and reading them costs a step next to
    nothing. The data hold them as `"teacher_outputs"`, arrays or memory maps by the names declared
    here: `{"teacher_outputs": {"features": ..., "logits": ...}, "student": ...}`.
    `keras_fdkd.data.record_teacher` writes such arrays.

    Args:
        features: Shape of the feature of one sample, such as `(512,)`; sizes of positions (time,
            height, width) may be `None`. Defaults to `None`: not recorded.
        logits: Shape of the logits, such as `(6,)`. Defaults to `None`: not recorded.
        probabilities: The same for probabilities over classes, recorded in place of logits. Their
            logarithms serve as logits. Defaults to `None`: not recorded.
        layers: Dict of shapes by name, for losses whose `teacher_layer_name` is that name. Defaults
            to `None`: none.
        masked: Names of recorded outputs that come with a `"{name}_mask"`, boolean of shape
            `(samples, positions..., 1)`: false where a position is padding. Defaults to `()`.

    Raises:
        ValueError: If a shape is invalid, nothing is recorded, or both logits and probabilities
            are.

    Example:
    >>> import numpy as np
    >>> from keras_fdkd import FrequencyDistiller
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"),
    ...                             keras.layers.Dense(3)])
    >>> distiller = FrequencyDistiller(RecordedTeacher(features=(32,)), student)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss=loss)
    >>> x = {"teacher_outputs": {"features": np.random.normal(size=(8, 32)).astype("float32")},
    ...      "student": np.ones((8, 4), "float32")}
    >>> "low_loss" in distiller.fit(x, np.zeros(8, "int32"), verbose=0).history
    True
    """

    def __init__(
        self,
        features: Sequence[int | None] | None = None,
        logits: Sequence[int | None] | None = None,
        *,
        probabilities: Sequence[int | None] | None = None,
        layers: Mapping[str, Sequence[int | None]] | None = None,
        masked: Sequence[str] = (),
    ) -> None:
        if logits is not None and probabilities is not None:
            raise ValueError(
                "Give the shape of `logits` or of `probabilities`, whichever was recorded. "
                f"Received: logits={logits!r}, probabilities={probabilities!r}."
            )
        named = {FEATURES: features, LOGITS: logits, PROBABILITIES: probabilities}
        given = {name: shape for name, shape in named.items() if shape is not None}
        layers = {} if layers is None else layers
        if (
            not isinstance(layers, Mapping)
            or set(layers) & set(named)
            or not all(isinstance(name, str) and name for name in layers)
        ):
            raise ValueError(
                "`layers` must be a dict of shapes by names of their own. "
                f"Received: layers={layers!r}."
            )
        self.shapes = {name: _shape(f"`{name}`", shape) for name, shape in given.items()}
        for name, shape in layers.items():
            self.shapes[name] = _shape(f"`layers` {name!r}", shape)
        if not self.shapes:
            raise ValueError(
                "Say what is recorded: `features=(512,)`, `logits=(6,)` or both. Received: nothing."
            )
        named_so = isinstance(masked, (list, tuple)) and all(
            isinstance(name, str) and name in self.shapes for name in masked
        )
        if not named_so:
            raise ValueError(
                f"`masked` must hold names of what is recorded, {sorted(self.shapes)}. "
                f"Received: masked={masked!r}."
            )
        self.masked = tuple(masked)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        named = {name: self.shapes.get(name) for name in (FEATURES, LOGITS, PROBABILITIES)}
        layers = {name: shape for name, shape in self.shapes.items() if name not in named}
        return {**named, "layers": layers, "masked": self.masked}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RecordedTeacher":
        """Make one from its configuration."""
        return cls(**config)

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={shape}" for name, shape in self.shapes.items())
        return f"RecordedTeacher({said})"


def _shape(name: str, shape: Any) -> tuple[int | None, ...]:
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else ()
    if not sizes or not all(size is None or is_integer(size, 1) for size in sizes):
        raise ValueError(
            f"{name} must be the shape without the samples, a tuple of sizes such as (512,); "
            f"`None` for any. Received: {shape!r}."
        )
    # Projectors and classifiers are built for this size.
    if sizes[-1] is None:
        raise ValueError(
            f"{name} must have a known last size, of channels or classes. Received: {shape!r}."
        )
    return sizes
