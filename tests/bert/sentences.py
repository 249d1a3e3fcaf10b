"""The preprocessing of bert-as-service in plain Python, as a reference.

The rules are those of `extract_features.py` in bert-as-service 1.10: pairs, what is cut, what is
added. Two differences, on purpose: a pair may have line ends in it, and `no_special_token`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.bert import fulltokenizer
from tests.bert.checkpoints import TINY, VOCABULARY, tiny_variables
from tests.bert.reference import Reference

IDS = {token: number for number, token in enumerate(VOCABULARY)}
#: The longest sequence of the models that the options are tried on.
LENGTH = 12

#: Their config, where it is not `TINY`: two layers are read from disk and traced in half the time.
SMALL: dict[str, Any] = {"num_hidden_layers": 2}

#: Pairs and single sentences, some of them too long, some without a token.
TEXTS = [
    "the lord",
    "the lord ||| of him",
    "he shall not ||| be in the of and to in that he shall unto",
    "he shall unto the of and to in that they ||| i",
    "in that he shall unto the lord they be is him not them",
    "a ||| b ||| c",
    "a ||| ||| c",
    "  of him ||| the lord\n",
    "of\nhim ||| the\nlord",
    "\x00\x01 ||| they",
    "they ||| \x00",
    "they |||",
    "||| they",
    "they|||him",
    "they\t|||\thim",
    " ||| ",
    "\x00",
]

#: The same of tokens.
TOKENIZED = [
    ["the", "lord"],
    ["the", "Lord", "##x", "[SEP]", "him", "[CLS]"],
    ["of", "|||", "him", "not"],
    ["of", "|||"],
    ["|||", "him"],
    ["|||", "|||"],
    ["a", "|||", "b", "|||", "c"],
    ["of", " ||| ", "a ||| b"],
    list("abcdefghijklmnop"),
    [*"abcdefgh", "|||", *"ijklm"],
]


class Sentence(NamedTuple):
    """A sentence as the network sees it."""

    tokens: list[str]
    segments: list[int]
    #: 0 for each [CLS] and [SEP] that was added
    own: list[int]
    #: whether tokens are missing
    cut: bool

    @property
    def ids(self) -> list[int]:
        return [IDS[token] for token in self.tokens]


def of_text(text: str, **options: Any) -> Sentence:
    """The sentence or the pair in a text."""
    cased = options.pop("cased", False)
    line = text.strip()
    match = re.match(r"^(.*) \|\|\| (.*)$", line, re.DOTALL)
    first, second = match.groups() if match else (line, "")
    sides = (fulltokenizer.wordpieces(side, IDS, cased=cased) for side in (first, second))
    return framed(*sides, **options)


def of_tokens(tokens: Sequence[str], **options: Any) -> Sentence:
    """The sentence or the pair in a list of tokens."""
    first, second = list(tokens), []
    if "|||" in tokens:
        bar = first.index("|||")
        first, second = first[:bar], first[bar + 1 :]
    known = ([token if token in IDS else "[UNK]" for token in side] for side in (first, second))
    return framed(*known, **options)


def framed(
    first: list[str],
    second: list[str],
    *,
    length: int = LENGTH,
    end: str = "right",
    bare: bool = False,
) -> Sentence:
    """A sentence or a pair of at most `length` tokens."""
    whole = len(first) + len(second)
    if second:
        truncate_pair(first, second, length if bare else length - 3, end)
    else:
        cut(first, length if bare else length - 2, end)
    missing = len(first) + len(second) < whole
    if bare:
        segments = [0] * len(first) + [1] * len(second)
        return Sentence(first + second, segments, [1] * len(segments), missing)
    tokens = ["[CLS]", *first, "[SEP]"]
    own = [0, *([1] * len(first)), 0]
    segments = [0] * len(tokens)
    if second:
        tokens += [*second, "[SEP]"]
        own += [1] * len(second) + [0]
        segments += [1] * (len(second) + 1)
    return Sentence(tokens, segments, own, missing)


def truncate_pair(first: list[str], second: list[str], max_tokens: int, end: str = "right") -> None:
    """`_truncate_seq_pair` of google-research/bert, at either end."""
    while len(first) + len(second) > max_tokens:
        (first if len(first) > len(second) else second).pop(0 if end == "left" else -1)


def cut(tokens: list[str], max_tokens: int, end: str) -> None:
    """Truncate to `max_tokens` tokens at one end."""
    while len(tokens) > max_tokens:
        tokens.pop(0 if end == "left" else -1)


def rows_of(
    sentences: Sequence[Sentence],
    strategy: str,
    layers: Sequence[int] = (-2,),
    *,
    masked: bool = False,
    length: int = LENGTH,
    variables: Callable[[Mapping[str, Any]], Mapping[str, Any]] = tiny_variables,
    **options: Any,
) -> Any:
    """Rows by the numpy reference; `masked` leaves out the special tokens."""
    config = TINY | options.pop("config", {})
    reference = Reference(
        config,
        variables(config),
        [sentence.ids for sentence in sentences],
        length,
        segments=[sentence.segments for sentence in sentences],
        pooled=[sentence.own for sentence in sentences] if masked else None,
        **options,
    )
    return reference.rows(strategy, layers)
