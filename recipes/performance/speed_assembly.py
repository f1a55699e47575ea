"""The cost of the terms alone, forward and backward, without the models around them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fdkd import FrequencyDistiller
from keras_fdkd.losses import FrequencyDistillation
from recipes.performance.speed_models import CLASSES

SIZE, BATCH = 512, 64
SIZES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PRIMES = (127, 509, 2039, 16381)  # each next to a power of two
BATCHES = (8, 32, 64, 128, 256, 512, 1024)
TAPS = (1, 2, 4, 8)


def measure_assembly(size: int = SIZE, batch: int = BATCH, taps: int = 1) -> list[float]:
    """Return the seconds of repeated runs: both bands, standardized, and four cross-entropies.

    Args:
        size: Of the features.
        batch: Samples.
        taps: Pairs of features; the first has classifiers, the others are `FrequencyDistillation`.
    """
    run = _assembly(size, batch, taps)
    for _ in range(10):
        run()
    seconds: list[float] = []
    while len(seconds) < 20 or (len(seconds) < 200 and sum(seconds) < 2):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_growth() -> dict[str, dict[int, float]]:
    """Return median seconds against feature size, batch size and number of tapped layers."""
    return {
        "feature size": {n: float(np.median(measure_assembly(size=n))) for n in SIZES + PRIMES},
        "batch size": {n: float(np.median(measure_assembly(batch=n))) for n in BATCHES},
        "tapped layers": {n: float(np.median(measure_assembly(taps=n))) for n in TAPS},
    }


def _assembly(size: int, batch: int, taps: int) -> Callable[[], None]:
    def model() -> keras.Model:
        inputs = keras.Input((size,))
        feature = keras.layers.Identity(name="feature")(inputs)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(feature))

    distiller = FrequencyDistiller(
        model(), model(), teacher_features="feature", student_features="feature"
    )
    distiller.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    more = [FrequencyDistillation() for _ in range(taps - 1)]
    heads = [v for head in distiller.align_heads.values() for v in head.trainable_variables]
    rng = np.random.default_rng(0)
    teachers, students = rng.normal(size=(2, taps, batch, size)).astype("float32")
    y = rng.integers(CLASSES, size=batch)

    def loss(students: Sequence[Any], teachers: Sequence[Any], y: Any) -> Any:
        sides = {"features": teachers[0]}, {"features": students[0]}
        terms, _ = distiller.terms(distiller.compare(*sides, training=True), y, None)
        total = sum(weight * value for weight, value in terms.values())
        for term, teacher, student in zip(more, teachers[1:], students[1:], strict=True):
            total = total + term.compute_loss(teacher, student)
        return total

    return _GRADIENTS[keras.config.backend()](loss, heads, list(students), list(teachers), y)


def _in_jax(loss: Any, heads: list, students: list, teachers: list, y: Any) -> Callable[[], None]:
    import jax

    def stateless(values: list, students: list, teachers: list, y: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(heads, values, strict=True))):
            return loss(students, teachers, y)

    step = jax.jit(jax.value_and_grad(stateless, argnums=(0, 1)))
    arguments = jax.device_put(([head.value for head in heads], students, teachers, y))
    return lambda: jax.block_until_ready(step(*arguments))


def _in_tensorflow(
    loss: Any, heads: list, students: list, teachers: list, y: Any
) -> Callable[[], None]:
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def step(students: list, teachers: list, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(students)
            value = loss(students, teachers, y)
        return tape.gradient(value, [students, [head.value for head in heads]])

    arguments = keras.tree.map_structure(tf.constant, (students, teachers, y))
    return lambda: keras.tree.map_structure(lambda value: value.numpy(), step(*arguments))


def _in_torch(loss: Any, heads: list, students: list, teachers: list, y: Any) -> Callable[[], None]:
    import torch

    students, teachers = ([ops.convert_to_tensor(x) for x in side] for side in (students, teachers))
    for student in students:
        student.requires_grad_()
    y = ops.convert_to_tensor(y)
    wanted = [*students, *(head.value for head in heads)]
    return lambda: torch.autograd.grad(loss(students, teachers, y), wanted)


_GRADIENTS = {"jax": _in_jax, "tensorflow": _in_tensorflow, "torch": _in_torch}
