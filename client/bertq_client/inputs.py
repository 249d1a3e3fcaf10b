"""The input of ``encode``: texts, pairs of texts or token lists, none of them blank."""

import operator
from collections.abc import Iterator, Sequence
from itertools import chain
from numbers import Real
from typing import Any, Protocol, TypeAlias

from bertq.errors import BadInputType, BadInputValue
from bertq.protocol import surrogates
from bertq.protocol.limits import MAX_REQUEST_CHARACTERS, MAX_REQUEST_ROWS, MAX_SENTENCE_CHARACTERS


class HasToList(Protocol):
    """An array of NumPy, a series of pandas, and similar."""

    def tolist(self) -> Any:
        """Return the elements as a list."""


#: Input of a caller: sentences, pairs of them, or lists of tokens.
Texts: TypeAlias = (
    list[str]
    | list[tuple[str, str]]
    | list[list[str]]
    | list[str | tuple[str, str]]
    | list[Sequence[str]]
    | tuple[str | Sequence[str], ...]
    | HasToList
)

#: Input of a caller: texts that are no pairs.
Strings: TypeAlias = list[str] | tuple[str, ...] | HasToList

#: A sentence: its text, the two texts of a pair, or the tokens if the caller has tokenized it.
Text: TypeAlias = str | tuple[str, ...]

#: Number of sentences that are checked at a time. The caller's thread checks the first part, which
#: takes well under a millisecond. The sender's thread checks the rest before it sends anything.
PART_ROWS = 4096

#: Longest time to live of a durable job, in seconds.
MAX_TTL_SECONDS = 10 * 365 * 24 * 3600


def prepare(texts: Any, *, is_tokenized: bool = False, name: str = "texts") -> tuple[Any, ...]:
    """Check the first ``PART_ROWS`` sentences of the input, and return an immutable copy of all.

    ``checked_parts`` checks the others. Lone surrogates are dropped before each check.

    Args:
        texts: the input.
        is_tokenized: whether each sentence is a list of tokens.
        name: name of the argument, for errors.

    Raises:
        BadInputType: it is not a list, tuple or array, or an element is not a sentence.
        BadInputValue: it is empty or far too long, or an element is blank or far too long.
    """
    found = _to_checked_list(texts, name, is_tokenized=is_tokenized)
    part = found[:PART_ROWS]
    first = _without_surrogates(part)
    check_elements(first, 0, is_tokenized=is_tokenized, name=name)
    if first is part:
        return _freeze(found)
    return _freeze(first) + _freeze(found[PART_ROWS:])


def prepare_strings(texts: Any, name: str) -> tuple[str, ...]:
    """Check all texts of an input that has no pairs, and return them without lone surrogates.

    Args:
        texts: the input.
        name: name of the argument, for errors.

    Raises:
        BadInputType, BadInputValue: as ``prepare``.
    """
    found = tuple(map(drop_surrogates, _to_checked_list(texts, name, is_tokenized=False)))
    if set(map(type, found)) != {str} or not _are_valid(found, MAX_SENTENCE_CHARACTERS):
        for index, text in enumerate(found):
            check_text(text, f"{name}[{index}]")
    return found


def _to_checked_list(texts: Any, name: str, *, is_tokenized: bool) -> list[Any]:
    """Return the elements of the input, neither none nor too many, as a list."""
    found = _to_list(texts, name, is_tokenized=is_tokenized)
    if not found:
        raise BadInputValue(
            f"{name} is an empty {type(texts).__name__}: there is nothing to encode"
        )
    if len(found) > MAX_REQUEST_ROWS:
        raise BadInputValue(
            f"{name} has {len(found)} sentences: a request may have {MAX_REQUEST_ROWS}"
        )
    return found


def _to_list(texts: Any, argument: str, *, is_tokenized: bool) -> list[Any]:
    """Return the elements of the input as a list."""
    if isinstance(texts, str | bytes):
        raise BadInputType(
            f"{argument} is a {type(texts).__name__}: for one sentence give a list of one, ['...']"
        )
    if isinstance(texts, list):
        return texts
    if isinstance(texts, Sequence):
        return list(texts)
    for name in ("tolist", "to_list"):
        if callable(convert := getattr(texts, name, None)):
            found = convert()
            if isinstance(found, list):
                return found
    of = "lists of str" if is_tokenized else "str"
    is_stream = argument == "texts" and isinstance(texts, Iterator)
    hint = "; encode_stream takes iterators of sentences" if is_stream else ""
    raise BadInputType(
        f"{argument} is a {type(texts).__name__}: it must be a list, tuple or array of {of}{hint}"
    )


def _without_surrogates(texts: list[Any]) -> list[Any]:
    """Return sentences without lone surrogates; the same list if there are none."""
    if set(map(type, texts)) == {str} and all(map(str.isascii, texts)):
        return texts
    cleaned = list(map(drop_surrogates, texts))
    return texts if all(map(operator.is_, cleaned, texts)) else cleaned


def drop_surrogates(text: Any) -> Any:
    """Return a sentence without lone surrogates; any other value unchanged, for a later check."""
    if isinstance(text, str):
        return surrogates.drop(text)
    if isinstance(text, list | tuple) and all(isinstance(part, str) for part in text):
        cleaned = list(map(surrogates.drop, text))
        return text if all(map(operator.is_, cleaned, text)) else cleaned
    return text


