"""DataChecks: errors in the data, reported before a step runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_fdkd.data import check_finite
from keras_fdkd.data.data_sets import mapped, to_numpy
from keras_fdkd.data.needs import Needs
from keras_fdkd.data.pairs import INDEX, TEACHER_OUTPUTS, TEACHER_WEIGHT, check_pair
from keras_fdkd.distillers.labels import LabelRule
from keras_fdkd.distillers.presence import check_teacher_weight
from keras_fdkd.outputs import look_like_probabilities

_ROWS = 1000  # enough to tell probabilities from logits
_FIRST = 8  # batches of a data set that are checked fully: broken data mostly show early


@dataclass(frozen=True)
class DataChecks:
    """What the training data of a distiller must be. It holds no model, so workers may have it.

    Args:
        teacher_shapes: Shapes of what is read of the teacher, by name.
        needs: What data must hold of the teachers.
        logits: Names of outputs that losses compare as logits.
        probabilities: Names of outputs that are recorded as probabilities.
        label_rule: What labels must be.
        indexed: Losses that need `"index"`, each with its `check_index`.
    """

    teacher_shapes: Mapping[str, tuple[int | None, ...]]
    needs: Needs
    logits: frozenset[str]
    probabilities: frozenset[str]
    label_rule: LabelRule
    indexed: tuple[Any, ...] = field(default=())

    def arrays(self, x: Any, y: Any) -> None:
        """Raise if arrays cannot be trained on; memory maps are not read."""
        self.structure(x, y)
        self._weights(x)
        check_finite(x)
        self._values(x, y)

    def __call__(self, number: int, batch: Any, order: int | None = None) -> Any:
        """Return a batch of a data set, or raise if something in it is wrong.

        Args:
            number: Number of the batch, for the message.
            batch: The batch.
            order: How many batches were read before. Defaults to `None`: `number`.
        """
        try:
            self._batch(number if order is None else order, batch)
        except ValueError as error:
            raise ValueError(f"In batch {number}: {error}") from None
        return batch

    def is_needed(self, number: Any) -> Any:
        """Whether a batch of this number is checked; a TensorFlow tensor if the number is one."""
        return number >= 0 if self.indexed else number < _FIRST

    def structure(self, x: Any, y: Any) -> None:
        """Raise if sides, keys or shapes are not those of a pair."""
        check_pair(x, self.needs, bool(self.indexed))
        if y is None and self.label_rule.needs_labels:
            raise ValueError(self.label_rule.without_labels())
        if TEACHER_OUTPUTS in x:
            check_shapes(x[TEACHER_OUTPUTS], self.teacher_shapes)

    def _batch(self, order: int, batch: Any) -> None:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if order < _FIRST:
            self.structure(x, y)
            self._weights(x)
            check_finite(x)
            self._values(x, y)
        elif self.indexed and isinstance(x, Mapping) and INDEX in x:
            self._index(x)

    def _weights(self, x: Any) -> None:
        if TEACHER_WEIGHT in x:
            check_teacher_weight(x[TEACHER_WEIGHT], set(self.needs.outputs))

    def _values(self, x: Any, y: Any) -> None:
        self._index(x)
        self.label_rule.check(y)
        recorded = x.get(TEACHER_OUTPUTS, {})
        for name in self.probabilities & set(recorded):
            values = to_numpy(recorded[name][:_ROWS])
            # Without a teacher there may be anything; `check_finite` has dealt with the rest.
            values = values[np.isfinite(values).reshape(len(values), -1).all(axis=1)]
            if len(values) and not look_like_probabilities(values):
                raise ValueError(
                    f'"teacher_outputs" {name!r} must be probabilities over classes: declare '
                    "logits as `RecordedTeacher(logits=...)`, and independent labels by their "
                    f"logits too. Received: values from {values.min()} to {values.max()}, whose "
                    "rows do not all sum to 1."
                )
        for name in self.logits & set(recorded):
            if look_like_probabilities(to_numpy(recorded[name][:_ROWS])):
                raise ValueError(
                    "A loss compares logits: record the teacher's outputs before its softmax, or "
                    "take the logarithm of the probabilities. Received: "
                    f'"teacher_outputs" {name!r} in [0, 1], with rows that sum to 1.'
                )

    def _index(self, x: Any) -> None:
        for loss in self.indexed:
            if hasattr(loss, "check_index"):
                loss.check_index(to_numpy(x[INDEX]))


def check_shapes(outputs: Mapping[str, Any], wanted: Mapping[str, tuple[int | None, ...]]) -> None:
    """Raise unless recorded outputs of a teacher have the shapes the distiller was built for.

    Args:
        outputs: Arrays or tensors by name.
        wanted: Shapes by name, the batch size first, `None` for any size.

    Example:
    >>> import numpy as np
    >>> check_shapes({"features": np.ones((8, 1))}, {"features": (None, 16)})
    Traceback (most recent call last):
    ...
    ValueError: ... Received: 'features' of shape (8, 1).
    """
    for name, shape in wanted.items():
        if name not in outputs or getattr(outputs[name], "shape", None) is None:
            continue
        came = outputs[name].shape
        if getattr(came, "rank", 0) is None:  # TensorFlow may not know it.
            continue
        came = tuple(came)
        same = len(came) == len(shape) and all(
            None in pair or pair[0] == pair[1] for pair in zip(came[1:], shape[1:], strict=True)
        )
        if not same:
            raise ValueError(
                f'"teacher_outputs" {name!r} must have the shape {("samples", *shape[1:])} of the '
                "teacher that the distiller was built with: record them with that teacher and "
                f"these layers. Received: {name!r} of shape {came}."
            )


def guarded(data: Any, checks: Any) -> Any:
    """Return a data set of the same kind that raises if its first batches are wrong.

    Anything but a data set of Keras, TensorFlow or PyTorch, or a Python generator, is returned
    unchanged.

    Args:
        data: What `fit` got.
        checks: `DataChecks`, or an object with the same methods.
    """
    if isinstance(data, keras.utils.PyDataset) or _is_loader(data):
        return mapped(data, _InOrder(checks), lambda number, batch: batch)
    # A Python generator.
    if hasattr(data, "send") and hasattr(data, "throw"):
        return (checks(number, batch) for number, batch in enumerate(data))
    # A `tf.data.Dataset`, recognized without importing TensorFlow.
    if hasattr(data, "element_spec") and hasattr(data, "enumerate"):
        return _guarded_in_graph(data, checks)
    return data


class _InOrder:
    """Counts the batches that are read: a shuffled data set yields them in any order."""

    def __init__(self, checks: Any) -> None:
        self.checks, self.read = checks, 0

    def __call__(self, number: int, batch: Any) -> Any:
        order, self.read = self.read, self.read + 1
        return self.checks(number, batch, order)


def _is_loader(data: Any) -> bool:
    return any(cls.__module__.startswith("torch.") for cls in type(data).__mro__) and hasattr(
        data, "collate_fn"
    )


def _guarded_in_graph(data: Any, checks: Any) -> Any:
    import tensorflow as tf

    specs = keras.tree.flatten(data.element_spec)
    if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        return data  # Ragged and sparse tensors cannot pass through a Python function.
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data.element_spec)
    checks.structure(x, y)

    def look(number: Any, *leaves: Any) -> None:
        arrays = [leaf.numpy() for leaf in leaves]
        checks(int(number), keras.tree.pack_sequence_as(data.element_spec, arrays))

    def check(number: Any, batch: Any) -> Any:
        # `tf.cond` needs a result from both branches; the dependency makes the look happen.
        def looked() -> Any:
            call = tf.py_function(look, [number, *keras.tree.flatten(batch)], [])
            with tf.control_dependencies([call]):
                return tf.constant(0)

        done = tf.cond(checks.is_needed(number), looked, lambda: tf.constant(0))
        with tf.control_dependencies([done]):
            return keras.tree.map_structure(tf.identity, batch)

    return data.enumerate().map(check)
