"""A tokenizer that remembers the ids of words.

The words of a language repeat: looking up the words of a sentence takes a tenth of the processor
time of tokenizing it.
"""

from collections.abc import Sequence
from itertools import chain, product

from bertq_bert.tokenizing.base import Tokenizer

#: Words that are remembered. A full cache is emptied; its common words are back after few calls.
_MAX_WORDS = 32_768
#: Characters of a word that is remembered: longer ones are addresses, codes, or whole sentences of
#: languages without spaces.
_MAX_WORD_CHARACTERS = 32

#: Unknown words of a call that are tokenized one by one in any case; each costs more than as part
#: of its text.
_NEW_WORDS_PER_CALL = 64

#: Share of tokens that continue a word in a vocabulary of WordPiece, at least.
_MIN_CONTINUING_SHARE = 0.01

#: Words with everything that normalizers change: case, accents, marks (also at the beginning),
#: ligatures, final sigmas, ideographs, white space, punctuation and special tokens.
_PROBES = (
    "", "a", "lord", "Lord's", "don't", "x-y,", "(1,000.5)", "##s", "[UNK]", "[MASK]", "</s>",
    "\N{LATIN CAPITAL LETTER E WITH ACUTE}t\N{LATIN SMALL LETTER E WITH ACUTE}", "e\u0301",
    "\u0301e", "\N{LATIN SMALL LIGATURE FI}n", "\u03a3\u03b1\u03a3", "\u4e2d\u6587", "\u200b",
    "\xa0", "\t", "a\nb", "\u3000", "\xad", "\N{GRINNING FACE}", "\N{DIAERESIS}",
)  # fmt: skip


def remember_words(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer with the same ids that remembers words, if these do not depend on others.

    That holds for WordPiece. The tokens of other kinds include the space before a word.
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
    """A tokenizer that remembers the ids of words, the parts between spaces. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Use ``tokenizer`` for other words, and for all else.

        Args:
            tokenizer: gives for a text the ids of its words, one after another.
        """
        self._tokenizer = tokenizer
        self.template = tokenizer.template
        self.pairs_with_nothing = tokenizer.pairs_with_nothing
        self.splits_at_spaces = tokenizer.splits_at_spaces
        self.vocabulary = tokenizer.vocabulary
        #: It only grows, and is replaced when it is full: threads that use it lose no word.
        self._ids: dict[str, tuple[int, ...]] = {"": ()}

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """All token ids of each text: nothing cut, none added."""
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
        """Tokenize the unknown words of texts, or whole texts where most words are unknown."""
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
        """The tokens of ``pieces``: id, and places of the first character and behind the last."""
        return self._tokenizer.spans(texts)

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        """The text of each sequence of ids, without special tokens if ``skip_special``."""
        return self._tokenizer.decode(ids, skip_special=skip_special)

    def identity(self) -> str:
        """A text that is the same for tokenizers that give the same ids."""
        return self._tokenizer.identity()

    def token(self, number: int) -> str:
        """The token that an id stands for."""
        return self._tokenizer.token(number)

    def look_up_token(self, token: str) -> int:
        """The id of a token; that of the unknown token for others."""
        return self._tokenizer.look_up_token(token)

    def trim(self, first: int, second: int, max_tokens: int) -> tuple[int, int]:
        """How many tokens stay of the texts of a pair, so that ``max_tokens`` of them are left."""
        return self._tokenizer.trim(first, second, max_tokens)
