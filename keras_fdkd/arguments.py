"""Checks of single arguments, with messages of the same form."""

import math
from collections.abc import Collection
from typing import Any

import keras

_LARGEST = 2**31 - 1  # The largest size, index and seed that backends take.


def is_number(value: Any) -> bool:
    """Whether `value` is a finite Python number and not a boolean.

    Example:
    >>> [is_number(value) for value in (1, 0.5, True, float("nan"), "1", 10**400)]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer too large for a float.
        return False


def check_number(name: str, value: Any, *, above: bool = False) -> None:
    """Raise unless `value` is a finite number >= 0, or > 0 if it must be above."""
    if not is_number(value) or value < 0 or (above and value == 0):
        raise ValueError(
            f"`{name}` must be a finite number {'>' if above else '>='} 0. "
            f"Received: {name}={value!r}."
        )


def is_integer(value: Any, minimum: int = -_LARGEST) -> bool:
    """Whether `value` is a Python integer, at least `minimum`, that the backends can take."""
    # By type, because a boolean is an instance of `int` too.
    return type(value) is int and minimum <= value <= _LARGEST


def check_integer(name: str, value: Any, minimum: int = 1, *, optional: bool = False) -> None:
    """Raise unless `value` is an integer of at least `minimum`, or `None` if it is optional.

    Example:
    >>> check_integer("units", 2.0)
    Traceback (most recent call last):
    ...
    ValueError: `units` must be a positive integer, below 2**31. Received: units=2.0.
    """
    if is_integer(value, minimum) or (optional and value is None):
        return
    wanted = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
    raise ValueError(
        f"`{name}` must be {wanted}{' or `None`' if optional else ''}, below 2**31. "
        f"Received: {name}={value!r}."
    )


def check_axis(value: Any) -> None:
    """Raise unless `value` is an integer other than the batch axis, or up to three of them.

    Example:
    >>> check_axis(-1), check_axis((1, 2))
    (None, None)
    >>> check_axis((0, 1))
    Traceback (most recent call last):
    ...
    ValueError: `axis` must be an integer that is not the batch axis 0, or a tuple of up to three
    different ones. Received: axis=(0, 1).
    """
    axes = value if isinstance(value, (list, tuple)) else (value,)
    integers = all(is_integer(axis) and axis != 0 for axis in axes)
    if not integers or not 1 <= len(axes) <= 3 or len(set(axes)) < len(axes):
        raise ValueError(
            "`axis` must be an integer that is not the batch axis 0, or a tuple of up to three "
            f"different ones. Received: axis={value!r}."
        )


def check_boolean(name: str, value: Any) -> None:
    """Raise unless `value` is `True` or `False`."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be `True` or `False`. Received: {name}={value!r}.")


def check_name(name: str, value: Any) -> None:
    """Raise unless `value` is a non-empty string."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{name}` must be a non-empty string. Received: {name}={value!r}.")


def check_choice(
    name: str, value: Any, choices: Collection[str], *, optional: bool = False
) -> None:
    """Raise unless `value` is one of the strings, or `None` if it is optional."""
    chosen = isinstance(value, str) and value in choices
    if not chosen and not (optional and value is None):
        raise ValueError(
            f"`{name}` must be one of {tuple(choices)}{' or `None`' if optional else ''}. "
            f"Received: {name}={value!r}."
        )


def check_float_dtype(value: Any) -> None:
    """Raise unless `value` is a dtype or Keras policy that computes in floats, or `None`."""
    if value is None:
        return
    try:
        floating = "float" in keras.dtype_policies.get(value).compute_dtype
    except (ValueError, TypeError, AttributeError):
        floating = False
    if not floating:
        raise ValueError(
            "`dtype` must be a float dtype such as 'float32', a `keras.DTypePolicy`, or `None`. "
            f"Received: dtype={value!r}."
        )
