"""LossTerms: the distillation losses of a distiller, what they read and what they add."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_fdkd.data.pairs import STUDENT, TEACHER
from keras_fdkd.distillers.checks import check_weights
from keras_fdkd.distillers.group_tap import group_key
from keras_fdkd.distillers.keras_losses import (
    KERAS_LOSSES,
    check_same,
    divides_by_replicas,
    warn_of_raw_logits,
)
from keras_fdkd.distillers.masks import (
    both,
    check_masks,
    fitted,
    leaves_out,
    masks_of,
    with_samples,
)
from keras_fdkd.distillers.presence import present, times, weight_of
from keras_fdkd.distillers.replicas import replicas
from keras_fdkd.features import PREDICTIONS
from keras_fdkd.losses.cross_modal_loss import CrossModalLoss, takes_argument
from keras_fdkd.losses.reduction import samples_of


class LossTerms:
    """Named, weighted losses over the outputs of two taps.

    Args:
        losses: `keras.distillation.DistillationLoss` objects.
        weights: A number >= 0 for each, or `None` for all 1.
        argument: Name of the distiller's argument, for messages.
        teachers: Names of the teachers, if there are several.

    Warns of a `LogitsDistillation` that Keras computes on raw logits.

    Raises:
        ValueError: If an argument is anything else, or the numbers of losses and weights differ.
    """

    def __init__(
        self, losses: Any, weights: Any, argument: str, teachers: Sequence[str] = ()
    ) -> None:
        losses = [] if losses is None else losses
        if not isinstance(losses, (list, tuple)) or not all(
            isinstance(loss, keras.distillation.DistillationLoss) for loss in losses
        ):
            raise ValueError(
                f"`{argument}` must be a list of `keras.distillation.DistillationLoss` objects. "
                f"Received: {argument}={losses!r}."
            )
        weights_argument = argument.replace("losses", "loss_weights")
        weights = [1.0] * len(losses) if weights is None else weights
        if not isinstance(weights, (list, tuple)) or len(weights) != len(losses):
            raise ValueError(
                f"`{weights_argument}` must be a list with one weight for each of the "
                f"{len(losses)} `{argument}`. Received: {weights_argument}={weights!r}."
            )
        own = [getattr(loss, name, None) for loss in losses for name in _OWN_LAYERS]
        layers = [id(layer) for layer in own if isinstance(layer, keras.Layer)]
        if len(set(layers)) < len(layers):
            raise ValueError(
                f"Two of `{argument}` hold one and the same layer: give each a layer of its own. "
                f"Received: {[loss.name for loss in losses if hasattr(loss, 'name')]}."
            )
        if len({id(loss) for loss in losses}) < len(losses):
            raise ValueError(
                f"Each entry of `{argument}` must be an object of its own: build a second loss for "
                f"a second pair of layers. Received: {argument}={losses!r}."
            )
        names = _unique_names(losses)
        self.losses = dict(zip(names, losses, strict=True))
        self._teachers = tuple(teachers)
        self.weights = dict(zip(names, weights, strict=True))
        for loss in losses:
            warn_of_raw_logits(loss)
        if losses:
            named = {f"{weights_argument}[{i}]": weight for i, weight in enumerate(weights)}
            check_weights(**named)

    @property
    def indexed(self) -> tuple[Any, ...]:
        """The losses that need the number of each sample."""
        return tuple(loss for loss in self.losses.values() if getattr(loss, "needs_index", False))

    def comparing(self, side: str) -> dict[str, list[tuple[str, CrossModalLoss]]]:
        """Return the losses of classes or labels, grouped by what they read of `side`.

        Returns:
            Dict from the name of an output of the tap to pairs of a loss's name and the loss.
        """
        found: dict[str, list[tuple[str, CrossModalLoss]]] = {}
        for name, loss in self.losses.items():
            if isinstance(loss, CrossModalLoss) and loss.compares is not None:
                found.setdefault(self._keys(loss, side), []).append((name, loss))
        return found

    def attach(self) -> list[Any]:
        """Fix the losses for use in a distiller, and return their variables."""
        ours = [loss for loss in self.losses.values() if isinstance(loss, CrossModalLoss)]
        return [variable for loss in ours for variable in loss.attach()]

    def reads(self, side: str) -> dict[str, str | None]:
        """Return the outputs of `side` that are compared: names, with paths if they are layers."""
        keys = keras.tree.flatten([self._keys(loss, side) for loss in self.losses.values()])
        return {key: key.removeprefix(_LAYER) if key.startswith(_LAYER) else None for key in keys}

    def _keys(self, loss: Any, side: str) -> Any:
        """Return the names under which the tap of `side` returns what `loss` reads."""
        path = getattr(loss, f"{side}_layer_name", None)
        default = getattr(loss, "reads", PREDICTIONS)  # Keras's own losses read the predictions.
        if path is None:
            return default
        names = self._teachers if side == TEACHER else ()
        return keras.tree.map_structure(
            lambda item: group_key(item, names, default) or _LAYER + item, path
        )

    def read_by(self, loss: Any, side: str) -> list[str]:
        """Return the names of what a loss reads of `side`."""
        return keras.tree.flatten(self._keys(loss, side))

    def _flat_keys(self, loss: Any) -> tuple[list[str], list[str]]:
        teacher, student = (self.read_by(loss, side) for side in _SIDES)
        return teacher, student

    def _select(self, loss: Any, *outputs: dict[str, Any]) -> tuple[Any, Any]:
        first, second = (
            keras.tree.map_structure(lambda key, o=of_side: o[key], self._keys(loss, side))
            for side, of_side in zip(_SIDES, outputs, strict=True)
        )
        return first, second

    def build(self, teacher: dict[str, Any], student: dict[str, Any]) -> dict[str, keras.Layer]:
        """Check symbolic outputs and return the layers of the losses that have one."""
        adapters = {}
        for name, loss in self.losses.items():
            pair = self._select(loss, teacher, student)
            if isinstance(loss, KERAS_LOSSES):
                check_same(name, loss, *pair)
            else:
                loss.validate_outputs(*pair)
            check_masks(name, loss, pair, masks_of(self._flat_keys(loss), teacher, student))
            adapter = loss.build_adapter(*pair) if isinstance(loss, CrossModalLoss) else None
            if adapter is not None:
                adapters[name] = adapter
        return adapters

    def compare(
        self,
        adapters: dict[str, keras.Layer],
        teacher: dict[str, Any],
        student: dict[str, Any],
        training: bool,
        index: Any,
    ) -> dict[str, Any]:
        """Return what each loss compares; trainable layers run here."""
        compared = {}
        for name, loss in self.losses.items():
            keys = self._flat_keys(loss)
            pair = self._select(loss, teacher, student)
            weight = weight_of(keys[0], teacher, self._teachers)
            if weight is not None and len(weight.shape) > 1:
                leaves_out(name, loss, pair, 'have `"teacher_weight"` of positions')
            mask = with_samples(both(masks_of(keys, teacher, student)), present(weight))
            if name in adapters:
                more = {"index": index} if getattr(loss, "needs_index", False) else {}
                run = type(adapters[name]).call
                if mask is not None and takes_argument(run, "valid"):
                    more["valid"] = fitted(mask, pair[1])
                if mask is not None and takes_argument(run, "there"):
                    more["there"] = samples_of(mask)
                pair = adapters[name](*pair, training=training, **more)
            compared[name] = (*pair, mask, weight)
        return compared

    def terms(
        self, compared: dict[str, Any], weights: Any, y: Any, sample_weight: Any, valid: Any
    ) -> dict[str, tuple[Any, Any]]:
        """Return `{log name: (weight, scalar)}`, with weights from a `TermWeights`."""
        terms = {}
        for name, loss in self.losses.items():
            teacher, student, mask, own = compared[name]
            weight = times(sample_weight, own)
            if isinstance(loss, CrossModalLoss):
                given = {"mask": mask, "valid": valid}
                masked = {name: one for name, one in given.items() if one is not None}
                value = loss.compute_loss(teacher, student, y=y, sample_weight=weight, **masked)
            elif weight is None and valid is None:
                value = loss.compute_loss(teacher, student)
                if isinstance(loss, KERAS_LOSSES) and not divides_by_replicas(loss):
                    value = value / replicas()
            else:
                raise ValueError(
                    f"`{type(loss).__name__}` takes no sample weights, so `sample_weight`, "
                    '`class_weight` and `"teacher_weight"` would be dropped silently. Train '
                    "without them, or write it as a `keras_fdkd.losses.CrossModalLoss`."
                )
            if ops.ndim(value):
                raise ValueError(
                    f"`{type(loss).__name__}.compute_loss` must return a scalar. "
                    f"Received: shape {tuple(value.shape)}."
                )
            terms[f"{name}_loss"] = (weights.tensor(f"{name}_loss"), value)
        return terms


# Tells a layer that is called "predictions" from the predictions.
_LAYER = "layer:"
_SIDES = (TEACHER, STUDENT)
_OWN_LAYERS = ("regressor", "projector")  # attributes of losses that may hold a given layer


def _unique_names(losses: Sequence[Any]) -> list[str]:
    names: list[str] = []
    for loss in losses:
        name = base = getattr(loss, "name", None) or _snake_case(type(loss).__name__)
        count = 1
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return names


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
