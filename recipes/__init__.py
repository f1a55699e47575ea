"""Runnable experiments on real data: `python -m recipes.NAME`."""

import os

# A default for all of them; KERAS_BACKEND chooses another.
os.environ.setdefault("KERAS_BACKEND", "jax")
