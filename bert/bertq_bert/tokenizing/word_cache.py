"""A tokenizer that caches the ids of words.

Most words of a text have occurred before. To look up the words of a sentence takes a tenth of the
CPU time of tokenizing it.
"""

from collections.abc import Sequence
from itertools import chain, product

from bertq_bert.tokenizing.base import Tokenizer

#: Maximum words in the cache. A full cache is cleared; a few calls fill it with common words again.
_MAX_WORDS = 32_768
#: Maximum characters of a cached word. Longer words are addresses, codes, or whole sentences of
#: languages without spaces.
_MAX_WORD_CHARACTERS = 32

#: Number of unknown words of a call that are always tokenized separately, which takes longer for
#: each than as a part of its text.
_NEW_WORDS_PER_CALL = 64

#: Minimum share of tokens that continue a word in a vocabulary of WordPiece.
_MIN_CONTINUING_SHARE = 0.01

#: Words with all kinds of characters that normalizers change: case, accents, combining marks (also
#: as first characters), ligatures, final sigmas, ideographs, white space, punctuation and special
#: tokens.
_PROBES = (
    "", "a", "lord", "Lord's", "don't", "x-y,", "(1,000.5)", "##s", "[UNK]", "[MASK]", "</s>",
    "\N{LATIN CAPITAL LETTER E WITH ACUTE}t\N{LATIN SMALL LETTER E WITH ACUTE}", "e\u0301",
    "\u0301e", "\N{LATIN SMALL LIGATURE FI}n", "\u03a3\u03b1\u03a3", "\u4e2d\u6587", "\u200b",
    "\xa0", "\t", "a\nb", "\u3000", "\xad", "\N{GRINNING FACE}", "\N{DIAERESIS}",
)  # fmt: skip


def remember_words(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer with the same ids that caches words, if possible.

    The ids of a word must not depend on other words, as in WordPiece. Other kinds of tokens include
    the space before a word; then the tokenizer itself is returned.
    """
    return WordCache(tokenizer) if _has_independent_words(tokenizer) else tokenizer


def _has_independent_words(tokenizer: Tokenizer) -> bool:
    continuing = sum(token.startswith("##") for token in tokenizer.vocabulary)
    if continuing < _MIN_CONTINUING_SHARE * len(tokenizer.vocabulary):
        return False
    if any(" " in token for token in tokenizer.vocabulary):
        return False
    ids = dict(zip(_PROBES, tokenizer.pieces(_PROBES), strict=True))
    pairs = list(product(_PROBES, repeat=2))
    found = tokenizer.pieces([" ".join(pair) for pair in pairs])
    return not ids[""] and all(
        row == ids[first] + ids[second] for row, (first, second) in zip(found, pairs, strict=True)
    )


class WordCache(Tokenizer):
    """A tokenizer that caches the ids of words, the parts of a text between spaces; thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Use ``tokenizer`` for words that are not cached, and for all other methods.

        Args:
            tokenizer: a tokenizer whose ids for a text are the concatenated ids of its words.
        """
        self._tokenizer = tokenizer
        self.template = tokenizer.template
        self.pairs_with_nothing = tokenizer.pairs_with_nothing
        self.splits_at_spaces = tokenizer.splits_at_spaces
        self.vocabulary = tokenizer.vocabulary
        #: Words are only added, and a full cache is replaced, not cleared: a thread that uses it
        #: still finds each word that it has found before.
        self._ids: dict[str, tuple[int, ...]] = {"": ()}

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Return all token ids of each text, without special tokens around it."""
        ids = self._ids
        look_up = ids.__getitem__
        rows: list[list[int]] = []
        incomplete: dict[int, list[str]] = {}
        for number, text in enumerate(texts):
            words = text.split(" ")
            try:
                rows.append(list(chain.from_iterable(map(look_up, words))))
            except KeyError:
                rows.append([])
                incomplete[number] = words
        if incomplete:
            self._complete(rows, texts, incomplete, ids)
        return rows

    def _complete(
        self,
        rows: list[list[int]],
        texts: Sequence[str],
        incomplete: dict[int, list[str]],
        ids: dict[str, tuple[int, ...]],
    ) -> None:
        """Tokenize the unknown words of texts, or whole texts in which many words are unknown.

        Args:
            rows: ids of each text; those of incomplete texts are written.
            texts: the texts.
            incomplete: the words of each incomplete text, by its index.
            ids: the cache.
        """
        unknown: set[str] = set()
        whole: list[int] = []
        for number, words in incomplete.items():
            missing = {word for word in words if word not in ids}
            is_small = len(unknown) + len(missing) <= _NEW_WORDS_PER_CALL
            if is_small or 4 * len(missing) <= len(words):
                unknown |= missing
            else:
                whole.append(number)
        new_words = list(unknown)
        found = self._tokenizer.pieces([*new_words, *(texts[number] for number in whole)])
        new = dict(zip(new_words, map(tuple, found), strict=False))
        for number, row in zip(whole, found[len(new_words) :], strict=True):
            rows[number] = row
        for number in incomplete.keys() - whole:
            rows[number] = [
                token
                for word in incomplete[number]
                for token in (new[word] if word in new else ids[word])
            ]
        self._remember(new)

    def _remember(self, new: dict[str, tuple[int, ...]]) -> None:
        short = {word: ids for word, ids in new.items() if len(word) <= _MAX_WORD_CHARACTERS}
        if len(self._ids) + len(short) > _MAX_WORDS:
            self._ids = {"": ()}
        self._ids.update(short)

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """Return (id, start, stop) of each token of ``pieces``, as ``Tokenizer`` defines them."""
        return self._tokenizer.spans(texts)

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        """Return the text of each sequence of ids, without special tokens if ``skip_special``."""
        return self._tokenizer.decode(ids, skip_special=skip_special)

    def identity(self) -> str:
        """Return a string that changes with everything that changes an id."""
        return self._tokenizer.identity()

    def token(self, number: int) -> str:
        """Return the token with an id."""
        return self._tokenizer.token(number)

    def look_up_token(self, token: str) -> int:
        """Return the id of a token; of the unknown token if it is not in the vocabulary."""
        return self._tokenizer.look_up_token(token)

    def trim(self, first: int, second: int, max_tokens: int) -> tuple[int, int]:
        """Return how many tokens of each text of a pair to keep, ``max_tokens`` together."""
        return self._tokenizer.trim(first, second, max_tokens)
