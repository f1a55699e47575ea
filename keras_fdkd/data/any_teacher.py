"""How a teacher of any kind is run, batch by batch, and its outputs read."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_fdkd.data.data_sets import is_a, to_numpy
from keras_fdkd.features import FEATURES, LOGITS, PREDICTIONS, FeatureTap
from keras_fdkd.masks import mask_key
from keras_fdkd.torch_reading import TorchReader


def asked(teacher: Any, first: Any, features: Any, logits: Any, data_format: Any) -> Any:
    """Return a function from a batch to the teacher's outputs by name."""
    if is_a(teacher, "torch", "Module") and not isinstance(teacher, keras.Layer):
        return TorchReader(teacher, first, features, logits, data_format)
    if isinstance(teacher, keras.Model):
        if logits is not None or data_format is not None:
            raise ValueError(
                "`logits` and `data_format` are of modules of PyTorch: a Keras model's logits are "
                f"its output. Received: logits={logits!r}, data_format={data_format!r}."
            )
        return _Tapped(FeatureTap(teacher, {FEATURES: features}, "teacher"))
    if not callable(teacher):
        raise ValueError(
            "`teacher` must be a `torch.nn.Module`, a `keras.Model` or a function from a batch to "
            f"a dict of arrays. Received: teacher={teacher!r}."
        )
    given = {"features": features, "logits": logits, "data_format": data_format}
    if given := {name: value for name, value in given.items() if value is not None}:
        raise ValueError(
            "A function names its outputs itself, in the dict it returns. "
            f"Received: {', '.join(f'{name}={value!r}' for name, value in given.items())}."
        )
    return teacher


class _Tapped:
    """A Keras model whose predictions are recorded as logits."""

    def __init__(self, tap: FeatureTap) -> None:
        self.tap = tap
        if keras.tree.is_nested(tap.spec[PREDICTIONS]):
            raise ValueError(
                "`teacher` must have one output, its logits. For several, pass a function, "
                '`lambda x: {"logits": teacher.predict_on_batch(x)["name"]}`. '
                f"Received: {tap.spec[PREDICTIONS]}."
            )

    def __call__(self, batch: Any) -> dict[str, Any]:
        # `RecordedTeacher`, which reads the files later, knows them as logits.
        names = {PREDICTIONS: LOGITS, mask_key(PREDICTIONS): mask_key(LOGITS)}
        outputs = self.tap.predict_on_batch(batch)
        return {names.get(name, name): value for name, value in outputs.items()}


def batches_of(batches: Any) -> Iterator[Any]:
    """Return an iterator over batches, and raise if these are not batches."""
    arrays = hasattr(batches, "shape") or isinstance(batches, (Mapping, str, bytes))
    if arrays or isinstance(batches, keras.utils.PyDataset) or not isinstance(batches, Iterable):
        raise ValueError(
            "`batches` must be an iterable of batches of the teacher's inputs: of arrays, "
            "`(x[i : i + 256] for i in range(0, len(x), 256))`; of a `PyDataset`, "
            "`(data[i][0] for i in range(data.num_batches))`. "
            f"Received: {type(batches).__name__}."
        )
    return iter(batches)


def rows_of(outputs: Any, batch: Any, number: int) -> dict[str, np.ndarray]:
    """Return a batch of outputs as arrays of numbers, with one row per sample."""
    if not isinstance(outputs, Mapping) or not outputs:
        raise ValueError(
            'The teacher must return a dict of arrays, such as {"features": ..., "logits": ...}. '
            f"Received: {type(outputs).__name__} in batch {number}."
        )
    found = {str(name): _array(value) for name, value in outputs.items()}
    sizes = {len(value) if value.ndim else None for value in found.values()}
    # Scalars, such as options among keyword arguments, have no rows.
    inputs = [leaf for leaf in keras.tree.flatten(batch) if getattr(leaf, "shape", ())]
    sizes |= {int(leaf.shape[0]) for leaf in inputs}
    if len(sizes) != 1:
        raise ValueError(
            "The teacher must give a row for each sample of a batch. Received: "
            f"{ {name: value.shape for name, value in found.items()} } in batch {number} of inputs "
            f"{[tuple(leaf.shape) for leaf in inputs]}."
        )
    for name, value in found.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(
                f"What a teacher says must be finite. Received: NaN or infinity in {name!r} of "
                f"batch {number}."
            )
    return found


def _array(value: Any) -> np.ndarray:
    if is_a(value, "torch", "Tensor"):  # On any backend of Keras.
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy()
    array = np.asarray(value if isinstance(value, np.ndarray) else to_numpy(value))
    # The bfloat16 of JAX and TensorFlow, of which a `.npy` file would lose the dtype:
    # https://github.com/jax-ml/ml_dtypes/issues/41.
    return array.astype("float32") if array.dtype.kind == "V" else array
