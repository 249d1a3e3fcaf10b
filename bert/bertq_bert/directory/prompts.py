"""Reads ``config_sentence_transformers.json``: prompts and the similarity function."""

from pathlib import Path
from typing import Any

from bertq_bert.config import shown
from bertq_bert.errors import BadConfig


def read_prompts(about: dict[str, Any], path: Path) -> tuple[dict[str, str], str | None]:
    """Return the prompts by name, and the name of the default prompt; None without a default.

    Args:
        about: the contents of ``config_sentence_transformers.json``.
        path: a file in the same directory, for messages.

    Raises:
        BadConfig: a prompt is not a text, or the default prompt is none of the prompts.
    """
    prompts = about.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        name.isprintable() and (text is None or isinstance(text, str))
        for name, text in prompts.items()
    ):
        raise BadConfig(
            f"{path.parent}: prompts of config_sentence_transformers.json must be texts"
        )
    texts = {name: text for name, text in prompts.items() if text is not None}
    default = about.get("default_prompt_name")
    if default is not None and not (isinstance(default, str) and default in texts):
        raise BadConfig(
            f"{path.parent}: default_prompt_name of config_sentence_transformers.json is "
            f"{shown(default)}, which is none of its prompts"
        )
    return texts, default


def read_similarity(about: dict[str, Any]) -> str | None:
    """Return the name of the similarity function; None if it is missing or unknown."""
    name = about.get("similarity_fn_name")
    return name if name in ("cosine", "dot", "euclidean", "manhattan") else None
