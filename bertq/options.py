"""The worker's command-line options, made from the table of settings."""

from dataclasses import fields
from typing import Any

import click
from celery.bin.base import CeleryOption

from bertq.errors import SettingsError
from bertq.settings import Settings


def worker_options() -> list[click.Option]:
    """Return an option of ``celery -A bertq worker`` for each setting."""
    return [
        CeleryOption(
            [spec.metadata["option"]],
            help=f"{spec.metadata['help']} [BERTQ_{spec.name.upper()}{_default(spec.default)}]",
            metavar=spec.metadata["metavar"],
            help_group="bertq Options",
            callback=_check,
        )
        for spec in fields(Settings)
    ]


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"; default {value}"


def _check(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a wrong value where the user typed it; the worker parses the text again."""
    if value is not None:
        try:
            Settings.read({}, {str(parameter.name): value})
        except SettingsError as error:
            raise click.BadParameter(str(error)) from None
    return value
