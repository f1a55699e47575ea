"""teacher_identity: a name for a teacher's outputs, the same in every process."""

import contextlib
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import keras

from keras_fdkd.data.hidden_weights import hidden_weights, kept_arrays, layers_of
from keras_fdkd.fingerprints import fingerprint, row_keys
from keras_fdkd.torch_teacher import described

_DROPPED = ("compile_config", "trainable")  # not part of what a frozen teacher computes
_MODELS = ("functional", "sequential")


def teacher_identity(distiller: Any, key: str | None, reads: Collection[str], *further: Any) -> str:
    """Return a name for what is read of the distiller's teacher.

    It depends on the teacher's weights, its configuration (wiring and options) and what is read of
    it. Names that Keras numbers (`dense_3`), and those of models, count only by their order.

    Args:
        distiller: With a frozen teacher.
        key: Names the version of a teacher whose weights or configuration Keras cannot see.
        reads: Names of what is stored.
        *further: What else distinguishes stores, in a form for JSON.

    Raises:
        ValueError: If `key` is needed and missing.
    """
    teachers = distiller._teacher
    each, names = [], {}
    for place, teacher in teachers.named_models.items():
        if key is None and (held := hidden_weights(teacher)):
            raise ValueError(
                f"Keras cannot see all weights of the teacher: those of {held} may change "
                "unnoticed. Pass `key=`, a name for this version of the teacher. Received: "
                "key=None."
            )
        config, own = _config(teacher, key)
        names.update(own)
        each.append([place, *_computed(teacher, config)])
    paths = {
        name: path and "/".join(names.get(part, part) for part in path.split("/"))
        for name, path in teachers.tap.paths.items()
    }
    what = [sorted(reads), paths, each, key, *further]
    digest = hashlib.blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()
    return f"{teachers.fingerprint()}-{digest}"


def model_identity(model: keras.Model, *further: Any) -> str:
    """Return a name for what a model computes, the same for each build of it, in every process.

    It depends on weights, configuration and constants as `teacher_identity` does, but of what Keras
    cannot see only the class counts. Code has no part in it, nor have seeds, which some layers draw
    themselves.

    Args:
        model: Built `keras.Model`.
        *further: What else distinguishes models, in a form for JSON.
    """
    config, _ = _config(model, key="")
    what = [fingerprint(model), *_computed(model, _without_code(config)), *further]
    return hashlib.blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()


def _computed(model: keras.Model, config: Any) -> list[Any]:
    """Return what a model computes besides the values of its weights."""
    return [config, _shared_weights(model), [_digest(array) for array in kept_arrays(model)]]


def _without_code(node: Any) -> Any:
    """Return a configuration without seeds and lambdas, whose code names the line it stands in."""
    if isinstance(node, list):
        return [_without_code(value) for value in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "__lambda__":
        return "lambda"
    return {name: _without_code(value) for name, value in node.items() if name != "seed"}


def _config(teacher: keras.Model, key: str | None) -> tuple[Any, dict[str, str]]:
    """Return the configuration, and the automatic names in it with their replacements."""
    try:
        with _at_rest(teacher), described():
            # JSON has dicts and lists only, so the walks below need to know nothing else.
            config = json.loads(json.dumps(keras.saving.serialize_keras_object(teacher)))
    except Exception as error:  # Custom layers may raise anything.
        if key is None:
            raise ValueError(
                f"The teacher '{teacher.name}' has no configuration that tells it from others: "
                "give its layers a `get_config`, or pass `key=`, a name for this version of the "
                f"teacher. Received: key=None, and {type(error).__name__}: {error}"
            ) from error
        return type(teacher).__name__, {}
    names: dict[str, str] = {}
    _collect(config, names)
    return _renamed(config, names), names


@contextlib.contextmanager
def _at_rest(teacher: keras.Model) -> Iterator[None]:
    """Keep PyTorch modules in evaluation mode, because their configuration includes the mode."""
    wrappers = [
        layer for layer in layers_of(teacher) if type(layer).__name__ == "TorchModuleWrapper"
    ]
    before = [(part, part.training) for layer in wrappers for part in layer.module.modules()]
    for part, _ in before:
        part.training = False
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _collect(node: Any, names: dict[str, str]) -> None:
    """Find the names that Keras generated, in the order in which they appear."""
    if isinstance(node, dict):
        cls = _keras_name(str(node.get("class_name", "")))
        inner = node.get("config")
        for holder in (node, inner if isinstance(inner, dict) else {}):
            name = holder.get("name")
            # `Bidirectional` names its two layers after the one it was given.
            if cls and isinstance(name, str) and _is_automatic(name, cls):
                names.setdefault(name, f"{cls}#{len(names)}")
    if isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            _collect(value, names)


def _is_automatic(name: str, cls: str) -> bool:
    if cls in _MODELS:  # Often given the numbered name of the model that they are a part of.
        return True
    return re.fullmatch(rf"(forward_|backward_)?{re.escape(cls)}(_\d+)?", name) is not None


def _renamed(node: Any, names: dict[str, str]) -> Any:
    """Return a configuration with its automatic names unified, wherever they refer to a layer."""
    if isinstance(node, list):
        return [_renamed(value, names) for value in node]
    if not isinstance(node, dict):
        return node
    node = {name: _renamed(value, names) for name, value in node.items()}
    if "class_name" not in node:
        return node
    node = _layer(node, names)
    if isinstance(node.get("config"), dict):
        node["config"] = _layer(node["config"], names)
    return node


def _layer(node: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    node = {name: value for name, value in node.items() if name not in _DROPPED}
    if isinstance(node.get("name"), str):
        node["name"] = names.get(node["name"], node["name"])
    for name in ("input_layers", "output_layers", "keras_history"):
        if name in node:
            node[name] = _references(node[name], names)
    return node


def _references(node: Any, names: dict[str, str]) -> Any:
    """Return nested references `[layer, node, tensor]` with the unified names."""
    if isinstance(node, dict):
        return {name: _references(value, names) for name, value in node.items()}
    if not isinstance(node, list):
        return node
    if len(node) == 3 and isinstance(node[0], str):
        return [names.get(node[0], node[0]), *node[1:]]
    return [_references(value, names) for value in node]


def _shared_weights(teacher: keras.Model) -> list[list[int]]:
    """Return the weights of each layer by number: which layers share them is part of the wiring."""
    places = {id(weight): place for place, weight in enumerate(teacher.weights)}
    return [
        [places.get(id(weight), -1) for weight in layer.weights] for layer in layers_of(teacher)
    ]


def _digest(array: Any) -> str:
    keys = row_keys(array.reshape(1, -1))
    return f"{array.dtype}{array.shape}{keys[0]}"


def _keras_name(name: str) -> str:
    """Return a class's name as Keras begins the names of its objects."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
