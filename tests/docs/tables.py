"""The tables of the documentation that are generated from the code.

``python -m tests.docs.tables`` writes them into the pages.
"""

import re
from dataclasses import fields
from pathlib import Path

from bertq.config.options import settings_options
from bertq.config.settings import Settings, variable

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "settings.md"

_BEGIN, _END = "<!-- settings -->", "<!-- /settings -->"


def settings() -> str:
    """A row for each setting of a worker."""
    import click

    lines = ["| option, variable | default | meaning |", "|---|---|---|"]
    options = {option.name: option for option in settings_options(click.Option)}
    for spec in fields(Settings):
        option = options[spec.name]
        names = (*option.opts, *option.secondary_opts, variable(spec.name))
        default = spec.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        elif isinstance(default, bool):
            default = "on" if default else "off"
        elif isinstance(default, float):
            default = f"{default:g}"
        shown = "" if default is None else f"`{default}`"
        text = spec.metadata["help"].replace("|", "\\|")
        cell = "<br>".join(f"`{name}`" for name in names)
        lines.append(f"| {cell} | {shown} | {text} |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its generated table."""
    between = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    return between.sub(lambda _: f"{_BEGIN}\n\n{settings()}\n\n{_END}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
