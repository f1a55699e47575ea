"""TorchReader: features and logits of a PyTorch module, which stays unchanged."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_fdkd.arguments import check_choice
from keras_fdkd.torch_inputs import batch_size, described, is_tensor, plain, structure, to_tensors
from keras_fdkd.torch_outputs import (
    FEATURES,
    LOGITS,
    MisreadError,
    Where,
    check_output,
    chosen,
    default_logits,
    parsed,
    picked,
)

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


class TorchReader:
    """Runs a module in evaluation mode, without gradients, and reads features and logits.

    It needs PyTorch, on any Keras backend. See `keras_fdkd.from_torch` for what the arguments mean.

    Args:
        module: `torch.nn.Module`.
        example: One batch of its inputs.
        features: Where to read the feature, `None` for no feature.
        logits: Where to read the logits.
        data_format: The order of the axes of outputs.

    Attributes:
        example: The inputs as tensors.
        shapes: The shape of one sample of each output, by name.
        dtypes: The `torch.dtype` of each output.
        words: What is read, in a form for configurations.

    Raises:
        ValueError: If the module cannot run on `example`, or does not return what is asked for.
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
            named = isinstance(where, (str, int)) and not isinstance(where, bool) and where != ""
            if where is not None and not named:
                raise ValueError(
                    f"`{name}` must be the path of a submodule, the name or the number of an entry "
                    f"of the output, or `None`. Received: {name}={where!r}."
                )
        _check_module(module)
        self.module, self.data_format = module, data_format
        self.words = [features, logits, data_format]
        self.example = to_tensors(plain(example), module)
        batch = batch_size(self.example)
        asked = {name: parsed(where) for name, where in ((FEATURES, features), (LOGITS, logits))
                 if where is not None}  # fmt: skip
        modules = dict(module.named_modules())
        inside = {name: Where(str(head), tuple(rest)) for name, (head, *rest) in asked.items()
                  if isinstance(head, str) and head in modules}  # fmt: skip
        try:
            # Only a run tells which names are entries of the output, so submodules are heard too.
            output, heard = self._run(self.example, inside)
        except Exception as error:
            if isinstance(error, MisreadError):
                raise ValueError(str(error)) from None
            raise ValueError(
                "The module could not run on `example`. Pass one batch as the module takes it: an "
                "array for its one argument, a tuple for several, a dict for keyword arguments; "
                f"images usually with the channels first. Received: {described(example)}, and "
                f"{type(error).__name__}: {error}"
            ) from error
        self._where = {
            name: chosen(name, path, inside.get(name), output, modules)
            for name, path in asked.items()
        }
        if logits is None:
            self._where[LOGITS] = default_logits(output)
        found = self._read(output, heard)
        for name, value in found.items():
            check_output(name, value, batch)
        self.shapes = {name: tuple(value.shape[1:]) for name, value in found.items()}
        self.dtypes = {name: value.dtype for name, value in found.items()}

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Return the outputs by name, on the device of the inputs, shape `(batch, ...)`."""
        inputs = plain(inputs)
        if (came := structure(inputs)) != (wanted := structure(self.example)):
            raise ValueError(
                "The inputs of a module of PyTorch must be built like the first batch it saw: "
                f"{wanted}. Received: {came}."
            )
        first = keras.tree.flatten(inputs)[0]
        tensors = to_tensors(inputs, self.module, self.example)
        output, heard = self._run(tensors, self._where)
        found = self._read(output, heard)
        if is_tensor(first):
            found = {name: value.to(first.device) for name, value in found.items()}
        return found

    def state(self) -> dict[str, Any]:
        """Return the tensors that the module computes with, by name: parameters and buffers."""
        # Not `state_dict`, which leaves out buffers that are not persistent.
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def _run(self, tensors: Any, targets: Mapping[str, Where]) -> tuple[Any, dict[str, Any]]:
        """Return the module's output and those of submodules, by the name of the target."""
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
                heard[name] if where.submodule is not None else picked(name, output, where.entries)
            )
            for name, where in self._where.items()
        }

    def _channels_last(self, value: Any) -> Any:
        first = self.data_format == CHANNELS_FIRST and value.ndim == 3
        maps = self.data_format != CHANNELS_LAST and value.ndim in (4, 5)
        return value.movedim(1, -1) if first or maps else value


@contextlib.contextmanager
def in_eval_mode(module: Any) -> Iterator[None]:
    """Put a module and everything inside it in evaluation mode, and afterwards restore each part.

    The flags are set one by one: `module.eval()` may be overridden, as in LoRA layers that merge
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
    """Collect the outputs of submodules, by the name of the target."""
    heard: dict[str, list[Any]] = {}
    hooks = []

    def hook_of(name: str, where: Where) -> Any:
        def hook(part: Any, args: Any, output: Any) -> None:
            # A copy: later modules may work in place, as `ReLU(inplace=True)` does.
            heard[name].append(picked(name, output, where.entries).clone())

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


def _check_module(module: Any) -> None:
    import torch

    # On PyTorch's backend the layers of Keras are modules too.
    if not isinstance(module, torch.nn.Module) or isinstance(module, keras.Layer):
        raise ValueError(f"`module` must be a `torch.nn.Module`. Received: {module!r}.")
    lazy = [name for name, value in module.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise ValueError(
            "The module has parameters without values: call it once on a batch, so that they get "
            f"their shapes, and load its weights. Received: {lazy[:5]}."
        )
