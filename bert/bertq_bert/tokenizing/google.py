"""Google's FullTokenizer, done by the ``tokenizers`` library.

Source of the rules: ``tokenization.py`` of google-research/bert. The library's normaliser
differs from them in places, which ``CleanText`` puts right before it sees the text.
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
_MAX_WORD_CHARACTERS = 100  # characters; a longer word is [UNK]


class GoogleTokenizer(Tokenizer):
    """Text to WordPiece ids; safe to use from many threads.

    No token is special to it: ``"[SEP]"`` in a text is ``[``, ``sep``, ``]``.
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
        """Use ``vocabulary`` (token -> id); ``strip_accents=None`` strips them unless cased.

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
        """All token ids of each text: nothing cut, none added."""
        cleaned = [text if text.isascii() else self._rewrite(text) for text in texts]
        pieces = self._rust.encode_batch_fast(cleaned, add_special_tokens=False)
        return [piece.ids for piece in pieces]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """The tokens of ``pieces``: id, and places of the first character and behind the last."""
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
        """The text of each sequence of ids, without special tokens if ``skip_special``."""
        shown = [
            [number for number in row if self._tokens.get(number) not in _SPECIAL_TOKENS]
            if skip_special
            else list(row)
            for row in ids
        ]
        found: list[str] = self._rust.decode_batch(shown, skip_special_tokens=False)
        return found

    def trim(self, first: int, second: int, max_tokens: int) -> tuple[int, int]:
        """As ``_truncate_seq_pair`` of google-research/bert."""
        return trim_like_google(first, second, max_tokens)

    def token(self, number: int) -> str:
        """The token that an id stands for."""
        return self._tokens[number]

    def look_up_token(self, token: str) -> int:
        """The id of a token; that of ``[UNK]`` for others."""
        return self.vocabulary.get(token, self._unk)

    def identity(self) -> str:
        """Return all that changes an id.

        Python's Unicode version is part of it: it decides which characters are unassigned
        and dropped.
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
            # Python lower-cases a final sigma as Google's code does, the library does not
            text = text.translate(self._drop).lower()
        return text.translate(self._clean)

    def _places(self, text: str) -> list[int]:
        """Where in the text each character of ``_rewrite`` comes from."""
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
    """Read ``vocab.txt`` or, without one, ``tokenizer.json`` (not its padding and truncation).

    Args:
        model_dir: the directory.
        cased: None takes it from ``tokenizer_config.json``, then from ``tokenizer.json`` where that
            is the vocabulary, then from the directory's name, else uncased.
        embeddings: rows of the embedding table, which must not be fewer than tokens.

    Raises:
        MissingFile, BrokenFile, BadVocabulary: there is no usable vocabulary.
        UnsupportedModel: ``tokenizer.json`` holds another kind of tokenizer.
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
    # Google's chinese_* and multilingual_* are uncased, multi_cased_* is cased
    return "cased" in name.lower().replace("uncased", "")
