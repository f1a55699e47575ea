"""What Keras's own distillation losses need beside those of this package."""

import warnings
from typing import Any

import keras

KERAS_LOSSES = (keras.distillation.LogitsDistillation, keras.distillation.FeatureDistillation)


def divides_by_replicas(loss: Any) -> bool:
    """Whether a loss of Keras is already divided by the number of replicas."""
    # Objects divide by themselves; a function returns the whole mean of its replica.
    return all(isinstance(inner, keras.losses.Loss) for inner in keras.tree.flatten(loss.loss))


def warn_of_raw_logits(loss: Any) -> None:
    """Warn: Keras 3.15 finds a function under this name, but applies softmax for the class only."""
    if isinstance(loss, keras.distillation.LogitsDistillation) and any(
        inner is keras.losses.kl_divergence for inner in keras.tree.flatten(loss.loss)
    ):
        warnings.warn(
            '`LogitsDistillation` with `loss="kl_divergence"`, its default, compares raw logits as '
            "if they were probabilities. Pass `loss=keras.losses.KLDivergence()`, or use "
            "`keras_fdkd.losses.KD`.",
            stacklevel=4,
        )


def check_same(name: str, loss: Any, teacher: Any, student: Any) -> None:
    """Raise unless the outputs match; the check of Keras's own losses fails in Keras 3.15."""
    try:
        for outputs in (teacher, student):
            keras.tree.assert_same_structure(loss.loss, outputs)
    except ValueError as error:
        raise ValueError(
            f"The `loss` inside `{name}` must have the structure of the outputs that it compares. "
            f"Received: loss={loss.loss}, teacher {teacher}, student {student}."
        ) from error
    pairs = zip(keras.tree.flatten(teacher), keras.tree.flatten(student), strict=True)
    for first, second in pairs:
        if first.shape[1:] != second.shape[1:]:
            raise ValueError(
                f"`{name}` compares teacher and student entry by entry, so their outputs must have "
                "the same shape. Compare layers of one size, or use `keras_fdkd.losses.FitNet`, "
                "which maps the student's feature to the teacher's size. "
                f"Received: teacher {first.shape}, student {second.shape}."
            )
