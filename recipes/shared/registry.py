"""The experiments by name."""

import functools
import importlib

from recipes.shared.experiment import Experiment

EXPERIMENTS = ("watch", "emoji", "digits")


@functools.cache
def load_experiment(name: str) -> Experiment:
    """Return an experiment; its data are read once a process."""
    return importlib.import_module(f"recipes.{name}.experiment").experiment()
