"""The task that a compiled loss is for: classes, independent labels or values."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_fdkd.losses.cross_modal_loss import CrossModalLoss

_LOSSES: dict[str, tuple[str, ...]] = {
    "classes": (
        "SparseCategoricalCrossentropy",
        "CategoricalCrossentropy",
        "CategoricalFocalCrossentropy",
        "CategoricalGeneralizedCrossEntropy",
        "CategoricalHinge",
        "KLDivergence",
        "CTC",
    ),
    "labels": ("BinaryCrossentropy", "BinaryFocalCrossentropy"),
    "values": (
        "MeanSquaredError",
        "MeanAbsoluteError",
        "MeanAbsolutePercentageError",
        "MeanSquaredLogarithmicError",
        "Huber",
        "LogCosh",
        "Poisson",
        "CosineSimilarity",
    ),
}
_ADVICE = {
    ("classes", "labels"): "For independent labels use `keras_fdkd.losses.BinaryKD`.",
    ("labels", "classes"): "For classes use `keras_fdkd.losses.KD`.",
}
_OF_VALUES = (
    "For values compare features (`PKD`, `FrequencyDistillation`), or imitate the predictions by "
    '`keras.distillation.FeatureDistillation(loss="mse")`.'
)


def kind_of_task(loss: Any) -> str | None:
    """Return "classes", "labels" or "values" for a Keras loss, `None` for any other.

    Args:
        loss: The loss of one output: an object, function or name.

    Example:
    >>> kind_of_task("mse"), kind_of_task(keras.losses.BinaryCrossentropy()), kind_of_task(None)
    ('values', 'labels', None)
    """
    resolved = resolve(loss)
    for kind, names in _LOSSES.items():
        for cls in (getattr(keras.losses, name) for name in names if hasattr(keras.losses, name)):
            # Only Keras's own losses: a subclass may mean anything.
            if type(resolved) is cls or (resolved is not None and resolved is _function_of(cls)):
                return kind
    return None


def resolve(loss: Any) -> Any:
    """Return the object or function that a name of a loss stands for."""
    return keras.losses.get(loss) if isinstance(loss, str) else loss


def is_on_probabilities(loss: Any) -> bool:
    """Whether a Keras loss takes probabilities, rather than logits.

    Example:
    >>> is_on_probabilities("sparse_categorical_crossentropy"), is_on_probabilities("mse")
    (True, False)
    """
    resolved = resolve(loss)
    if kind_of_task(resolved) not in ("classes", "labels"):
        return False
    if not isinstance(resolved, keras.losses.Loss):
        return resolved is not keras.losses.ctc  # Functions, by their defaults.
    return resolved.get_config().get("from_logits") is False


def loss_of_output(loss: Any, name: str | None) -> Any:
    """Return the compiled loss of one output.

    Args:
        loss: As passed to `compile`: one loss, or a list or dict of them.
        name: Name of the output in a dict; `None` for the only one.

    Returns:
        The loss, `None` if there is none or it cannot be determined.
    """
    if isinstance(loss, Mapping):
        return loss.get(name) if name in loss else _only(list(loss.values()), name)
    if isinstance(loss, (list, tuple)):
        return _only(list(loss), name)
    return loss if name is None else None


def _only(losses: list[Any], name: str | None) -> Any:
    return losses[0] if name is None and len(losses) == 1 else None


def check_task(name: str, loss: CrossModalLoss, compiled: Any) -> None:
    """Raise if a loss of classes or labels is used next to a compiled loss of another kind.

    Args:
        name: Name of the distillation loss.
        loss: The distillation loss.
        compiled: The compiled loss of the output that it compares.
    """
    kind, compares = kind_of_task(compiled), loss.compares
    if kind is None or compares is None or kind == compares:
        return
    raise ValueError(
        f"`{name}` compares the logits of {_NAMES[compares]}, but the compiled loss is one of "
        f"{_NAMES[kind]}. {_ADVICE.get((compares, kind), _OF_VALUES)} "
        f"Received: loss={compiled!r}."
    )


_NAMES = {"classes": "exclusive classes", "labels": "independent labels", "values": "values"}


def _function_of(cls: type) -> Any:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")
    # The rule takes abbreviations apart, which Keras keeps together.
    names = {"k_l_divergence": "kl_divergence", "c_t_c": "ctc"}
    return getattr(keras.losses, names.get(snake, snake), None)
