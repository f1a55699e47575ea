"""The frozen forward pass of the teacher: the only backend-aware code of the package."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras


def teacher_pass(
    forward: Callable[..., Any], inputs: Any, variables: list, values: list | None
) -> Any:
    """Run `forward(inputs, training=False)` without gradient and without effect on any state.

    Args:
        forward: The teacher.
        inputs: The teacher's inputs.
        variables: Non-trainable variables of the model in training, the teacher's among them.
        values: Their values inside a JAX step, in the same order; `None` on other backends.

    Returns:
        What `forward` returns.
    """
    with _no_gradient(variables, values):
        outputs = forward(inputs, training=False)
    distribution = None if values is None else keras.distribution.distribution()
    if distribution is None:
        return outputs
    # Of a teacher that is laid out over several devices; JAX cannot transform a feature that is.
    return keras.tree.map_structure(
        lambda output: keras.distribution.distribute_tensor(
            output, distribution.get_data_layout(output.shape)
        ),
        outputs,
    )


@contextlib.contextmanager
def _no_gradient(variables: list, values: list | None) -> Iterator[None]:
    if values is not None:
        # JAX: state is an argument of the step; what the scope would update is dropped.
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            yield
    elif keras.config.backend() == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield  # TensorFlow: the gradient tape opens later.
