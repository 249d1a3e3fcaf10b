"""Google's FullTokenizer, done by the `tokenizers` library.

Source of the rules: `tokenization.py` of google-research/bert. The library's normaliser
differs from them in places, which `_CleanText` puts right before it sees the text.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertq_bert.config import read_json
from bertq_bert.errors import BadVocabulary, BrokenFile, MissingFile, NotBert

_CLS, _SEP, _UNK = "[CLS]", "[SEP]", "[UNK]"
_LONGEST_WORD = 100  # characters; a longer word is [UNK]


class Tokenizer:
    """Text to WordPiece ids; safe to use from many threads.

    No token is special to it: `"[SEP]"` in a text is `[`, `sep`, `]`.
    """

    def __init__(
        self,
        vocabulary: dict[str, int],
        *,
        cased: bool,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
    ) -> None:
        """Use `vocabulary` (token -> id); `strip_accents=None` strips them unless cased.

        Raises
        ------
        BadVocabulary
            `[CLS]`, `[SEP]` or `[UNK]` is missing.
        """
        missing = [token for token in (_CLS, _SEP, _UNK) if token not in vocabulary]
        if missing:
            raise BadVocabulary(f"the vocabulary has no {', '.join(missing)}: not one of BERT's")
        self.cased = cased
        self.strip_accents = not cased if strip_accents is None else strip_accents
        self.split_cjk = split_cjk
        self.vocabulary = vocabulary
        self._tokens = {number: token for token, number in vocabulary.items()}
        self._cls, self._sep = vocabulary[_CLS], vocabulary[_SEP]
        self._drop = _CleanText(strip_accents=False, isolate=False)
        self._clean = _CleanText(strip_accents=self.strip_accents, isolate=True)
        self._rust = RustTokenizer(
            WordPiece(vocabulary, unk_token=_UNK, max_input_chars_per_word=_LONGEST_WORD)
        )
        self._rust.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=split_cjk,
            strip_accents=self.strip_accents,
            lowercase=not cased,
        )
        self._rust.pre_tokenizer = BertPreTokenizer()

    def encode(self, texts: Sequence[str], max_seq_len: int) -> list[list[int]]:
        """Ids of `[CLS] tokens [SEP]`, cut on the right to `max_seq_len` ids (at least 2)."""
        room = max_seq_len - 2
        return [[self._cls, *ids[:room], self._sep] for ids in self._encode(texts)]

    def wordpieces(self, texts: Sequence[str]) -> list[list[str]]:
        """All word pieces of each text: nothing cut, no `[CLS]` or `[SEP]` added."""
        return [self.tokens(ids) for ids in self._encode(texts)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens that `ids` stand for."""
        return [self._tokens[number] for number in ids]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        cleaned = [text if text.isascii() else self._rewrite(text) for text in texts]
        pieces = self._rust.encode_batch_fast(cleaned, add_special_tokens=False)
        return [piece.ids for piece in pieces]

    def _rewrite(self, text: str) -> str:
        if not self.cased and "Σ" in text:
            # Python lower-cases a final sigma as Google's code does, the library does not
            text = text.translate(self._drop).lower()
        return text.translate(self._clean)


class _CleanText(dict[int, int | str | None]):
    """A `str.translate` table, filled as characters turn up, for what the library gets wrong.

    It keeps unassigned characters and lone surrogates (the latter make it raise), and its
    tables of controls, punctuation, accents and CJK blocks are older than Python's.
    """

    def __init__(self, *, strip_accents: bool, isolate: bool) -> None:
        self._strip_accents = strip_accents
        self._isolate = isolate

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        category = unicodedata.category(char)
        if (category[0] == "C" and char not in "\t\n\r") or char == "\ufffd":
            return None  # not remembered: nearly a million of them
        if category == "Mn" and self._strip_accents:
            self[code] = None
        elif self._isolate and code > 0x7F and (category[0] == "P" or 0x2B820 <= code <= 0x2B91F):
            self[code] = f" {char} "
        else:
            self[code] = code
        return self[code]


def load_tokenizer(
    model_dir: Path, *, cased: bool | None = None, embeddings: int | None = None
) -> Tokenizer:
    """Read `vocab.txt` or, without one, `tokenizer.json` (not its padding and truncation).

    Parameters
    ----------
    cased
        None takes it from `tokenizer_config.json`, then from `tokenizer.json` where that
        is the vocabulary, then from the directory's name, else uncased.
    embeddings
        Rows of the embedding table, which must not be fewer than tokens.

    Raises
    ------
    MissingFile, BrokenFile, BadVocabulary
        There is no usable vocabulary.
    NotBert
        `tokenizer.json` holds another kind of tokenizer.
    """
    settings = _settings(model_dir / "tokenizer_config.json")
    if (model_dir / "vocab.txt").is_file():
        path = model_dir / "vocab.txt"
        vocabulary = _read_vocab(path)
    elif (model_dir / "tokenizer.json").is_file():
        path = model_dir / "tokenizer.json"
        vocabulary, normalizer = _read_tokenizer_json(path)
        settings = normalizer | settings
    else:
        raise MissingFile(f"no vocab.txt and no tokenizer.json in {model_dir}")
    size = max(vocabulary.values(), default=-1) + 1
    if embeddings is not None and size > embeddings:
        raise BadVocabulary(
            f"{path} has {size} tokens, the embedding table only {embeddings}: "
            f"they belong to different models"
        )
    if cased is None:
        cased = not settings.get("lowercase", not _cased_by_name(model_dir.name))
    try:
        return Tokenizer(
            vocabulary,
            cased=cased,
            strip_accents=settings.get("strip_accents"),
            split_cjk=settings.get("split_cjk", True),
        )
    except BadVocabulary as error:
        raise BadVocabulary(f"{path}: {error}") from None


def _read_vocab(path: Path) -> dict[str, int]:
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenFile(f"{path} cannot be read as UTF-8 text: {type(error).__name__}") from error
    if not lines[-1]:
        lines.pop()
    return {line.strip(): number for number, line in enumerate(lines)}


def _read_tokenizer_json(path: Path) -> tuple[dict[str, int], dict[str, bool]]:
    raw = read_json(path)
    model = _part(raw, "model", "WordPiece", path)
    normalizer = _part(raw, "normalizer", "BertNormalizer", path)
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not all(
        isinstance(number, int) and number >= 0 for number in vocabulary.values()
    ):
        raise BrokenFile(f"{path} has no vocabulary of tokens and ids")
    return vocabulary, _flags(normalizer, "lowercase", "handle_chinese_chars")


def _part(raw: dict[str, Any], name: str, wanted: str, path: Path) -> dict[str, Any]:
    part = raw.get(name)
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind != wanted:
        raise NotBert(f"{path}: {name} is {kind}, BERT's is {wanted}: add the model's vocab.txt")
    return part


def _settings(path: Path) -> dict[str, bool]:
    if not path.is_file():
        return {}
    return _flags(read_json(path), "do_lower_case", "tokenize_chinese_chars")


def _flags(raw: dict[str, Any], lowercase: str, split_cjk: str) -> dict[str, bool]:
    names = {"lowercase": lowercase, "strip_accents": "strip_accents", "split_cjk": split_cjk}
    return {ours: raw[name] for ours, name in names.items() if isinstance(raw.get(name), bool)}


def _cased_by_name(name: str) -> bool:
    # Google's chinese_* and multilingual_* are uncased, multi_cased_* is cased
    return "cased" in name.lower().replace("uncased", "")
