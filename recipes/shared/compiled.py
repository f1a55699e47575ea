"""Compiled programs that JAX keeps on disk: they are the same in every process of a recipe."""

import os
from pathlib import Path

import keras


def keep_compiled() -> None:
    """Keep what JAX compiles, here and in processes that start from now on."""
    if keras.config.backend() != "jax":
        return
    import jax

    settings = {
        "jax_compilation_cache_dir": str(Path("runs/cache/jax").absolute()),
        # By default a program that compiles within a second is not kept:
        # https://github.com/jax-ml/jax/pull/13039.
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ:  # The user's own settings stay.
            os.environ[name.upper()] = str(value)
            # JAX has read the variables of this process already.
            jax.config.update(name, value)
