"""TorchReader: features and logits of a module of PyTorch, which is left as it was."""

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_fdkd.arguments import check_choice

FEATURES, LOGITS = "features", "logits"
CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


class Where(NamedTuple):
    """A place to read: an entry of what a submodule gives, or the module itself (`None`)."""

    submodule: str | None
    entries: tuple[str | int, ...]


class TorchReader:
    """Runs a module in evaluation mode, without gradients, and reads features and logits.

    It needs PyTorch and not Keras's backend of that name. See `keras_fdkd.from_torch` for what the
    arguments mean.

    Args:
        module: `torch.nn.Module`.
        example: One batch of its inputs.
        features: Where to read the feature, `None` for nowhere.
        logits: Where to read the logits.
        data_format: The order of the axes of outputs.

    Attributes:
        example: The inputs as tensors.
        shapes: The shape of a sample of each output, by name.
        dtypes: The `torch.dtype` of each output.
        words: What is read, for configurations.

    Raises:
        ValueError: If the module cannot run on `example`, or does not give what is asked for.
    """

    # Without a `__dict__`: Keras would wrap a module that it finds, and move it.
    __slots__ = ("_where", "data_format", "dtypes", "example", "module", "shapes", "words")

    def __init__(
        self,
        module: Any,
        example: Any,
        features: "str | int | None" = None,
        logits: "str | int | None" = None,
        data_format: str | None = None,
    ) -> None:
        check_choice("data_format", data_format, (CHANNELS_FIRST, CHANNELS_LAST), optional=True)
        for name, where in ((FEATURES, features), (LOGITS, logits)):
            if where is not None and (isinstance(where, bool) or not isinstance(where, (str, int))):
                raise ValueError(
                    f"`{name}` must be the path of a submodule, the name or the number of an entry "
                    f"of the output, or `None`. Received: {name}={where!r}."
                )
        _check_module(module)
        self.module, self.data_format = module, data_format
        self.words = [features, logits, data_format]
        self.example = self._tensors(_plain(example), None)
        batch = _batch_size(self.example)
        asked = {name: _parsed(where) for name, where in ((FEATURES, features), (LOGITS, logits))
                 if where is not None}  # fmt: skip
        modules = dict(module.named_modules())
        inside = {name: Where(str(head), tuple(rest)) for name, (head, *rest) in asked.items()
                  if isinstance(head, str) and head in modules}  # fmt: skip
        try:
            output, heard = self._run(self.example, inside)
        except Exception as error:
            if isinstance(error, MisreadError):
                raise ValueError(str(error)) from None
            raise ValueError(
                "The module could not run on `example`. Pass one batch as the module takes it: an "
                "array for its one argument, a tuple for several, a dict for keyword arguments; "
                f"images usually with the channels first. Received: {_described(example)}, and "
                f"{type(error).__name__}: {error}"
            ) from error
        self._where = {
            name: _chosen(name, path, inside.get(name), output, modules)
            for name, path in asked.items()
        }
        if logits is None:
            self._where[LOGITS] = _default_logits(output)
        found = self._read(output, heard)
        for name, value in found.items():
            _check_output(name, value, batch)
        self.shapes = {name: tuple(value.shape[1:]) for name, value in found.items()}
        self.dtypes = {name: value.dtype for name, value in found.items()}

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Return the outputs by name, on the device of the inputs, shape `(batch, ...)`."""
        inputs = _plain(inputs)
        if (came := _structure(inputs)) != (wanted := _structure(self.example)):
            raise ValueError(
                "The inputs of a module of PyTorch must be built like the first batch it saw: "
                f"{wanted}. Received: {came}."
            )
        first = keras.tree.flatten(inputs)[0]
        tensors = self._tensors(inputs, self.example)
        output, heard = self._run(tensors, self._where)
        found = self._read(output, heard)
        if _is_tensor(first):
            found = {name: value.to(first.device) for name, value in found.items()}
        return found

    def state(self) -> dict[str, Any]:
        """Return the tensors that the module computes with, by name: parameters and buffers."""
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def _run(self, tensors: Any, targets: Mapping[str, Where]) -> tuple[Any, dict[str, Any]]:
        """Return the module's output, and what submodules gave, by the name of the target."""
        import torch

        args: tuple = tensors if isinstance(tensors, tuple) else (tensors,)
        kwargs: dict = {}
        if isinstance(tensors, dict):
            args, kwargs = (), tensors
        with in_eval_mode(self.module), torch.no_grad(), _listening(self.module, targets) as heard:
            output = self.module(*args, **kwargs)
        for name, values in heard.items():
            if len(values) != 1:
                times = "not at all" if not values else f"{len(values)} times"
                raise MisreadError(
                    f"The submodule of `{name}` must run once in a call of the module. Name "
                    f"another one. Received: {targets[name].submodule!r}, which ran {times}."
                )
        return output, {name: values[0] for name, values in heard.items()}

    def _read(self, output: Any, heard: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._channels_last(
                heard[name] if where.submodule is not None else _picked(name, output, where.entries)
            )
            for name, where in self._where.items()
        }

    def _channels_last(self, value: Any) -> Any:
        first = self.data_format == CHANNELS_FIRST and value.ndim == 3
        maps = self.data_format != CHANNELS_LAST and value.ndim in (4, 5)
        return value.movedim(1, -1) if first or maps else value

    def _tensors(self, inputs: Any, example: Any) -> Any:
        """Return the inputs as tensors of the kinds of the example, where the module is."""
        import torch

        tensors = [*self.module.parameters(), *self.module.buffers()]
        device = next((t.device for t in tensors if t.device.type != "meta"), None)
        floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        kind = next((t.dtype for t in tensors if t.dtype in floats), torch.float32)

        def tensor(value: Any, like: Any = None) -> Any:
            value = value if _is_tensor(value) else torch.tensor(_array(value))
            if value.is_floating_point() and (like is None or like.is_floating_point()):
                return value.to(device, kind)
            return value.to(device, None if like is None else like.dtype)

        if example is None:
            return keras.tree.map_structure(tensor, inputs)
        return keras.tree.map_structure(tensor, inputs, example)


