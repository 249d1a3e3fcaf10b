"""Command-line options made from the table of settings."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from bertq.errors import SettingsError
from bertq.settings import Settings, variable


def settings_options(make: Callable[..., click.Option], **more: Any) -> list[click.Option]:
    """Return an option for each setting, checked where the user typed it.

    Args:
        make: the class of the options.
        more: further arguments of it.
    """
    return [
        make(
            [spec.metadata["option"]],
            help=f"{spec.metadata['help']} [{variable(spec.name)}{_default(spec.default)}]",
            metavar=spec.metadata["metavar"],
            callback=_check,
            **more,
        )
        for spec in fields(Settings)
    ]


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"; default {value}"


def _check(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a wrong value; the worker parses the text again."""
    if value is not None:
        try:
            Settings.read({}, {str(parameter.name): value})
        except SettingsError as error:
            raise click.BadParameter(str(error)) from None
    return value
