"""Extracts the sentence from a line of the input."""

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from bertq.errors import BadInputValue
from bertq.protocol.limits import MAX_SENTENCE_CHARACTERS
from bertq_client import inputs

#: Formats of an input: one sentence per line, or one JSON object per line.
KINDS = ("text", "jsonl")

#: Field of a JSON object with its sentence, if no other is given.
DEFAULT_FIELD = "text"

#: A sentence, the two sentences of a pair, or tokens.
Sentence: TypeAlias = str | list[str]


@dataclass(frozen=True)
class LineFormat:
    """The format of a line.

    Attributes:
        kind: ``"text"`` or ``"jsonl"``.
        field: name of the JSON field with the sentence, or a pair: a list of two str.
        is_tokenized: the sentence is tokens: words separated by blanks, or in JSON a list of str.

    Raises:
        BadInputValue: lines of text have no fields, and one is given.
    """

    kind: str
    field: str
    is_tokenized: bool

    def __post_init__(self) -> None:
        if self.kind == "text" and self.field != DEFAULT_FIELD:
            raise BadInputValue(
                f"field is {self.field!r}, and the input is text: only .jsonl has fields; for "
                "such a file with another name give input_format 'jsonl'"
            )

    def sentence(self, raw: bytes) -> Sentence | None:
        """Return the sentence of a line; None for a blank line.

        Raises:
            BadInputValue: the line is invalid. The caller puts the line number before the message.
        """
        try:
            text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise BadInputValue("it is not UTF-8") from None
        if not text or text.isspace():
            return None
        if self.kind == "jsonl":
            return self._check(self._parse_json(text))
        return self._check(text.split() if self.is_tokenized else text)

    def _parse_json(self, text: str) -> Any:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise BadInputValue("it is not JSON") from None
        if not isinstance(document, dict):
            raise BadInputValue("it is not a JSON object")
        if self.field not in document:
            raise BadInputValue(f"there is no field {self.field!r}")
        return inputs.drop_surrogates(document[self.field])  # JSON may have "\ud800"

    def _check(self, value: Any) -> Sentence | None:
        if self.is_tokenized:
            if not isinstance(value, list) or not all(isinstance(token, str) for token in value):
                raise BadInputValue(f"field {self.field!r} is not a list of str")
            if not value:
                return None
            if not all(token and not token.isspace() for token in value):
                raise BadInputValue(f"field {self.field!r} has a token that is blank")
        elif isinstance(value, list):
            if len(value) != 2 or not all(isinstance(text, str) for text in value):
                raise BadInputValue(f"field {self.field!r} is not a pair, a list of two str")
            if not all(text and not text.isspace() for text in value):
                raise BadInputValue(f"field {self.field!r} is a pair with a blank side")
        elif not isinstance(value, str):
            raise BadInputValue(f"field {self.field!r} is not a str")
        elif not value or value.isspace():
            return None
        sentence: Sentence = value
        if inputs.characters(sentence) > MAX_SENTENCE_CHARACTERS:
            raise BadInputValue(f"a sentence has at most {MAX_SENTENCE_CHARACTERS} characters")
        return sentence
