"""NaN and infinity in the inputs: errors that name the side, and the samples or the batch."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_fdkd.data.data_sets import mapped, to_numpy
from keras_fdkd.data.pairs import STUDENT, TEACHER, TEACHER_OUTPUTS, TEACHER_WEIGHT, check_samples


def check_finite(x: Mapping[str, Any]) -> None:
    """Raise if arrays in memory hold NaN or infinity.

    Distillers call it on the arrays that `fit` gets; use it to check data earlier.

    Args:
        x: Inputs by the name of the side. Memory maps are skipped, because reading them may take
            long. Where `"teacher_weight"` is 0, the teacher's side may hold anything.

    Raises:
        ValueError: If there are any; it names the side and the first samples.

    Example:
    >>> check_finite({"teacher": np.ones((3, 2)), "student": np.array([[1.0], [np.nan], [1.0]])})
    Traceback (most recent call last):
    ...
    ValueError: ... Received: NaN or infinity in 1 of 3 samples of student, the first: [1].
    """
    _check(x, "", (np.memmap,))


def checked(data: Any) -> Any:
    """Return a data set that raises at the first batch with NaN, infinity or a missing sample.

    Use it to find broken batches in a data set: on its own, `fit` checks only the first ones.

    Args:
        data: A `keras.utils.PyDataset`, `tf.data.Dataset` or torch `DataLoader` of batches `(x, y)`
            or `(x, y, sample_weight)`, where `x` is a dict of the inputs by side.

    Returns:
        A data set of the same kind with the same batches. Its `ValueError` (from TensorFlow, an
        error of its own that holds the message) names the side, the batch, counted from 0, and the
        samples in it, or the sides that differ in their number of samples. Each worker of a torch
        `DataLoader` counts the batches that it loads itself.

    Raises:
        ValueError: If `data` is of another kind.

    Example:
    >>> class Data(keras.utils.PyDataset):
    ...     def __len__(self):
    ...         return 2
    ...     def __getitem__(self, step):
    ...         x = np.full((4, 3), np.inf if step else 1.0)
    ...         return {"teacher": x, "student": np.ones((4, 2))}, np.zeros(4)
    >>> batch = checked(Data())[0]
    >>> checked(Data())[1]
    Traceback (most recent call last):
    ...
    ValueError: ... Received: NaN or infinity in 4 of 4 samples of teacher in batch 1, ...
    """
    return mapped(data, _check_batch, _check_in_graph)


def _check_batch(number: int, batch: Any) -> Any:
    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    _check_side_by_side(number, x)
    return batch


def _check_side_by_side(number: int, x: Any) -> None:
    try:
        check_samples(x if isinstance(x, Mapping) else {"student": x})
    except ValueError as error:
        raise ValueError(f"In batch {number}: {error}") from None
    _check(x, f" in batch {number}", ())


def _check_in_graph(number: Any, batch: Any) -> Any:
    import tensorflow as tf

    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)

    def check(number: Any, *leaves: Any) -> None:
        arrays = [leaf.numpy() for leaf in leaves]
        _check_side_by_side(int(number), keras.tree.pack_sequence_as(x, arrays))

    # The batch must wait for the check, of which it uses no result.
    with tf.control_dependencies([tf.py_function(check, [number, *keras.tree.flatten(x)], [])]):
        return keras.tree.map_structure(tf.identity, batch)


def _check(x: Mapping[str, Any], where: str, leave_out: tuple[type, ...]) -> None:
    sides = x if isinstance(x, Mapping) else {STUDENT: x}
    absent = _absent(sides.get(TEACHER_WEIGHT))
    for side, inputs in sides.items():
        for path, leaf in keras.tree.flatten_with_path(inputs):
            if isinstance(leaf, leave_out) or not hasattr(leaf, "shape"):
                continue
            values = to_numpy(leaf)
            # These hold no NaN. bfloat16 may, and has the kind of raw bytes in NumPy, "V".
            if values.dtype.kind in "biuSUO" or not values.size:
                continue
            rows = _broken_rows(values.reshape(len(values), -1))
            if side in (TEACHER, TEACHER_OUTPUTS) and len(rows):
                # Names of recorded outputs begin with that of their teacher.
                teacher = str(path[0]).partition(":")[0] if path else None
                rows = np.setdiff1d(rows, absent.get(teacher, absent.get(None, ())))
            if not len(rows):
                continue
            raise ValueError(
                "Inputs must be finite: leave such samples out, or fill them in. Received: NaN or "
                f"infinity in {len(rows)} of {len(values)} samples of {side}{where}, the first: "
                f"{rows[:5].tolist()}."
            )


def _absent(weight: Any) -> dict[str | None, np.ndarray]:
    """Return the numbers of the samples without a teacher, by its name; `None` for a single one."""
    if weight is None:
        return {}
    by_name = weight if isinstance(weight, Mapping) else {None: weight}
    values = {name: to_numpy(one) for name, one in by_name.items()}
    return {
        name: np.flatnonzero(~(one.reshape(len(one), -1) > 0).any(axis=1))
        for name, one in values.items()
    }


def _broken_rows(values: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows that are not finite, in pieces that need little memory."""
    # `isfinite` makes an array of booleans: 16 MiB for this many values.
    size = max(1, 2**24 // values.shape[1])
    found = [
        start + np.flatnonzero(~np.isfinite(values[start : start + size]).all(axis=1))
        for start in range(0, len(values), size)
    ]
    return np.concatenate(found)
