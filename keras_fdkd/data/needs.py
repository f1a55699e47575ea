"""Needs: what data must hold of each teacher. It holds no model, so workers may have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Needs:
    """What is read of the teachers, and which of them are recorded.

    Args:
        outputs: Names in `"teacher_outputs"` by the name of the teacher; `None` names a single one.
        recorded: Names of the teachers that are known by their outputs only.
        is_trained: Whether the teacher is trained too.

    Example:
    >>> needs = Needs({"video": {"video:features"}, "text": {"text:logits"}}, {"text"})
    >>> needs.form()
    '{"teacher": {"video": ...}, "teacher_outputs": {"text:logits": ...}, "student": ...}'
    """

    outputs: Mapping[str | None, frozenset[str]]
    recorded: frozenset[str | None] = frozenset()
    is_trained: bool = False

    @property
    def has_names(self) -> bool:
        """Whether there are several teachers, by name."""
        return None not in self.outputs

    def sides(self) -> list[list[str]]:
        """Return the keys that data may have, sorted, as far as these depend on the teachers."""
        live = [["student", "teacher"]] if not self.recorded else []
        whole = [["student", "teacher_outputs"]]
        # Both stand in the data if some teachers run and others have run before.
        mixed = [["student", "teacher", "teacher_outputs"]] if self.has_names else []
        return live + whole + mixed

    def form(self) -> str:
        """Return what data look like, for messages."""
        live = [name for name in self.outputs if name not in self.recorded]
        inputs = "..."
        if self.has_names:
            inputs = "{" + ", ".join(f'"{name}": ...' for name in live) + "}"
        names = sorted(set().union(*(self.outputs[name] for name in self.recorded)))
        outputs = "{" + ", ".join(f'"{name}": ...' for name in names) + "}"
        parts = [f'"teacher": {inputs}'] if live else []
        parts += [f'"teacher_outputs": {outputs}'] if self.recorded else []
        return "{" + ", ".join([*parts, '"student": ...']) + "}"

    def check_weight(self, x: Mapping[str, Any]) -> None:
        """Raise if samples have no teacher although the teacher is trained too."""
        if self.is_trained and "teacher_weight" in x:
            raise ValueError(
                "This distiller trains the teacher, so each sample must have both modalities. "
                'Leave out samples without the teacher\'s. Received: "teacher_weight".'
            )

    def check_inputs(self, inputs: Any) -> None:
        """Raise unless the inputs are for teachers that run, by name if there are several."""
        if not self.has_names:
            return
        live = sorted(str(name) for name in self.outputs if name not in self.recorded)
        if not isinstance(inputs, Mapping) or not set(inputs) <= set(live):
            came = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(
                f'"teacher" must be a dict with the inputs of the teachers {live} by name. '
                f"Received: {came}."
            )

    def check_outputs(self, outputs: Any, inputs: Any) -> None:
        """Raise unless the outputs are there of all teachers whose inputs are not."""
        run = set(inputs or ()) if self.has_names else set()
        wanted = set().union(*(names for name, names in self.outputs.items() if name not in run))
        came = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        if isinstance(came, str) or wanted - set(came):
            raise ValueError(
                f'"teacher_outputs" must be a dict with {sorted(wanted)}, which the '
                f"distiller reads. Received: {came}."
            )
        twice = sorted(set().union(*(self.outputs[name] for name in run)) & set(came))
        if twice:
            raise ValueError(
                'A teacher has its inputs in "teacher" or its outputs in "teacher_outputs", not '
                f"both. Received both for {twice}."
            )
