"""The options of a request: how its sentences are read, and which rows it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, TypedDict

from bertq.errors import BadInputType, BadInputValue
from bertq.integers import check_count
from bertq.protocol import surrogates
from bertq.protocol.limits import MAX_PROMPT_CHARACTERS, MAX_PROMPT_NAME_CHARACTERS

Truncate: TypeAlias = Literal["right", "left", "error"]
Precision: TypeAlias = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

#: Values of ``truncate``: the end of a long sentence to cut, or ``"error"`` to refuse it.
TRUNCATE = ("right", "left", "error")

#: Values of ``output``.
OUTPUTS = ("rows", "tokens", "text")

#: Values of ``precision``, with the NumPy type of their rows.
PRECISIONS = {
    "float32": "float32",
    "float16": "float16",
    "int8": "int8",
    "uint8": "uint8",
    "binary": "int8",
    "ubinary": "uint8",
}


class Options(TypedDict, total=False):
    """Keyword arguments of every call that encodes sentences; all are optional.

    Attributes:
        normalize: True scales every vector to length 1, and False leaves it unchanged; None, the
            default, follows the model's directory.
        truncate: the end to cut from a sentence with more tokens than the model reads, ``"right"``
            (the default) or ``"left"``; ``"error"`` refuses such a sentence.
        precision: ``"float32"`` (the default), or a smaller type that the worker converts rows to:
            ``"float16"``, ``"int8"``, ``"uint8"``, and ``"binary"`` or ``"ubinary"`` with eight
            dimensions in a byte. int8 and uint8 need workers with ``--int8-ranges``.
        prompt_name: name of the model's prompt to put before each sentence.
        prompt: text to put before each sentence; ``""`` for no prompt.
        input_type: ``"query"`` or ``"document"``, as ``encode_query`` and ``encode_document`` set
            it, or the name of a prompt. At most one of ``prompt_name``, ``prompt`` and
            ``input_type`` can be given; without any, the model's default prompt is used.
        dimensions: keep only this many numbers of each vector, the first ones (Matryoshka).
        pairs: whether ``"first ||| second"`` is a pair of sentences; None, the default, follows the
            model: yes for Google's checkpoints, no for others.
    """

    normalize: bool | None
    truncate: Truncate
    precision: Precision
    prompt_name: str | None
    prompt: str | None
    input_type: str | None
    dimensions: int | None
    pairs: bool | None


@dataclass(frozen=True)
class Encoding:
    """How the sentences of a request are encoded; all requests in a chunk share one encoding.

    Attributes:
        is_tokenized: each sentence is a list of tokens, which are looked up unchanged.
        show_tokens: return the tokens of each sentence with its row.
        normalize: whether rows have length 1 (their Euclidean norm); None follows the model.
        truncate: the end to cut from a sentence with too many tokens, ``"right"`` or ``"left"``;
            ``"error"`` refuses it.
        precision: type of the rows, one of ``PRECISIONS``.
        count_tokens: return the number of tokens read from each sentence.
        pairs: whether ``"first ||| second"`` is a pair; None follows the model.
        prompt_name: name of the prompt before each sentence.
        prompt: text of the prompt; empty for none.
        input_type: ``"query"``, ``"document"`` or the name of a prompt.
        dimensions: numbers to keep of each row, if the model has more; None for all.
        output: ``"rows"``; or without running the model, and with ``show_tokens``: ``"tokens"`` for
            all tokens of each text with their places, ``"text"`` for the texts of token ids, which
            are lists of decimal numbers.
        special_tokens: whether these tokens or texts have special tokens.
    """

    is_tokenized: bool = False
    show_tokens: bool = False
    normalize: bool | None = None
    truncate: str = "right"
    precision: str = "float32"
    count_tokens: bool = False
    pairs: bool | None = None
    prompt_name: str | None = None
    prompt: str | None = field(default=None, repr=False)  # a user's text
    input_type: str | None = None
    dimensions: int | None = None
    output: str = "rows"
    special_tokens: bool = True

    def __post_init__(self) -> None:
        for name in ("is_tokenized", "show_tokens", "count_tokens", "special_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise BadInputValue(f"{name} must be True or False")
        for name in ("normalize", "pairs"):
            if not isinstance(getattr(self, name), bool | None):
                raise BadInputValue(f"{name} must be True, False or None")
        _check_one("truncate", self.truncate, TRUNCATE)
        _check_one("precision", self.precision, tuple(PRECISIONS))
        _check_one("output", self.output, OUTPUTS)
        if self.output != "rows" and not self.show_tokens:
            raise BadInputValue(f"output={self.output!r} needs show_tokens=True")
        if self.dimensions is not None:
            # An int, which the message of a chunk can have.
            object.__setattr__(self, "dimensions", check_count("dimensions", self.dimensions))
        self._check_prompt()

    def _check_prompt(self) -> None:
        values = {name: getattr(self, name) for name in ("prompt_name", "prompt", "input_type")}
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if not isinstance(value, str):
                raise BadInputType(f"{name} must be a str, not a {type(value).__name__}")
            limit = MAX_PROMPT_CHARACTERS if name == "prompt" else MAX_PROMPT_NAME_CHARACTERS
            if len(value) > limit:
                raise BadInputValue(
                    f"{name} has {len(value)} characters: at most {limit} are allowed"
                )
        if len(given) > 1:
            raise BadInputValue(f"{' and '.join(given)} are given: take one of them")
        if given and self.is_tokenized:
            raise BadInputValue(f"{name} is for text: tokens (is_tokenized) have no prompt")

    @property
    def dtype(self) -> str:
        """NumPy's name for the type of the rows."""
        return PRECISIONS[self.precision]

    def to_wire(self) -> dict[str, Any]:
        """Return the options that differ from the defaults, for the message of a chunk."""
        if self is PLAIN:
            return {}
        return {
            name: value
            for name, default in _DEFAULTS.items()
            if (value := getattr(self, name)) != default
        }

    def redact(self) -> dict[str, Any]:
        """Return the options that differ from the defaults; a prompt is replaced by its length."""
        options = self.to_wire()
        if self.prompt:
            options["prompt"] = f"<{len(self.prompt)} characters>"
        return options

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **more: Any) -> "Encoding":
        """Create an encoding from the options of a call.

        Args:
            options: the user's options, with the names of ``Options``.
            more: other fields.

        Raises:
            BadInputType: an option does not exist.
            BadInputValue: an option has an invalid value.
        """
        if not options and all(value is False for value in more.values()):
            return PLAIN
        if unknown := options.keys() - Options.__annotations__.keys():
            raise BadInputType(f"there is no option {', '.join(sorted(unknown))}")
        if isinstance(prompt := options.get("prompt"), str):
            options = {**options, "prompt": surrogates.drop(prompt)}
        return cls(**options, **more)

    @classmethod
    def from_wire(cls, options: Any) -> "Encoding":
        """Create an encoding from the options in the message of a chunk.

        Raises:
            BadInput: the options are malformed, or this version does not know one of them.
        """
        if not isinstance(options, Mapping):
            raise BadInputValue("the options of a chunk must be a map")
        if not options:
            return PLAIN
        if not options.keys() <= _DEFAULTS.keys():
            raise BadInputValue("a chunk has an option that this worker does not know")
        return cls(**options)


def _check_one(name: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        choices = ", ".join(map(repr, known))
        raise BadInputValue(f"{name} must be one of {choices}")


#: The fields of an encoding, with their defaults.
_DEFAULTS = {spec.name: spec.default for spec in fields(Encoding)}

#: The encoding of a request without options.
PLAIN = Encoding()
