"""Sentences for the benchmark: clauses of the King James Version, in random order."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertq_bert import Model

NAME = "kjv.txt"

#: Counts the tokens of texts, special ones included, without truncating.
Count = Callable[[list[str]], list[int]]


@cache
def clauses() -> tuple[str, ...]:
    """Return the 4,096 clauses, all different, of 20 wordpieces on average."""
    return tuple(_path().read_text(encoding="utf-8").splitlines())


def make_distinct(number: int, texts: Sequence[str] | None = None) -> list[str]:
    """Return ``number`` different sentences.

    A client encodes duplicate sentences of a request only once. If there are too few sentences,
    further ones are made by rotating the words of each by one place, then by two; these have the
    same length.

    Raises:
        ValueError: there are still too few.
    """
    found: dict[str, None] = {}
    for text in _rotate_words(clauses() if texts is None else texts):
        if len(found) == number:
            break
        found[text] = None
    if len(found) < number:
        raise ValueError(f"no {number} different sentences can be made of these")
    return list(found)


def make_filled(tokens: int, number: int, count: Count) -> list[str]:
    """Return ``number`` different texts of a minimum length: consecutive clauses, joined.

    Args:
        tokens: minimum wordpieces of a text, ``[CLS]`` and ``[SEP]`` included.
        number: how many texts; up to 4,096, each begins with a different clause.
        count: counts wordpieces.
    """
    parts = clauses()
    sizes = [size - 2 for size in count(list(parts))]
    texts = []
    for start in range(min(number, len(parts))):
        end, size = start, 2
        while size < tokens and end - start < len(parts):
            size += sizes[end % len(parts)]
            end += 1
        texts.append(" ".join(parts[index % len(parts)] for index in range(start, end)))
    return make_distinct(number, texts)


@dataclass(frozen=True)
class Summary:
    """The properties of a corpus.

    Attributes:
        name, sha256: name and SHA-256 of its file.
        sentences: number of sentences.
        tokens: wordpieces on average, ``[CLS]`` and ``[SEP]`` included, without truncating.
        longest: wordpieces of the longest sentence.
    """

    name: str
    sha256: str
    sentences: int
    tokens: float
    longest: int

    def __str__(self) -> str:
        return (
            f"{self.name}, {self.sentences:,} sentences of {self.tokens:.1f} wordpieces on average "
            f"(at most {self.longest}), SHA-256 {self.sha256[:16]}"
        )


def summarize(count: Count) -> Summary:
    """Describe the corpus, in the wordpieces of a model."""
    sizes = count(list(clauses()))
    digest = hashlib.sha256(_path().read_bytes()).hexdigest()
    return Summary(NAME, digest, len(sizes), sum(sizes) / len(sizes), max(sizes))


@cache
def token_counter(model_dir: Path) -> Count:
    """Return a function that counts tokens as the worker of a model does.

    Raises:
        ModelError: the model cannot be used.
        ImportError: the tokenizer is not installed.
    """
    # Up to the model's own limit, which no clause reaches.
    tokenize = _model(model_dir).tokenize
    return lambda texts: [len(row) for row in tokenize(texts, pairs=False, prompt="").ids]


def max_tokens(model_dir: Path) -> int:
    """Return the maximum tokens of a text for a model.

    Raises:
        ModelError: the model cannot be used.
        ImportError: the tokenizer is not installed.
    """
    return _model(model_dir).max_seq_len


@cache
def _model(model_dir: Path) -> "Model":
    from bertq_bert import read_source

    return read_source(model_dir, compat="bert-as-service", max_seq_len="none").model


def _path() -> Path:
    return Path(__file__).parent / NAME


def _rotate_words(texts: Sequence[str]) -> Iterator[str]:
    yield from texts
    words = [text.split() for text in texts]
    for places in range(1, max(map(len, words), default=0)):
        for split in words:
            if places < len(split):
                yield " ".join(split[places:] + split[:places])
