"""The type of options that are a time in seconds."""

import math
from typing import Any

import click


class Seconds(click.FloatRange):
    """A number of seconds above zero; NaN and infinity are refused.

    Args:
        maximum: the largest number that is accepted.
    """

    def __init__(self, maximum: float | None = None) -> None:
        super().__init__(0, maximum, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number of an option's text."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number of seconds.", param, ctx)
        return seconds
