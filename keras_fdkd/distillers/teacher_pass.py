"""The frozen forward pass of the teacher: the only backend-aware code of a step."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops


def teacher_pass(
    forward: Callable[..., Any],
    inputs: Any,
    variables: list,
    values: list | None,
    seeds: Sequence[Any] = (),
    step: Any = None,
) -> Any:
    """Run `forward(inputs, training=False)` without gradients and without changing any state.

    Args:
        forward: The teacher.
        inputs: The teacher's inputs.
        variables: Non-trainable variables of the trained model, the teacher's among them.
        values: Their values inside a JAX step, in the same order; `None` on other backends.
        seeds: Those variables that are states of the teacher's random draws.
        step: Number of the training step, so that a teacher that draws at random in inference draws
            differently in each step; `None` repeats the same draws.

    Returns:
        What `forward` returns.
    """
    with _no_effect(variables, values, seeds, step):
        outputs = forward(inputs, training=False)
    distribution = None if values is None else keras.distribution.distribution()
    if distribution is None:
        return outputs
    # For a teacher laid out over several devices: JAX cannot transform features laid out like it.
    return keras.tree.map_structure(
        lambda output: keras.distribution.distribute_tensor(
            output, distribution.get_data_layout(output.shape)
        ),
        outputs,
    )


@contextlib.contextmanager
def _no_effect(
    variables: list, values: list | None, seeds: Sequence[Any], step: Any
) -> Iterator[None]:
    # Whatever is assigned inside the scope (counters, states of draws) is discarded with it.
    mapping = [] if values is None else list(zip(variables, values, strict=True))
    if seeds and step is not None:
        known = {id(variable): value for variable, value in mapping}
        for seed in seeds:
            state = known.get(id(seed))
            if state is None:  # Inside a JAX step the variable itself holds no value.
                state = seed.value
            # The state is (seed, number of draws): the step moves the seed.
            first = ops.convert_to_tensor([1, 0], dtype=state.dtype)
            moved = state + first * ops.cast(step, state.dtype)
            mapping.append((seed, moved))
    with contextlib.ExitStack() as stack:
        stack.enter_context(keras.StatelessScope(state_mapping=mapping))
        if keras.config.backend() == "torch":
            import torch

            stack.enter_context(torch.no_grad())
        yield  # On TensorFlow, the gradient tape opens later.
