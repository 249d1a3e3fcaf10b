"""Google's FullTokenizer, by means of the ``tokenizers`` library.

The rules are those of ``tokenization.py`` of google-research/bert. Where the library's normalizer
differs from them, ``CleanText`` changes the text before.
"""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertq_bert.errors import BadVocabulary, MissingFile
from bertq_bert.tokenizing.base import Tokenizer
from bertq_bert.tokenizing.cleaning import CleanText
from bertq_bert.tokenizing.sequences import trim_like_google
from bertq_bert.tokenizing.template import Template
from bertq_bert.tokenizing.vocabulary import (
    check_size,
    read_settings,
    read_tokenizer_json,
    read_vocab,
)

_CLS, _SEP, _UNK = "[CLS]", "[SEP]", "[UNK]"
_SPECIAL_TOKENS = {_CLS, _SEP, _UNK, "[PAD]", "[MASK]"}
_MAX_WORD_CHARACTERS = 100  # a longer word is [UNK]


class GoogleTokenizer(Tokenizer):
    """Google's WordPiece tokenizer; thread-safe.

    Special tokens in a text are like other characters: ``"[SEP]"`` becomes ``[``, ``sep``, ``]``.
    """

    pairs_with_nothing = False  # as in bert-as-service

    def __init__(
        self,
        vocabulary: dict[str, int],
        *,
        cased: bool,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
    ) -> None:
        """Create the tokenizer.

        Args:
            vocabulary: ids of tokens.
            cased: whether to keep upper case.
            strip_accents: whether to remove accents; None removes them unless ``cased``.
            split_cjk: whether each ideograph is a word.

        Raises:
            BadVocabulary: ``[CLS]``, ``[SEP]`` or ``[UNK]`` is missing.
        """
        missing = [token for token in (_CLS, _SEP, _UNK) if token not in vocabulary]
        if missing:
            raise BadVocabulary(f"the vocabulary has no {', '.join(missing)}: not one of BERT's")
        self.cased = cased
        self.strip_accents = not cased if strip_accents is None else strip_accents
        self.split_cjk = split_cjk
        self.vocabulary = vocabulary
        self._tokens = {number: token for token, number in vocabulary.items()}
        self._unk = vocabulary[_UNK]
        cls, sep = (vocabulary[_CLS],), (vocabulary[_SEP],)
        self.template = Template(cls, sep, (cls, sep, sep))
        self._drop = CleanText(strip_accents=False, isolate=False)
        self._clean = CleanText(strip_accents=self.strip_accents, isolate=True)
        self._rust = RustTokenizer(
            WordPiece(vocabulary, unk_token=_UNK, max_input_chars_per_word=_MAX_WORD_CHARACTERS)
        )
        self._rust.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=split_cjk,
            strip_accents=self.strip_accents,
            lowercase=not cased,
        )
        self._rust.pre_tokenizer = BertPreTokenizer()
        self._rust.decoder = WordPieceDecoder()

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Return all token ids of each text, without special tokens around it."""
        cleaned = [text if text.isascii() else self._rewrite(text) for text in texts]
        pieces = self._rust.encode_batch_fast(cleaned, add_special_tokens=False)
        return [piece.ids for piece in pieces]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """Return (id, start, stop) of each token of ``pieces``, as ``Tokenizer`` defines them."""
        found = self._rust.encode_batch(list(map(self._rewrite, texts)), add_special_tokens=False)
        rows = []
        for text, row in zip(texts, found, strict=True):
            places = self._places(text)
            rows.append(
                [
                    (number, places[start], places[stop - 1] + 1)
                    for number, (start, stop) in zip(row.ids, row.offsets, strict=True)
                ]
            )
        return rows

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        """Return the text of each sequence of ids, without special tokens if ``skip_special``."""
        shown = [
            [number for number in row if self._tokens.get(number) not in _SPECIAL_TOKENS]
            if skip_special
            else list(row)
            for row in ids
        ]
        found: list[str] = self._rust.decode_batch(shown, skip_special_tokens=False)
        return found

    def trim(self, first: int, second: int, max_tokens: int) -> tuple[int, int]:
        """Return how many tokens of each text of a pair to keep, as google-research/bert does."""
        return trim_like_google(first, second, max_tokens)

    def token(self, number: int) -> str:
        """Return the token with an id."""
        return self._tokens[number]

    def look_up_token(self, token: str) -> int:
        """Return the id of a token; of ``[UNK]`` if it is not in the vocabulary."""
        return self.vocabulary.get(token, self._unk)

    def identity(self) -> str:
        """Return everything that changes an id, as JSON.

        Python's Unicode version is a part of it, because unassigned characters are removed.
        """
        settings = {
            "unicode": unicodedata.unidata_version,
            "vocabulary": sorted(self.vocabulary.items(), key=lambda item: (item[1], item[0])),
            "cased": self.cased,
            "strip_accents": self.strip_accents,
            "split_cjk": self.split_cjk,
        }
        return json.dumps(settings, sort_keys=True)

    def _rewrite(self, text: str) -> str:
        if not self.cased and "Σ" in text:
            # The library's lower case of a final sigma is not that of Python and Google's code.
            text = text.translate(self._drop).lower()
        return text.translate(self._clean)

    def _places(self, text: str) -> list[int]:
        """Return the index in the text of each character of ``_rewrite(text)``."""
        found: list[int] = []
        is_lowered = not self.cased and "Σ" in text
        for place, character in enumerate(text):
            if is_lowered:
                character = character.translate(self._drop).lower()
            found += [place] * len(character.translate(self._clean))
        return found


def load_tokenizer(
    model_dir: Path, *, cased: bool | None = None, embeddings: int | None = None
) -> GoogleTokenizer:
    """Read ``vocab.txt``, or ``tokenizer.json`` without its settings of padding and truncation.

    Args:
        model_dir: the directory.
        cased: whether to keep upper case. None takes it from ``tokenizer_config.json``; otherwise
            from ``tokenizer.json``, if the vocabulary is read from that; otherwise from the name of
            the directory, where the default is uncased.
        embeddings: rows of the embedding table, at least the number of tokens; None for no check.

    Raises:
        MissingFile: the directory has neither file.
        BrokenFile: a file is damaged.
        BadVocabulary: a special token is missing, or the vocabulary has too many tokens.
        UnsupportedModel: ``tokenizer.json`` has another kind of tokenizer.
    """
    settings = read_settings(model_dir / "tokenizer_config.json")
    if (model_dir / "vocab.txt").is_file():
        path = model_dir / "vocab.txt"
        vocabulary = read_vocab(path)
    elif (model_dir / "tokenizer.json").is_file():
        path = model_dir / "tokenizer.json"
        vocabulary, normalizer = read_tokenizer_json(path)
        settings = normalizer | settings
    else:
        raise MissingFile(f"no vocab.txt and no tokenizer.json in {model_dir}")
    check_size(vocabulary, embeddings, path)
    if cased is None:
        cased = not settings.get("lowercase", not _cased_by_name(model_dir.name))
    try:
        return GoogleTokenizer(
            vocabulary,
            cased=cased,
            strip_accents=settings.get("strip_accents"),
            split_cjk=settings.get("split_cjk", True),
        )
    except BadVocabulary as error:
        raise BadVocabulary(f"{path}: {error}") from None


def _cased_by_name(name: str) -> bool:
    # Google's chinese_* and multilingual_* are uncased, and multi_cased_* is cased.
    return "cased" in name.lower().replace("uncased", "")
