"""Where to read the outputs of a PyTorch module: entries and submodules."""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_fdkd.torch_inputs import described, is_tensor

FEATURES, LOGITS = "features", "logits"


class Where(NamedTuple):
    """A place to read: entries of a submodule's output, or of the module's own (`None`)."""

    submodule: str | None
    entries: tuple[str | int, ...]


class MisreadError(ValueError):
    """Raised about an argument, rather than by the module itself."""


def chosen(
    name: str, path: list[str | int], inside: Where | None, output: Any, modules: dict[str, Any]
) -> Where:
    """Return which place is meant: an entry of the output, or a submodule."""
    entries = _entries(output)
    is_entry = isinstance(path[0], int) or path[0] in entries
    if is_entry and inside is not None:
        raise ValueError(
            f"`{name}` must tell the entries of the output from the submodules: give the number of "
            f"the entry, or the path of another submodule. Received: {path[0]!r}, which is both."
        )
    if is_entry:
        return Where(None, tuple(path))
    if inside is not None:
        return inside
    near = difflib.get_close_matches(str(path[0]), [key for key in modules if key], 3, 0.4)
    known = near or [key for key in modules if key][:12]
    raise ValueError(
        f"`{name}` must be the path of a submodule or an entry of the output. Submodules: {known}; "
        f"output: {described(output)}. Received: {name}={'/'.join(map(str, path))!r}."
    )


def default_logits(output: Any) -> Where:
    """Return where the logits are by default: the output, or its entry of that name."""
    if is_tensor(output):
        return Where(None, ())
    if LOGITS in _entries(output):
        return Where(None, (LOGITS,))
    raise ValueError(
        'The module gives several outputs and none of them is named "logits". Say which one holds '
        "the logits, such as `logits=0`; for a model without a classifier, where no loss compares "
        f"logits, name its feature as both. Received output: {described(output)}."
    )


def picked(name: str, value: Any, entries: "tuple[str | int, ...]") -> Any:
    """Return the tensor at nested entries of an output."""
    whole = value
    for entry in entries:
        try:
            if isinstance(entry, str):
                value = _entries(value)[entry]
            else:
                value = list(value.values() if isinstance(value, Mapping) else value)[entry]
        except (KeyError, IndexError, TypeError):
            raise MisreadError(
                f"`{name}` names no entry of the output. Received: {entry!r} of {described(whole)}."
            ) from None
    if not is_tensor(value):
        raise MisreadError(
            f"`{name}` must name one tensor. Add the name or the number of an entry behind a "
            f"slash, as in 'hidden_states/-1'. Received: {described(value)}."
        )
    return value


def check_output(name: str, value: Any, batch: int) -> None:
    """Raise unless this is a feature or logits, with one row per sample."""
    if not value.is_floating_point() or value.ndim < 2 or value.shape[0] != batch:
        raise ValueError(
            f"`{name}` must be a tensor of floats of shape (batch, ...), a row for each sample. "
            f"Received: {value.dtype} of shape {tuple(value.shape)} for a batch of {batch}."
        )


def parsed(where: "str | int") -> list[str | int]:
    """Return the parts of a place: `'hidden_states/-1'` is `['hidden_states', -1]`."""
    if isinstance(where, int):
        return [where]
    # The head stays a text: submodules of a `Sequential` have digits for names.
    head, *rest = where.split("/")
    return [head, *(int(part) if part.lstrip("-").isdigit() else part for part in rest)]


def _entries(output: Any) -> dict[str, Any]:
    """Return the named entries of an output: a dict, a `ModelOutput`, a named tuple."""
    if isinstance(output, Mapping):
        return dict(output)
    return output._asdict() if hasattr(output, "_asdict") else {}
