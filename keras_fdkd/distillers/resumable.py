"""Resumable: distiller files that survive a killed process, and weights without the teacher."""

from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops

from keras_fdkd.distillers.lora_state import ATTRIBUTE, attach, flat_layers, has_lora
from keras_fdkd.distillers.several_processes import SeveralProcesses
from keras_fdkd.files import is_local, written_whole
from keras_fdkd.layers.contrastive_memory import ContrastiveMemory
from keras_fdkd.processes import is_first_process, thrown_away

_SEEDS = "seed_states"
_OF_TEACHERS = f"{ATTRIBUTE}_teachers"


class Resumable(SeveralProcesses):
    """What the distillers write: complete files, and training state without frozen teachers.

    `save` writes everything, the teacher included: the file is self-contained. `save_weights`,
    which `keras.callbacks.ModelCheckpoint(save_weights_only=True)` and
    `keras_fdkd.callbacks.CrashSafeBackup` call, writes what training changes: the student, the
    layers of the losses, the optimizer, the states of random draws, and a fingerprint of the
    teacher instead of its weights. Both write LoRA factors unmerged, see `LoraState`. If several
    processes train together, the first one writes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attach(self, ATTRIBUTE, lambda: self._own_layers(frozen=False))
        attach(self, _OF_TEACHERS, lambda: self._own_layers(frozen=True), trained=False)

    def _inner(self) -> list["Resumable"]:
        """Return the distillers inside this one, which write states of their own."""
        return [layer for layer in self.layers if isinstance(layer, Resumable)]

    def _own_layers(self, frozen: bool) -> list[keras.Layer]:
        """Return the layers of the frozen teachers, or all others."""
        kept, others = [
            {id(layer) for model in models for layer in flat_layers(model)}
            for models in (self._frozen_teachers(), self._inner())
        ]
        return [
            layer
            for layer in flat_layers(self)
            if (id(layer) in kept) is frozen and id(layer) not in others
        ]

    def _left_out(self) -> list[Any]:
        """Return what files of weights leave out: frozen teachers, and their LoRA state."""
        states = [getattr(owner, _OF_TEACHERS) for owner in (self, *self._inner())]
        return [*self._frozen_teachers(), *states]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure training, see `keras.Model.compile`."""
        super().compile(*args, **kwargs)
        self._jit_as_given = kwargs.get("jit_compile", "auto")

    def get_compile_config(self) -> dict[str, Any]:
        """Return what `compile` got, in a form that every backend can load.

        Keras 3.15 would name the optimizer of its PyTorch backend, which the others cannot load,
        and the `jit_compile` that "auto" led to, which PyTorch would take as an explicit choice.
        """
        config = _public(super().get_compile_config())
        return {**config, "jit_compile": self._jit_as_given} if config else config

    def _states(self) -> list[Any]:
        # Teachers do not change; the memory of a process belongs to its own samples.
        memories = (layer for layer in self.modules() if isinstance(layer, ContrastiveMemory))
        kept = {id(v) for owner in (*self._frozen_teachers(), *memories) for v in owner.variables}
        return [variable for variable in super()._states() if id(variable) not in kept]

    def _frozen_teachers(self) -> list[keras.Model]:
        """Return the models whose weights no file needs, because training does not change them."""
        raise NotImplementedError

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Save the distiller with its teacher, see `keras.Model.save`.

        A local `.keras` file is replaced in one step: if the process is killed while it writes, the
        file stays as it was.
        """
        self._build_optimizer()
        if not is_first_process(self):
            return thrown_away(super().save, filepath, **kwargs)
        if not (overwrite and is_local(filepath) and str(filepath).endswith(".keras")):
            return super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)
        with written_whole(filepath) as part:
            super().save(part, zipped=zipped, **kwargs)
        return None

    def save_weights(
        self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None
    ) -> None:
        """Save student, layers of the losses and optimizer, see `keras.Model.save_weights`.

        The weights of a frozen teacher are left out. A single local file is replaced in one step.
        """
        self._build_optimizer()
        if not is_first_process(self):
            thrown_away(self._save_weights, filepath, overwrite=True, max_shard_size=None)
            return
        named = is_local(filepath) and str(filepath).endswith(".weights.h5")
        if overwrite and max_shard_size is None and named:
            with written_whole(filepath) as part:
                self._save_weights(part, True, None)
        else:
            self._save_weights(filepath, overwrite, max_shard_size)

    def _save_weights(self, filepath: Any, overwrite: bool, max_shard_size: float | None) -> None:
        keras.saving.save_weights(
            self, filepath, overwrite, max_shard_size, objects_to_skip=self._left_out()
        )

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load what `save_weights` wrote, see `keras.Model.load_weights`.

        The distiller must have been built with the same teacher, and compiled if training is to
        resume with the state of the optimizer. A `.keras` file from `save` contains its teacher.

        Args:
            filepath: A `.weights.h5` file, the `.weights.json` of a sharded one, or a `.keras`
                file.
            skip_mismatch: Boolean. Accept other shapes, and another teacher. Defaults to `False`.
            **kwargs: See `keras.Model.load_weights`.

        Raises:
            ValueError: If the file was written with another teacher, or does not fit. The distiller
                is then unchanged.
        """
        self._build_optimizer()
        whole = str(filepath).endswith(".keras")
        if not whole:
            kwargs.setdefault("objects_to_skip", self._left_out())
        before = self._values(with_teachers=whole)
        alphas = {layer: layer.lora_alpha for layer in flat_layers(self) if has_lora(layer)}
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
            if not (whole or skip_mismatch):
                self._check_teacher(filepath)
        except BaseException:  # Keras loads what it can before it raises.
            for variable, value in before:
                variable.assign(value)
            for layer, alpha in alphas.items():
                layer.lora_alpha = alpha
            raise
        if any(layer.lora_alpha != alpha for layer, alpha in alphas.items()):
            # A plain number, which compiled steps hold as a constant.
            self.train_function = self.test_function = self.predict_function = None

    def _values(self, with_teachers: bool) -> list[tuple[Any, Any]]:
        """Return the variables that a file may change, with their values."""
        teachers = [] if with_teachers else self._frozen_teachers()
        frozen = {id(v) for teacher in teachers for v in teacher.variables}
        optimizer = getattr(self, "optimizer", None)
        found = [*self.variables, *(optimizer.variables if optimizer is not None else ())]
        return [(v, ops.convert_to_numpy(v).copy()) for v in found if id(v) not in frozen]

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a distiller is only for training. Its student is a plain model, which exports.

        Raises:
            ValueError: Always.
        """
        inner = "distillers[name]." if self._inner() else ""
        raise ValueError(
            "A distiller trains; what serves is its student, a plain Keras model. Call "
            f"`distiller.{inner}student.export(...)`. Received: filepath={str(filepath)!r}."
        )

    def _build_optimizer(self) -> None:
        """Create the optimizer's variables of a compiled distiller before the first step."""
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.trainable_variables)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if seeds := self._seeds():
            store[_SEEDS] = np.stack([ops.convert_to_numpy(seed) for seed in seeds])

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        # Keras refuses a store with more entries than the layer has variables.
        super().load_own_variables({name: store[name] for name in names if name != _SEEDS})
        if _SEEDS in names:
            seeds, values = self._seeds(), np.asarray(store[_SEEDS])
            if len(seeds) != len(values):
                raise ValueError(
                    "The distiller draws at random in another number of layers than the one that "
                    f"was saved. Received: {len(values)} states in the file for {len(seeds)}."
                )
            for seed, value in zip(seeds, values, strict=True):
                seed.assign(value)

    def _seeds(self) -> list[Any]:
        """Return the states of all random draws in training, which Keras leaves out of files."""
        frozen = {id(seed) for teacher in self._frozen_teachers() for seed in _seeds(teacher)}
        return [seed for seed in _seeds(self) if id(seed) not in frozen]

    def _check_teacher(self, filepath: Any) -> None:
        """Raise unless the teacher is the one that the loaded file names."""
        raise NotImplementedError


def _seeds(model: keras.Model) -> list[Any]:
    # By name, because no public attribute lists the generators inside a model.
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _public(config: Any) -> Any:
    """Return a serialized configuration with public names for a backend's optimizers."""
    if isinstance(config, dict):
        config = {name: _public(value) for name, value in config.items()}
        if ".backend." in str(config.get("module")) and hasattr(
            keras.optimizers, str(config.get("class_name"))
        ):
            config["module"] = "keras.optimizers"
            config["registered_name"] = None
    return config
