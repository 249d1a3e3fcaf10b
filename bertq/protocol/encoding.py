"""What a request asks for beside its sentences: how they are read, and which rows come back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, TypedDict

from bertq.errors import BadInputType, BadInputValue
from bertq.protocol.limits import PROMPT_CHARACTERS, PROMPT_NAME_CHARACTERS

Truncate: TypeAlias = Literal["right", "left", "error"]
Precision: TypeAlias = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]

#: Values of ``truncate``: which end of a long sentence is cut, or that none may be long.
TRUNCATE = ("right", "left", "error")

#: Values of ``precision``, each with the NumPy type of its rows.
PRECISIONS = {
    "float32": "float32",
    "float16": "float16",
    "int8": "int8",
    "uint8": "uint8",
    "binary": "int8",
    "ubinary": "uint8",
}


class Options(TypedDict, total=False):
    """Keyword arguments of every call that encodes sentences; all of them may be left out.

    Attributes:
        normalize: True gives every vector the length 1 and False leaves it as it is; None, the
            default, does what the model's directory says.
        truncate: the end that is cut off a sentence of more tokens than the model reads,
            ``"right"`` (the default) or ``"left"``; ``"error"`` refuses such a sentence.
        precision: ``"float32"`` (the default), or a smaller type that is made in the worker:
            ``"float16"``, ``"int8"``, ``"uint8"``, and ``"binary"`` or ``"ubinary"`` with eight
            dimensions in a byte. int8 and uint8 need workers with ``--int8-ranges``.
        prompt_name: name of the model's prompt to put before each sentence.
        prompt: text to put before each sentence; ``""`` for no prompt.
        input_type: ``"query"`` or ``"document"``, as ``encode_query`` and ``encode_document`` say
            it, or the name of a prompt. Only one of ``prompt_name``, ``prompt`` and ``input_type``
            can be given; without any the model's default prompt is used.
        dimensions: keep that many numbers of each vector, the first ones (Matryoshka).
        pairs: whether ``"first ||| second"`` is a pair of sentences; None, the default, leaves it
            to the model: yes for Google's checkpoints, no for others.
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
    """How the sentences of a request are encoded; requests of one chunk have the same.

    Attributes:
        is_tokenized: a sentence is a list of tokens, which are looked up as they are.
        show_tokens: send the tokens of each sentence back with its row.
        normalize: whether rows have the length 1 (their Euclidean norm); None follows the model.
        truncate: what is cut off a sentence of too many tokens: its ``"right"`` or ``"left"`` end;
            ``"error"`` refuses it.
        precision: type of the rows, one of ``PRECISIONS``.
        count_tokens: send the number of tokens that were read of each sentence.
        pairs: whether ``"first ||| second"`` is a pair; None follows the model.
        prompt_name: name of the prompt that goes before each sentence.
        prompt: that prompt itself; empty for none.
        input_type: ``"query"``, ``"document"`` or the name of a prompt.
        dimensions: numbers of a row, where the model has more; None for all of them.
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

    def __post_init__(self) -> None:
        for name in ("is_tokenized", "show_tokens", "count_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise BadInputValue(f"{name} must be True or False")
        for name in ("normalize", "pairs"):
            if not isinstance(getattr(self, name), bool | None):
                raise BadInputValue(f"{name} must be True, False or None")
        _check_one("truncate", self.truncate, TRUNCATE)
        _check_one("precision", self.precision, tuple(PRECISIONS))
        size = self.dimensions
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise BadInputValue("dimensions must be a whole number above zero, or None")
        self._check_prompt()

    def _check_prompt(self) -> None:
        given = [
            name
            for name in ("prompt_name", "prompt", "input_type")
            if getattr(self, name) is not None
        ]
        for name in given:
            value = getattr(self, name)
            if not isinstance(value, str):
                raise BadInputType(f"{name} must be a str, not a {type(value).__name__}")
            limit = PROMPT_CHARACTERS if name == "prompt" else PROMPT_NAME_CHARACTERS
            if len(value) > limit:
                raise BadInputValue(f"{name} has {len(value)} characters: at most {limit} go")
        if len(given) > 1:
            raise BadInputValue(f"{' and '.join(given)} are given: take one of them")
        if given and self.is_tokenized:
            raise BadInputValue(f"{given[0]} is for text: tokens (is_tokenized) have no prompt")

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of the rows."""
        return PRECISIONS[self.precision]

    def to_wire(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the message of a chunk."""
        return {
            spec.name: value
            for spec in fields(self)
            if (value := getattr(self, spec.name)) != spec.default
        }

    def public(self) -> dict[str, Any]:
        """Return what differs from the defaults, with the length of a prompt in its place."""
        options = self.to_wire()
        if self.prompt:
            options["prompt"] = f"<{len(self.prompt)} characters>"
        return options

    @classmethod
    def of(cls, options: Mapping[str, Any], **more: Any) -> "Encoding":
        """Check the options of a call.

        Args:
            options: what the user gave, by the names of ``Options``.
            more: other fields.

        Raises:
            BadInputType: there is no such option.
            BadInputValue: it has no such value.
        """
        if unknown := options.keys() - Options.__annotations__.keys():
            raise BadInputType(f"there is no option {', '.join(sorted(unknown))}")
        return cls(**options, **more)

    @classmethod
    def from_wire(cls, options: Any) -> "Encoding":
        """Check what came with a chunk.

        Raises:
            BadInput: it is not of this form, or names what this version does not know.
        """
        if not isinstance(options, Mapping):
            raise BadInputValue("the options of a chunk must be a map")
        if not options:
            return PLAIN
        if not options.keys() <= {spec.name for spec in fields(cls)}:
            raise BadInputValue("a chunk has an option that this worker does not know")
        return cls(**options)


def _check_one(name: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        choices = ", ".join(map(repr, known))
        raise BadInputValue(f"{name} must be one of {choices}")


#: What a request is that asks for nothing special.
PLAIN = Encoding()
