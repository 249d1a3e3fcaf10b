"""The base class of tokenizers: cuts texts, adds special tokens, looks tokens up."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

from bertq_bert.errors import BadIds
from bertq_bert.tokenizing import shortening
from bertq_bert.tokenizing.sequences import Ids, Tokenized, TokenPlace, trim_like_transformers
from bertq_bert.tokenizing.template import Template

BAR, BAR_TOKEN = " ||| ", "|||"  # between the sides of a pair: in text, among tokens

#: Characters of a side of a pair up to which its tokens are counted. Of longer ones the characters
#: say which is the longer one.
_MAX_COUNTED_CHARACTERS = 50_000

#: A text, or a pair of them.
Text: TypeAlias = str | tuple[str, str]


class Tokenizer(ABC):
    """Texts to token ids; safe to use from many threads."""

    template: Template
    #: whether a second text without a token still makes a pair
    pairs_with_nothing = True
    #: whether no token reaches over a space
    splits_at_spaces = True
    #: tokens with their ids
    vocabulary: dict[str, int]

    @abstractmethod
    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """All token ids of each text: nothing cut, no special tokens around them."""

    @abstractmethod
    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """The tokens of ``pieces``: id, and places of the first character and behind the last."""

    @abstractmethod
    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        """The text of each sequence of ids, without special tokens if ``skip_special``."""

    @abstractmethod
    def identity(self) -> str:
        """A text that is the same for tokenizers that give the same ids."""

    @abstractmethod
    def token(self, number: int) -> str:
        """The token that an id stands for."""

    @abstractmethod
    def look_up_token(self, token: str) -> int:
        """The id of a token; that of the unknown token for others."""

    def split(self, text: str) -> Text:
        """Split ``first ||| second``; a text without both sides stays as it is.

        As in bert-as-service the last bar counts, with something on either side of it.
        """
        if BAR not in text:
            return text
        first, bar, second = text.strip().rpartition(BAR)
        return (first, second) if bar else text

    def trim(self, first: int, second: int, max_tokens: int) -> tuple[int, int]:
        """How many tokens stay of the texts of a pair, so that ``max_tokens`` of them are left."""
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
        """Ids of each text, at most ``max_seq_len`` with the special tokens.

        Args:
            texts: texts, and pairs of them.
            max_seq_len: most ids of one.
            truncate: the end that is cut off a long text, ``"right"`` or ``"left"``.
            prompt: put before each text, but not before pairs.
            mark_prompt: whether the prompt's tokens are marked to be left out of the pooling.
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
        """All tokens of each text with their places; nothing cut.

        Args:
            texts: the texts.
            special_tokens: whether to add those around a text.
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
        """Look up tokens as they are, with the result of ``encode``; other tokens are unknown.

        The first token ``|||`` stands between the sides of a pair. With ``bare`` no special tokens
        are added.
        """
        rows: list[list[int]] = []
        cut = []
        for row, tokens in enumerate(texts):
            ids = [self.look_up_token(token) for token in tokens]
            bar = tokens.index(BAR_TOKEN) if BAR_TOKEN in tokens else len(ids)
            if bare and len(ids) == 1:
                bar = 1  # nothing would be left of a bar alone
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
        """All tokens of each text: nothing cut, no special tokens added."""
        return [self.tokens(ids) for ids in self.pieces(texts)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens that ``ids`` stand for."""
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
        """How many tokens the sides of a pair have, as exactly as cutting them needs it.

        Where both are cut, the longer one keeps the odd token.
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
        """Leading tokens of a row that are the prompt's.

        As sentence-transformers counts them: those of the prompt alone in its special tokens,
        without the last special one.
        """
        (ids,) = self.pieces([prompt])
        whole = min(len(ids) + self.template.size, max_seq_len)
        return whole - 1 if self.template.behind else whole


def _truncate_ids(ids: list[int], count: int, truncate: str) -> list[int]:
    """The first ``count`` of some ids, or the last ones where they are cut on the left."""
    if len(ids) <= count:
        return ids
    return ids[len(ids) - count :] if truncate == "left" else ids[:count]


def check_pairs(texts: Sequence[object]) -> None:
    """Raise ``BadIds`` for an element that is neither a text nor a pair of texts."""
    for row, text in enumerate(texts):
        if isinstance(text, str):
            continue
        sides = text if isinstance(text, tuple | list) else ()
        if len(sides) != 2 or not all(isinstance(side, str) for side in sides):
            raise BadIds(f"row {row} is neither a text nor a pair of two texts")