def check_elements(
    texts: Sequence[Any], first: int, *, is_tokenized: bool = False, name: str = "texts"
) -> None:
    """Check sentences; the first one has number ``first`` in the request."""
    if is_tokenized:
        for index, tokens in enumerate(texts, first):
            _check_tokens(tokens, f"{name}[{index}]")
        return
    # Valid input takes only C loops; the slow loop below finds the element to name in the error.
    kinds = set(map(type, texts))
    if kinds == {str} and _are_valid(texts, MAX_SENTENCE_CHARACTERS):
        return
    if kinds <= {list, tuple} and set(map(len, texts)) == {2}:
        sides = list(chain.from_iterable(texts))
        if set(map(type, sides)) == {str} and _are_valid(sides, MAX_SENTENCE_CHARACTERS // 2 - 1):
            return
    for index, text in enumerate(texts, first):
        if isinstance(text, list | tuple):
            _check_pair(text, f"{name}[{index}]")
        else:
            check_text(text, f"{name}[{index}]", "a str, or a pair (a tuple of two str)")


def _are_valid(strings: Sequence[Any], max_characters: int) -> bool:
    return (
        all(strings)
        and not any(map(str.isspace, strings))
        and max(map(len, strings)) <= max_characters
    )


def check_text(text: Any, name: str, expected: str = "a str") -> None:
    """Check one text; ``name`` and ``expected`` are for errors."""
    if not isinstance(text, str):
        raise BadInputType(f"{name} is a {type(text).__name__}: it must be {expected}")
    if not text or text.isspace():
        raise BadInputValue(f"{name} is blank: every sentence must have a character")
    if len(text) > MAX_SENTENCE_CHARACTERS:
        raise BadInputValue(
            f"{name} has {len(text)} characters: at most {MAX_SENTENCE_CHARACTERS} are allowed"
        )


def _check_pair(pair: Sequence[Any], name: str) -> None:
    if len(pair) != 2:
        raise BadInputType(
            f"{name} is a {type(pair).__name__} of {len(pair)}: a pair of sentences has two; of "
            "tokens say is_tokenized=True"
        )
    for side, text in enumerate(pair):
        check_text(text, f"{name}[{side}]", "a str, or a pair (a tuple of two str)")
    if (size := characters(pair)) > MAX_SENTENCE_CHARACTERS:
        raise BadInputValue(
            f"{name} has {size} characters: at most {MAX_SENTENCE_CHARACTERS} are allowed"
        )


def check_ttl(ttl: Any) -> int:
    """Return the time to live of a durable job in whole seconds.

    Raises:
        BadInputValue: it is not a number of seconds from 1 to ``MAX_TTL_SECONDS``.
    """
    is_number = isinstance(ttl, Real) and not isinstance(ttl, bool)
    if not (is_number and 1 <= ttl <= MAX_TTL_SECONDS):
        raise BadInputValue(
            f"ttl must be a number of seconds from 1 to {MAX_TTL_SECONDS} (ten years)"
        )
    return int(ttl)


def checked_parts(texts: Sequence[Any], *, is_tokenized: bool = False) -> Iterator[Sequence[Text]]:
    """Check the sentences of a request and return them in parts, without lone surrogates.

    ``prepare`` has already checked the first part.

    Raises:
        BadInputType, BadInputValue: a sentence is invalid, or all together are too long.
    """
    total = 0
    for first in range(0, len(texts), PART_ROWS):
        part = texts[first : first + PART_ROWS]
        if first:
            part = _without_surrogates(list(part))
            check_elements(part, first, is_tokenized=is_tokenized)
            part = _freeze(part)
        total += sum(map(len if set(map(type, part)) == {str} else characters, part))
        if total > MAX_REQUEST_CHARACTERS:
            raise BadInputValue(
                f"texts has more than {MAX_REQUEST_CHARACTERS} characters: send it in several "
                "requests"
            )
        yield part


def _check_tokens(tokens: Any, name: str) -> None:
    if not isinstance(tokens, list | tuple):
        raise BadInputType(
            f"{name} is a {type(tokens).__name__}: with is_tokenized=True it must be a list of str"
        )
    if not tokens:
        raise BadInputValue(f"{name} has no token: every sentence must have one")
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            raise BadInputType(f"{name}[{index}] is a {type(token).__name__}: a token is a str")
        if not token or token.isspace():
            raise BadInputValue(f"{name}[{index}] is blank: every token must have a character")
    if (size := characters(tokens)) > MAX_SENTENCE_CHARACTERS:
        raise BadInputValue(
            f"{name} has {size} characters: at most {MAX_SENTENCE_CHARACTERS} are allowed"
        )


def _freeze(texts: Sequence[Any]) -> tuple[Any, ...]:
    """Return an immutable copy of sentences."""
    if set(map(type, texts)) <= {str, tuple}:
        return tuple(texts)
    # Elements after the first ``PART_ROWS`` are not checked yet, and may be of any type.
    return tuple([tuple(text) if isinstance(text, list) else text for text in texts])


def characters(text: Text | Sequence[str]) -> int:
    """Return the characters of a sentence; for tokens and pairs, plus one for each element."""
    return len(text) if isinstance(text, str) else sum(map(len, text)) + len(text)
