"""What a request asks for beside its sentences: how they are read, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bertq.errors import BadInputValue

#: Values of ``truncate``: which end of a long sentence is cut, or that none may be long.
TRUNCATE = ("right", "left", "error")

#: Values of ``dtype``: the types of the numbers in a row.
ROW_DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Encoding:
    """How the sentences of a request are encoded; requests of one chunk have the same.

    Attributes:
        is_tokenized: a sentence is a list of tokens, which are looked up as they are.
        show_tokens: send the wordpieces of each sentence back with its row.
        normalize: rows have the length 1 (their Euclidean norm).
        truncate: what is cut off a sentence of too many wordpieces: its ``"right"`` or ``"left"``
            end; ``"error"`` refuses it.
        dtype: type of the rows, ``"float32"`` or ``"float16"``.
        count_tokens: send the number of wordpieces that were read of each sentence.
    """

    is_tokenized: bool = False
    show_tokens: bool = False
    normalize: bool = False
    truncate: str = "right"
    dtype: str = "float32"
    count_tokens: bool = False

    def __post_init__(self) -> None:
        for name in ("is_tokenized", "show_tokens", "normalize", "count_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise BadInputValue(f"{name} must be True or False")
        _check_one("truncate", self.truncate, TRUNCATE)
        _check_one("dtype", self.dtype, ROW_DTYPES)

    def to_wire(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the message of a chunk."""
        return {
            spec.name: value
            for spec in fields(self)
            if (value := getattr(self, spec.name)) != spec.default
        }

    @classmethod
    def from_wire(cls, options: Any) -> "Encoding":
        """Check what came with a chunk.

        Raises:
            BadInputValue: it is not of this form, or names what this version does not know.
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
