"""``compose/compose.yaml`` as ``docker compose`` would read it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[2] / "compose"
FILE = DIRECTORY / "compose.yaml"

_VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}|\$\$")


class Missing(Exception):
    """A variable must be set."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Fill in ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``; ``$$`` is a dollar."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if name is None:
            return "$"
        given = variables.get(name, "")
        if not given and kind == ":?":
            raise Missing(f"{name}: {rest}")
        return given or (rest if kind == ":-" else "")

    return _VARIABLE.sub(value, text)


def names(text: str) -> set[str]:
    """The variables that a text has."""
    return {match[1] for match in _VARIABLE.finditer(text) if match[1]}


def example() -> dict[str, str]:
    """The variables of ``.env.example``, as they stand there."""
    lines = (DIRECTORY / ".env.example").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value for name, value in pairs}  # noqa: C416 - pairs are lists


def read(variables: Mapping[str, str]) -> Any:
    """The document with all variables filled in."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return interpolate(value, variables)
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    return fill(yaml.safe_load(FILE.read_text()))


def filled(**more: str) -> dict[str, str]:
    """The variables of a complete ``.env``."""
    secrets = {
        "REDIS_PASSWORD": "redispasswordredispassword",
        "HTTP_API_KEYS": "gatewaykeygatewaykey",
        "FLOWER_LOGIN": "me:dashboardpassword",
    }
    return {**example(), **secrets, **more}
