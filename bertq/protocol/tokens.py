"""Tokens of a text with their places, which workers return instead of rows."""

from typing import Annotated

import msgspec
from msgspec import Meta

_Place = Annotated[int, Meta(ge=0, lt=2**31)]


class Token(msgspec.Struct, array_like=True, frozen=True):
    """A token of a text.

    Attributes:
        id: its number in the vocabulary of the model.
        text: the characters of the text that it stands for; of a special token, its name.
        start: place of its first character, in the prompt and the text; None for a special token.
        stop: place behind its last character; None for a special token.
    """

    id: _Place
    text: str
    start: _Place | None = None
    stop: _Place | None = None

    @property
    def is_special(self) -> bool:
        """Whether the tokenizer has added it to the text, as ``[CLS]``."""
        return self.start is None
