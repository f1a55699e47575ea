"""The default feature: what the classifier at the end of a model sees."""

import keras

from keras_fdkd.graphs import Place, Step, made_by, same_place, settled
from keras_fdkd.views import is_view

_CANDIDATES = 5


def classifier_of(model: keras.Model, role: str) -> str:
    """Return the path of the `Dense` layer that makes the logits; its input is the feature.

    The walk begins at the model's output and goes back through whatever only changes the view of
    the logits, and into nested models.

    Args:
        model: Functional or sequential model.
        role: `"teacher"` or `"student"`, for messages.

    Returns:
        The layer's path.

    Raises:
        ValueError: If something else makes the output, or several outputs have classifiers on
            different inputs. The message lists layers to choose from.
    """
    places = [Place(output) for output in model.outputs]
    ends = [_end(place) for place in places]
    found = [step for step in ends if step is not None and _is_classifier(step)]
    if len(found) < len(ends):
        where = next((step for step in ends if step is not None and not _is_classifier(step)), None)
        what = f"'{where.path}' ({type(where.operation).__name__})" if where else "its input"
        reason = f"its output comes from {what}, not from a `Dense` layer"
        candidates = _before([place for step in ends if step for place in step.inputs])
    elif not all(same_place(settled(found[0].inputs[0]), settled(s.inputs[0])) for s in found):
        heads = [step.path for step in found]
        reason = f"its outputs come from `Dense` layers on different inputs, {heads}"
        candidates = [made for step in found if (made := made_by(step.inputs[0]))]
    elif role == "student" and made_by(found[0].inputs[0]) is None:
        reason = f"its `Dense` layer '{found[0].path}' sees the model's inputs, which do not learn"
        candidates = []
    else:
        # Several heads may stand on one feature: each of them leads to it.
        return found[0].path
    names = {step.path: step.output.tensor.shape for step in candidates}
    listed = ", ".join(f"'{path}' {shape}" for path, shape in names.items())
    raise ValueError(
        f"`{role}` '{model.name}' has no default feature: {reason}. Name the layer whose output is "
        f"the feature with `{role}_features=`. Candidates: {listed or 'none'}."
    )


def _end(place: Place) -> Step | None:
    """Return the step that makes the logits."""
    step = made_by(place)
    while step is not None and not _is_classifier(step) and is_view(step):
        step = made_by(step.inputs[0])
    return step


def _is_classifier(step: Step) -> bool:
    layer = step.operation
    if isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    return isinstance(layer, keras.layers.Dense)


def _before(places: list[Place]) -> list[Step]:
    """Return the last layers before these places, nearest first."""
    waiting = list(places)
    found: dict[str, Step] = {}
    # Twice what is listed, because operations among them are left out below.
    while waiting and len(found) < 2 * _CANDIDATES:
        step = made_by(waiting.pop(0))
        if step is None or step.path in found:
            continue
        found[step.path] = step
        waiting += step.inputs
    layers = [step for step in found.values() if isinstance(step.operation, keras.Layer)]
    return layers[:_CANDIDATES]
