"""The loss of the band classifiers: the compiled loss, on their logits."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_fdkd.distillers.task import kind_of_task

CROSS_ENTROPIES = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.BinaryCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.BinaryFocalCrossentropy,
)
_FUNCTIONS = {
    keras.losses.sparse_categorical_crossentropy: keras.losses.SparseCategoricalCrossentropy,
    keras.losses.categorical_crossentropy: keras.losses.CategoricalCrossentropy,
    keras.losses.binary_crossentropy: keras.losses.BinaryCrossentropy,
    keras.losses.categorical_focal_crossentropy: keras.losses.CategoricalFocalCrossentropy,
    keras.losses.binary_focal_crossentropy: keras.losses.BinaryFocalCrossentropy,
}


def resolve_align_loss(loss: Any) -> keras.losses.Loss:
    """Return the loss on logits for the heads that corresponds to the student's `loss`.

    Args:
        loss: The compiled loss: one of Keras's, as an object, function or name.

    Returns:
        For a cross-entropy, one of the same class, with its label smoothing and ignored class, on
        logits. `keras.losses.CTC` and losses of values, such as `"mse"`, as they are.

    Raises:
        ValueError: If `loss` is anything else.

    Example:
    >>> resolve_align_loss("sparse_categorical_crossentropy").get_config()["from_logits"]
    True
    """
    resolved = keras.losses.get(loss) if isinstance(loss, str) else loss
    # By identity: a list or a dict of losses could not be looked up in a dict.
    for function, cls in _FUNCTIONS.items():
        if resolved is function:
            return cls(from_logits=True)
    # Not `isinstance`: what a subclass makes of its arguments is unknown.
    if type(resolved) in CROSS_ENTROPIES:
        return type(resolved).from_config({**resolved.get_config(), "from_logits": True})
    if type(resolved) is keras.losses.CTC or kind_of_task(resolved) == "values":
        return resolved if isinstance(resolved, keras.losses.Loss) else _as_object(resolved)
    raise ValueError(
        "The band classifiers (`align_weight`, `band_task_weight`) need a loss on labels. Compile "
        "with a loss of Keras, pass `align_loss=`, or set these weights to 0. "
        f"Received: loss={loss!r}."
    )


def check_ignored(loss: keras.losses.Loss, ignored: int | None) -> None:
    """Raise if the loss of the heads would take the label that the compiled loss leaves out."""
    # Other code, on either side, may know a missing label by itself.
    if ignored is not None and getattr(loss, "ignore_class", ignored) != ignored:
        raise ValueError(
            "`align_loss` and the compiled loss must leave out the same label: pass it a "
            f"cross-entropy with ignore_class={ignored}. Received: {loss.ignore_class}."
        )


def _as_object(function: Any) -> keras.losses.Loss:
    """Return the loss that Keras makes of a function: the mean over samples."""

    class OfValues(keras.losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return function(y_true, y_pred)

    return OfValues()


def check_align_loss(loss: Any) -> None:
    """Raise if a custom loss for the heads takes probabilities: heads give logits."""
    config = loss.get_config() if type(loss) in CROSS_ENTROPIES else {}
    if config.get("from_logits") is False:
        raise ValueError(
            "`align_loss` judges the logits of the band classifiers: make it with "
            f"`from_logits=True`. Received: align_loss={loss!r} with from_logits=False."
        )


def check_judged(predictions: Any, weight_name: str) -> None:
    """Raise unless heads can be trained with the loss of the student's own predictions."""
    shape = getattr(predictions, "shape", None)
    if shape is None or len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            f"The band classifiers (`{weight_name}`) need a student with one output of shape "
            f"(batch, ..., classes), or `task_output`; pass `{weight_name}=0` for any other. "
            f"Received: {predictions}."
        )


def interleave(values: list[Any]) -> Any:
    """Return tensors of one shape `(batch, ...)` as one of `(values * batch, ...)`.

    The rows of a sample stay together, and so on the same device where batches are spread over
    several.
    """
    sizes = [
        ops.shape(values[0])[axis] if size is None else size
        for axis, size in enumerate(values[0].shape[1:], 1)
    ]
    return ops.reshape(ops.stack(values, axis=1), (-1, *sizes))


def summed(
    loss: keras.losses.Loss,
    judge: Callable[[Any, Any, Any], Any],
    y: Any,
    logits: Any,
    sample_weight: Any,
    count: int,
) -> Any:
    """Return the sum of `count` losses whose logits are interleaved; cross-entropies in one call.

    Args:
        loss: The loss of one head.
        judge: Function from labels, logits and sample weights to the loss.
        y: Labels of the samples.
        logits: `count` rows for each sample.
        sample_weight: Shape `(batch,)`, or `None`.
        count: How many losses there are.
    """
    if type(loss) not in CROSS_ENTROPIES:  # It may treat all rows together.
        return sum(judge(y, logits[n::count], sample_weight) for n in range(count))
    if sample_weight is not None:
        sample_weight = ops.repeat(sample_weight, count, axis=0)
        # Keras's masks of ignored positions work with weights of positions only.
        for _ in range(len(logits.shape) - 1 - len(sample_weight.shape)):
            sample_weight = ops.expand_dims(sample_weight, -1)
        sample_weight = sample_weight * ops.ones_like(logits[..., 0], dtype=sample_weight.dtype)
    value = judge(ops.repeat(y, count, axis=0), logits, sample_weight)
    # All other reductions are means.
    return value if loss.reduction == "sum" else count * value
