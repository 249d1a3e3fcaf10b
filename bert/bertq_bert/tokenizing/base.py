"""The base class of tokenizers: truncation, special tokens, and lists of tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

from bertq_bert.errors import BadIds
from bertq_bert.tokenizing import shortening
from bertq_bert.tokenizing.sequences import Ids, Tokenized, TokenPlace, trim_like_transformers
from bertq_bert.tokenizing.template import Template

BAR, BAR_TOKEN = " ||| ", "|||"  # between the sides of a pair: in a text, and in a list of tokens

#: Maximum characters of a side of a pair whose tokens are counted. For a longer side, the number of
#: characters is used instead, to find out which side is the longer one.
_MAX_COUNTED_CHARACTERS = 50_000

#: A text, or a pair of texts.
Text: TypeAlias = str | tuple[str, str]


class Tokenizer(ABC):
    """The base class of tokenizers, which convert texts to token ids; thread-safe."""

    #: the special tokens around texts
    template: Template
    #: whether a pair whose second text has no tokens is still a pair
    pairs_with_nothing = True
    #: whether no token extends across a space
    splits_at_spaces = True
    #: ids of tokens
    vocabulary: dict[str, int]

    @abstractmethod
    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Return all token ids of each text, without special tokens around it."""

    @abstractmethod
    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """Return the tokens of ``pieces`` with their positions in each text.

        Returns:
            For each token its id, the index of its first character, and the index after its last.
        """

    @abstractmethod
    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        """Return the text of each sequence of ids, without special tokens if ``skip_special``."""

    @abstractmethod
    def identity(self) -> str:
        """Return a string that changes with everything that changes an id."""

    @abstractmethod
    def token(self, number: int) -> str:
        """Return the token with an id."""

    @abstractmethod
    def look_up_token(self, token: str) -> int:
        """Return the id of a token; of the unknown token if it is not in the vocabulary."""

    def split(self, text: str) -> Text:
        """Split a text ``first ||| second`` into a pair; return a text without two sides unchanged.

        As in bert-as-service, the last bar with a text on both sides separates the pair.
        """
        if BAR not in text:
            return text
        first, bar, second = text.strip().rpartition(BAR)
        return (first, second) if bar else text

    def trim(self, first: int, second: int, max_tokens: int) -> tuple[int, int]:
        """Return how many tokens of each text of a pair to keep, ``max_tokens`` together."""
        return trim_like_transformers(first, second, max_tokens)

    def encode(
        self,
        texts: Sequence[Text],
        max_seq_len: int,
        *,
        truncate: str = "right",
        prompt: str = "",
        mark_prompt: bool = False,
    ) -> Tokenized:
        """Return the token ids of each text, with special tokens, and truncated.

        Args:
            texts: texts and pairs of texts.
            max_seq_len: maximum ids of a text, including special tokens.
            truncate: the side on which long texts are truncated, ``"right"`` or ``"left"``.
            prompt: put before each text, but not before pairs.
            mark_prompt: whether to mark the tokens of the prompt, so that the pooling ignores them.
        """
        pairs = [row for row, text in enumerate(texts) if not isinstance(text, str)]
        flat = [prompt + text if isinstance(text, str) else text[0] for text in texts]
        flat += [texts[row][1] for row in pairs]
        found, counts = shortening.pieces(self, flat, max_seq_len, truncate)
        seconds = {row: len(texts) + number for number, row in enumerate(pairs)}
        leading = self._prompt_tokens(prompt, max_seq_len) if prompt and mark_prompt else 0
        rows: list[list[int]] = []
        cut = []
        for row, ids in enumerate(found[: len(texts)]):
            if row in seconds:
                other = seconds[row]
                sides = (flat[row], ids, counts[row]), (flat[other], found[other], counts[other])
                kept, is_cut = self._truncate_pair(
                    ids, found[other], max_seq_len, truncate, *self._counts(sides, max_seq_len)
                )
            else:
                kept, is_cut = self._truncate_single(ids, max_seq_len, truncate, leading)
            rows.append(kept)
            if is_cut:
                cut.append(row)
        return Tokenized(rows, cut)

    def locate(self, texts: Sequence[str], *, special_tokens: bool) -> list[list[TokenPlace]]:
        """Return the tokens of each text and their positions in it, without truncation.

        Args:
            texts: the texts.
            special_tokens: whether to add the special tokens around a text.
        """
        before, behind = (
            [TokenPlace(number, self.token(number), None, None) for number in numbers]
            for numbers in (self.template.before, self.template.behind)
        )
        rows = []
        for text, spans in zip(texts, self.spans(texts), strict=True):
            row = [
                TokenPlace(number, text[start:stop], start, stop) for number, start, stop in spans
            ]
            rows.append([*before, *row, *behind] if special_tokens else row)
        return rows

    def look_up(
        self,
        texts: Sequence[Sequence[str]],
        max_seq_len: int,
        *,
        truncate: str = "right",
        bare: bool = False,
    ) -> Tokenized:
        """Return the ids of lists of tokens in the form of ``encode``.

        Args:
            texts: lists of tokens. The first ``|||`` separates the texts of a pair. A token that is
                not in the vocabulary gets the id of the unknown token.
            max_seq_len: maximum ids of a list, including special tokens.
            truncate: the side on which long lists are truncated, ``"right"`` or ``"left"``.
            bare: whether to add no special tokens.

        Raises:
            BadIds: a token is not in the vocabulary, and the vocabulary has no unknown token.
        """
        rows: list[list[int]] = []
        cut = []
        for row, tokens in enumerate(texts):
            ids = [self.look_up_token(token) for token in tokens]
            bar = tokens.index(BAR_TOKEN) if BAR_TOKEN in tokens else len(ids)
            if bare and len(ids) == 1:
                bar = 1  # otherwise the row of a lone bar would be empty
            if bare:
                kept, is_cut = self._truncate_bare(ids[:bar], ids[bar + 1 :], max_seq_len, truncate)
            elif bar < len(ids) - 1:
                kept, is_cut = self._truncate_pair(
                    ids[:bar], ids[bar + 1 :], max_seq_len, truncate, bar, len(ids) - bar - 1
                )
            else:
                kept, is_cut = self._truncate_single(ids[:bar], max_seq_len, truncate)
            rows.append(kept)
            if is_cut:
                cut.append(row)
        return Tokenized(rows, cut)

    def wordpieces(self, texts: Sequence[str]) -> list[list[str]]:
        """Return all tokens of each text, without special tokens around it."""
        return [self.tokens(ids) for ids in self.pieces(texts)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the tokens with these ids."""
        return [self.token(number) for number in ids]

    def _truncate_single(
        self, ids: list[int], max_seq_len: int, truncate: str, leading: int = 0
    ) -> tuple[list[int], bool]:
        max_tokens = max_seq_len - self.template.size
        excess = max(0, len(ids) - max_tokens)
        if truncate == "left":
            leading = max(0, leading - excess)
        return self.template.single(_truncate_ids(ids, max_tokens, truncate), leading), excess > 0

    def _counts(
        self, sides: tuple[tuple[str, list[int], int], ...], max_seq_len: int
    ) -> tuple[int, int]:
        """Return the number of tokens of each side of a pair, as exactly as truncation needs it.

        If both sides are truncated, the longer one may keep one token more. Only then the exact
        numbers are needed.

        Args:
            sides: for each side its text, its ids, which may be a part, and its known count.
            max_seq_len: maximum ids of the pair, including special tokens.
        """
        max_tokens = max_seq_len - self.template.pair_size
        both = all(2 * count > max_tokens for _, _, count in sides)
        first, second = (
            len(self.pieces([text])[0])
            if both
            and max_tokens % 2
            and count != len(ids)
            and len(text) <= _MAX_COUNTED_CHARACTERS
            else count
            for text, ids, count in sides
        )
        return first, second

    def _truncate_pair(
        self,
        first: list[int],
        second: list[int],
        max_seq_len: int,
        truncate: str,
        first_count: int,
        second_count: int,
    ) -> tuple[list[int], bool]:
        if not second and not self.pairs_with_nothing:
            return self._truncate_single(first, max_seq_len, truncate)
        max_tokens = max_seq_len - self.template.pair_size
        left, right = self.trim(first_count, second_count, max_tokens)
        first, second = _truncate_ids(first, left, truncate), _truncate_ids(second, right, truncate)
        if not second and not self.pairs_with_nothing:
            row = self.template.single(first)
        else:
            row = self.template.double(first, second)
        return row, left + right < first_count + second_count

    def _truncate_bare(
        self, first: list[int], second: list[int], max_seq_len: int, truncate: str
    ) -> tuple[list[int], bool]:
        left, right = self.trim(len(first), len(second), max_seq_len)
        row = Ids(
            [*_truncate_ids(first, left, truncate), *_truncate_ids(second, right, truncate)],
            second=left,
        )
        return row, left + right < len(first) + len(second)

    def _prompt_tokens(self, prompt: str, max_seq_len: int) -> int:
        """Return the number of leading tokens of a row that belong to the prompt.

        Like sentence-transformers, it counts the tokens of the prompt alone with its special
        tokens, except for the last special token.
        """
        (ids,) = self.pieces([prompt])
        whole = min(len(ids) + self.template.size, max_seq_len)
        return whole - 1 if self.template.behind else whole


def _truncate_ids(ids: list[int], count: int, truncate: str) -> list[int]:
    """Return the first ``count`` ids; the last ones if they are truncated on the left."""
    if len(ids) <= count:
        return ids
    return ids[len(ids) - count :] if truncate == "left" else ids[:count]


def check_pairs(texts: Sequence[object]) -> None:
    """Check that each element is a text or a pair of texts.

    Raises:
        BadIds: an element is neither.
    """
    for row, text in enumerate(texts):
        if isinstance(text, str):
            continue
        sides = text if isinstance(text, tuple | list) else ()
        if len(sides) != 2 or not all(isinstance(side, str) for side in sides):
            raise BadIds(f"row {row} is neither a text nor a pair of two texts")
