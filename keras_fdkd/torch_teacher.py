"""from_torch: a PyTorch module as a teacher."""

import contextlib
import contextvars
import io
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_fdkd.arguments import check_name
from keras_fdkd.torch_outputs import FEATURES, LOGITS
from keras_fdkd.torch_reading import TorchReader

_MASK = "attention_mask"  # as Hugging Face calls it
_DESCRIBED: contextvars.ContextVar[bool] = contextvars.ContextVar("described", default=False)


def from_torch(
    module: Any,
    example: Any,
    features: "str | int | None" = None,
    logits: "str | int | None" = None,
    data_format: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Return a PyTorch module, or a Hugging Face model, as a teacher.

    Use it to distil from a PyTorch teacher with Keras's PyTorch backend. For the other backends
    there is `keras_fdkd.data.record_teacher`, which runs a module once and saves its outputs.

    The returned model gives distillers what they read. It runs the module on its own device, always
    in evaluation mode and without gradients, and leaves it unchanged: its mode, its statistics, its
    `requires_grad`. Nothing trains it. Set the module's weights, device and dtype before you call
    this.

    Args:
        module: `torch.nn.Module` whose output is a tensor, a tuple, a dict or a `ModelOutput`.
        example: One batch of inputs as the module takes them, from which shapes are found: an array
            for a single argument, a tuple for several, a dict for keyword arguments. The teacher's
            data must have the same structure. Floats are cast to the dtype of the module's
            parameters, integers to that of `example`.
        features: Where to read the feature: the path of a submodule (`"layer4.1"`), whose output is
            the feature, or an entry of the module's output, by name or number (`"pooler_output"`,
            `1`). An entry inside follows a slash: `"hidden_states/-1"`, `"lstm/0"`. Defaults to
            `None`: no feature.
        logits: The same for the logits. Defaults to `None`: the output, or its entry `"logits"`.
        data_format: `"channels_first"` if features and logits are laid out
            `(batch, channels, ...)`, `"channels_last"` if they are not; the model returns channels
            last. Defaults to `None`: tensors of four or five axes have their channels first, as the
            convolutions of PyTorch return them, and tensors of three axes,
            `(batch, positions, channels)`, have not.
        name: Name of the model. Defaults to `None`: chosen by Keras.

    Returns:
        A built `keras.Model` whose output is a dict of `"features"` and `"logits"`, or the logits
        only. Its weights are the module's parameters and buffers themselves, none trainable. If the
        inputs are a dict with an `"attention_mask"`, sequences of that length carry it as their
        Keras mask. The model cannot be saved, because a module is code: save `distiller.student`,
        or the distiller's weights.

    Raises:
        ValueError: If the backend is not PyTorch, an argument is not as described, the module
            cannot run on `example`, or it does not return what is asked for. In use, if inputs are
            not built like `example` or the module was given other parameters.

    Example:
    >>> if keras.config.backend() == "torch":
    ...     import torch
    ...     body, head = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
    ...     module = torch.nn.Sequential(body, torch.nn.ReLU(), head)
    ...     teacher = from_torch(module, torch.ones(2, 6), features="1")
    ...     outputs = teacher(torch.ones(5, 6))
    ...     assert outputs["features"].shape == (5, 8) and outputs["logits"].shape == (5, 3)
    """
    if (backend := keras.config.backend()) != "torch":
        raise ValueError(
            "`from_torch` runs a module inside of Keras, which only the PyTorch backend can do. "
            "Run the module once and save its outputs: "
            "`keras_fdkd.data.record_teacher(module, batches, folder)`. "
            f"Received: the backend {backend!r}."
        )
    if name is not None:
        check_name("name", name)
    return TorchTeacher(TorchReader(module, example, features, logits, data_format), name=name)


class TorchTeacher(keras.Model):
    """The model that `from_torch` returns.

    Args:
        reader: Reader of the module.
        **kwargs: See `keras.Model`.
    """

    # Not a `TorchModuleWrapper`, which moves the module, sets its mode and pickles it.
    def __init__(self, reader: TorchReader, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # The reader casts.
        self._reader = reader
        self._parameters_then = tuple(map(id, reader.module.parameters()))
        self._state = [_variable(name, value) for name, value in reader.state().items()]
        if (unseen := _unseen(reader)) is not None:
            self._state.append(_variable("unseen", unseen))
        self.build(keras.tree.map_structure(lambda value: (None, *value.shape[1:]), reader.example))

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return features and logits; `training` changes nothing."""
        if self._parameters_then != tuple(map(id, self._reader.module.parameters())):
            raise ValueError(
                f"The module of teacher '{self.name}' got other parameters than it had. Call "
                "`from_torch` again, after all changes to it."
            )
        first = keras.tree.flatten(inputs)[0]
        found = self._symbolic(first) if _is_symbolic(first) else self._reader(inputs)
        return found if FEATURES in found else found[LOGITS]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return the mask of sequences as long as the `"attention_mask"` among the inputs."""
        if not isinstance(self._reader.example, dict) or _MASK not in self._reader.example:
            return None
        mask = self._reader.example[_MASK]
        # A mask of pairs of positions does not tell which of them are padding.
        if mask.ndim != 2:
            return None
        masks = {
            name: ops.not_equal(inputs[_MASK], 0)
            if len(shape) == 2 and shape[0] == mask.shape[1]
            else None
            for name, shape in self._reader.shapes.items()
        }
        return masks if FEATURES in masks else masks[LOGITS]

    def get_config(self) -> dict[str, Any]:
        module = self._reader.module
        if _DESCRIBED.get():
            config = getattr(module, "config", None)  # of Hugging Face
            more = str(config.to_dict()) if config and hasattr(config, "to_dict") else ""
            return {"name": self.name, "module": f"{module!r}{more}", "reads": self._reader.words}
        raise ValueError(
            f"The teacher '{self.name}' is a module of PyTorch ({type(module).__name__}), which is "
            "code that Keras cannot save. Save what was trained, `distiller.student.save(...)`, or "
            "`distiller.save_weights(...)` to continue later with the same teacher."
        )

    def _symbolic(self, first: Any) -> dict[str, Any]:
        """Return tensors without values, as Keras asks for when it derives shapes."""
        import torch

        return {
            name: torch.empty(
                (first.shape[0], *shape), dtype=self._reader.dtypes[name], device="meta"
            )
            for name, shape in self._reader.shapes.items()
        }


@contextlib.contextmanager
def described() -> Iterator[None]:
    """Let PyTorch teachers describe themselves in configurations, although they cannot be saved."""
    token = _DESCRIBED.set(True)
    try:
        yield
    finally:
        _DESCRIBED.reset(token)


def _variable(name: str, value: Any) -> keras.Variable:
    """Return a variable on a tensor's own memory, so that fingerprints see it change."""
    import torch

    if not isinstance(value, torch.nn.Parameter):
        value = torch.nn.Parameter(value, requires_grad=False)
    name = name.replace(".", "-")  # PyTorch allows no dots.
    try:
        return keras.Variable(value, trainable=False, name=name)
    except ValueError:  # a dtype that Keras does not know
        raw = value.detach().view(torch.uint8)
        raw = torch.nn.Parameter(raw, requires_grad=False)
        return keras.Variable(raw, trainable=False, name=name)


def _unseen(reader: TorchReader) -> Any:
    """Return what else the module would save, such as packed weights of quantized layers."""
    import torch

    known = reader.state()
    state = reader.module.state_dict(keep_vars=True)
    rest = {name: value for name, value in state.items() if name not in known}
    # Tensors that remain are other names of weights that are known, as of tied embeddings.
    if not any(not isinstance(value, torch.Tensor) for value in rest.values()):
        return None
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _is_symbolic(tensor: Any) -> bool:
    # Keras derives shapes on PyTorch's `meta` device.
    return getattr(getattr(tensor, "device", None), "type", None) == "meta"