@contextlib.contextmanager
def in_eval_mode(module: Any) -> Iterator[None]:
    """Let a module and all inside it be in evaluation mode, and then as each of them was.

    The flags are set one by one: `module.eval()` may be overridden, as by layers of LoRA that merge
    their weights there.
    """
    before = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in before:
            part.training = False
        yield
    finally:
        for part, training in before:
            part.training = training


@contextlib.contextmanager
def _listening(module: Any, targets: Mapping[str, Where]) -> Iterator[dict[str, list[Any]]]:
    """Collect what submodules give, by the name of the target."""
    heard: dict[str, list[Any]] = {}
    hooks = []

    def hook_of(name: str, where: Where) -> Any:
        def hook(part: Any, args: Any, output: Any) -> None:
            # A copy: what follows may work in place, as `ReLU(inplace=True)` does.
            heard[name].append(_picked(name, output, where.entries).clone())

        return hook

    try:
        for name, where in targets.items():
            if where.submodule is not None:
                heard[name] = []
                part = module.get_submodule(where.submodule)
                hooks.append(part.register_forward_hook(hook_of(name, where)))
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


class MisreadError(ValueError):
    """Said of an argument, rather than by the module itself."""


def _chosen(
    name: str, path: list[str | int], inside: Where | None, output: Any, modules: dict[str, Any]
) -> Where:
    """Return what is meant: an entry of the output, or a submodule."""
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
        f"output: {_described(output)}. Received: {name}={'/'.join(map(str, path))!r}."
    )


def _default_logits(output: Any) -> Where:
    if _is_tensor(output):
        return Where(None, ())
    if LOGITS in _entries(output):
        return Where(None, (LOGITS,))
    raise ValueError(
        'The module gives several outputs and none of them is named "logits". Say which one holds '
        "the logits, such as `logits=0`; for a model without a classifier, where no loss compares "
        f"logits, name its feature as both. Received output: {_described(output)}."
    )


def _picked(name: str, value: Any, entries: "tuple[str | int, ...]") -> Any:
    whole = value
    for entry in entries:
        try:
            if isinstance(entry, str):
                value = _entries(value)[entry]
            else:
                value = list(value.values() if isinstance(value, Mapping) else value)[entry]
        except (KeyError, IndexError, TypeError):
            raise MisreadError(
                f"`{name}` names no entry of the output. "
                f"Received: {entry!r} of {_described(whole)}."
            ) from None
    if not _is_tensor(value):
        raise MisreadError(
            f"`{name}` must name one tensor. Add the name or the number of an entry behind a "
            f"slash, as in 'hidden_states/-1'. Received: {_described(value)}."
        )
    return value


def _check_output(name: str, value: Any, batch: int) -> None:
    if not value.is_floating_point() or value.ndim < 2 or value.shape[0] != batch:
        raise ValueError(
            f"`{name}` must be a tensor of floats of shape (batch, ...), a row for each sample. "
            f"Received: {value.dtype} of shape {tuple(value.shape)} for a batch of {batch}."
        )


def _check_module(module: Any) -> None:
    import torch

    if not isinstance(module, torch.nn.Module) or isinstance(module, keras.Layer):
        raise ValueError(f"`module` must be a `torch.nn.Module`. Received: {module!r}.")
    lazy = [name for name, value in module.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise ValueError(
            "The module has parameters without values: call it once on a batch, so that they get "
            f"their shapes, and load its weights. Received: {lazy[:5]}."
        )


def _parsed(where: "str | int") -> list[str | int]:
    if isinstance(where, int):
        return [where]
    head, *rest = where.split("/")
    return [head, *(int(part) if part.lstrip("-").isdigit() else part for part in rest)]


def _entries(output: Any) -> dict[str, Any]:
    """Return the named entries of an output: a dict, a `ModelOutput`, a named tuple."""
    if isinstance(output, Mapping):
        return dict(output)
    return output._asdict() if hasattr(output, "_asdict") else {}


def _plain(inputs: Any) -> Any:
    """Return inputs in plain containers: tokenizers give mappings of their own."""
    if isinstance(inputs, Mapping):
        return {name: _plain(value) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return tuple(_plain(value) for value in inputs)
    return inputs


def _structure(inputs: Any) -> str:
    if isinstance(inputs, dict):
        return f"a dict with {sorted(inputs)}"
    return f"{len(inputs)} arguments" if isinstance(inputs, tuple) else "one array"


def _batch_size(example: Any) -> int:
    leaves = keras.tree.flatten(example)
    sizes = {int(leaf.shape[0]) if leaf.ndim else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            "`example` must be one batch of inputs, arrays with as many rows each. "
            f"Received: {_described(example)}."
        )
    return sizes.pop()


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"Inputs of a module of PyTorch must be arrays of numbers. Received: {value!r}."
        )
    return array


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _described(value: Any) -> str:
    """Say what a nested output or input is made of."""
    if isinstance(value, Mapping):
        listed = ", ".join(f"{name!r}: {_described(entry)}" for name, entry in value.items())
        return f"{type(value).__name__} of {listed}"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)} ({', '.join(map(_described, value[:4]))})"
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__
