"""Method: one way to distil, and the settings that tuning may try."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

Setting = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One way to train a student with a teacher, and the settings that tuning may try.

    For a method of your own in a `Study`, or a known one with other settings. If there are no more
    trials than `candidates`, a study tries the candidates in their order, so without tuning
    (`trials=1`) the first one is used. Further trials search `space`.

    Args:
        make: Function `(teacher, student, **setting) -> distiller`. If it has a parameter `samples`
            or `steps`, it gets the number of training samples or training steps.
        candidates: Settings; the first is the default. Defaults to `({},)`: nothing to choose.
        space: `optuna.distributions` by argument, in which further trials search. Defaults to no
            search.
        title: Name in tables and pictures. Defaults to `""`: its name in the study.
        when: When to try it, in a sentence. Defaults to `""`.
        source: Where the method was published. Defaults to `""`.
        changes_teacher: Whether training changes the teacher, so that its outputs cannot be
            computed once in advance. Defaults to `False`.

    Raises:
        ValueError: If `make` is not a function, there is no candidate, or `space` is not as
            described.

    Example:
    >>> from keras_fdkd import CrossModalDistiller
    >>> from keras_fdkd.losses import KD
    >>> def warm(teacher, student, temperature):
    ...     losses = [KD(temperature=temperature)]
    ...     return CrossModalDistiller(teacher, student, losses=losses)
    >>> method = Method(warm, candidates=({"temperature": 4.0}, {"temperature": 8.0}))
    >>> method.default
    {'temperature': 4.0}
    """

    make: Callable[..., Any]
    candidates: tuple[Setting, ...] = ({},)
    space: Mapping[str, BaseDistribution] = field(default_factory=dict)
    title: str = ""
    when: str = ""
    source: str = ""
    changes_teacher: bool = False

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise ValueError(
                "`make` must be a function `(teacher, student, **setting) -> distiller`. "
                f"Received: make={self.make!r}."
            )
        fine = isinstance(self.candidates, (list, tuple)) and all(
            isinstance(candidate, Mapping) for candidate in self.candidates
        )
        if not fine or not self.candidates:
            raise ValueError(
                "`candidates` must be a tuple of dicts, at least one. "
                f"Received: candidates={self.candidates!r}."
            )
        try:
            json.dumps(self.candidates)
        except TypeError as error:
            raise ValueError(
                "`candidates` are written to files, so they must hold numbers, strings, lists, "
                f"dicts and `None`. Received: candidates={self.candidates!r}."
            ) from error
        for name, distribution in self.space.items():
            if not isinstance(distribution, BaseDistribution):
                raise ValueError(
                    "`space` must be a dict of `optuna.distributions` by argument. "
                    f"Received: {name}={distribution!r}."
                )

    @property
    def default(self) -> Setting:
        """The first candidate."""
        return dict(self.candidates[0])
