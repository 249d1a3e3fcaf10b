"""Command-line options, generated from the table of settings.

Only code of the command line imports this module: it needs click, which clients do not have.
"""

from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from typing import Any

import click

from bertq.config.settings import Settings, variable
from bertq.errors import SettingsError


def settings_options(option_class: Callable[..., click.Option], **more: Any) -> list[click.Option]:
    """Return an option for each setting; the command line checks each value.

    Args:
        option_class: class of the options.
        more: further arguments of the class.
    """
    return [
        option_class(
            help=f"{spec.metadata['help']} [{variable(spec.name)}{_default(spec.default)}]",
            callback=_check,
            **_declaration(spec),
            **more,
        )
        for spec in fields(Settings)
    ]


#: Options of bert-as-service that are not settings here, with one dash before the name.
_BERT_AS_SERVICE_OPTIONS = {
    "cased_tokenization", "cors", "cpu", "device_map", "fixed_embed_length", "fp16",
    "graph_tmp_dir", "http_max_connect", "http_port", "num_worker", "port", "port_out",
    "prefetch_size", "verbose", "xla",
}  # fmt: skip


def refuse_old_spelling(arguments: Iterable[str]) -> None:
    """Refuse options in the spelling of bert-as-service, with one dash.

    The ``celery`` command would read ``-fp16`` as ``-f p16``, a log file, and run in float32.

    Raises:
        SettingsError: an argument has this spelling.
    """
    names = _BERT_AS_SERVICE_OPTIONS | {spec.name for spec in fields(Settings)}
    for argument in arguments:
        name = argument.removeprefix("-").partition("=")[0]
        if argument.startswith("-") and name in names:
            raise SettingsError(
                f"-{name} is an option of bert-as-service: options have two dashes here, and - "
                f"instead of _: --{name.replace('_', '-')}"
            )


def _declaration(spec: "Field[Any]") -> dict[str, Any]:
    if names := spec.metadata.get("names"):
        # None means that the option was not given, and the variable decides.
        return {"param_decls": [spec.name, *names], "is_flag": True, "default": None}
    return {"param_decls": [spec.metadata["option"]], "metavar": spec.metadata["metavar"]}


def _default(value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        value = "on"
    elif isinstance(value, tuple):
        value = ",".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"; default {value}"


def _check(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse an invalid value; the worker parses the text again."""
    if value is not None:
        try:
            Settings.read({}, {str(parameter.name): value})
        except SettingsError as error:
            raise click.BadParameter(str(error)) from None
    return value
