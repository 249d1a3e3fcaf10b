"""Whole numbers as arguments: ints of Python, and of NumPy and other libraries."""

from numbers import Integral
from typing import Any

from bertq.errors import BadInputType, BadInputValue


def as_int(value: Any) -> int | None:
    """Return a whole number as an int; None for any other value, such as True, 2.0 or "2"."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return None


def check_count(name: str, value: Any) -> int:
    """Return an argument that is a count; ``name`` is its name.

    Raises:
        BadInputType: it is not a whole number.
        BadInputValue: it is not above zero.
    """
    count = as_int(value)
    if count is None:
        raise BadInputType(f"{name} must be a whole number, not a {type(value).__name__}")
    if count < 1:
        raise BadInputValue(f"{name} is {count}: it must be a whole number above zero")
    return count
