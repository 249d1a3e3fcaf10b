"""Google's FullTokenizer, done by the ``tokenizers`` library.

Source of the rules: ``tokenization.py`` of google-research/bert. The library's normaliser
differs from them in places, which ``CleanText`` puts right before it sees the text.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertq_bert.errors import BadVocabulary, MissingFile
from bertq_bert.tokenizing.cleaning import CleanText
from bertq_bert.tokenizing.sequences import Ids, Tokenized, trimmed
from bertq_bert.tokenizing.vocabulary import read_settings, read_tokenizer_json, read_vocab

_CLS, _SEP, _UNK = "[CLS]", "[SEP]", "[UNK]"
_BAR, _BAR_TOKEN = " ||| ", "|||"  # between the sides of a pair: in text, among tokens
_LONGEST_WORD = 100  # characters; a longer word is [UNK]


class Tokenizer:
    """Text to WordPiece ids; safe to use from many threads.

    No token is special to it: ``"[SEP]"`` in a text is ``[``, ``sep``, ``]``.
    """

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
        self._cls, self._sep, self._unk = (vocabulary[token] for token in (_CLS, _SEP, _UNK))
        self._drop = CleanText(strip_accents=False, isolate=False)
        self._clean = CleanText(strip_accents=self.strip_accents, isolate=True)
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

    def encode(
        self, texts: Sequence[str], max_seq_len: int, *, truncate: str = "right"
    ) -> Tokenized:
        """Ids of ``[CLS] tokens [SEP]``, at most ``max_seq_len`` of them (at least 3).

        ``first ||| second`` is a pair: ``[CLS] first [SEP] second [SEP]``. What is too long is cut
        at its ``"right"`` or ``"left"`` end.
        """
        # as in bert-as-service: the last one counts, with something on either side of it
        sides = {
            row: text.strip().rpartition(_BAR)
            for row, text in enumerate(texts)
            if _BAR in text and _BAR in text.strip()
        }
        if not sides:
            return self._framed(self._encode(texts), max_seq_len, truncate)
        firsts = [sides[row][0] if row in sides else text for row, text in enumerate(texts)]
        found = self._encode([*firsts, *(side[2] for side in sides.values())])
        seconds = dict(zip(sides, found[len(texts) :], strict=True))
        return self._paired(found[: len(texts)], seconds, max_seq_len, truncate)

    def look_up(
        self,
        texts: Sequence[Sequence[str]],
        max_seq_len: int,
        *,
        truncate: str = "right",
        bare: bool = False,
    ) -> Tokenized:
        """Ids of tokens as they are, as ``encode``; what is not in the vocabulary is ``[UNK]``.

        The first token ``|||`` stands between the sides of a pair. With ``bare`` no ``[CLS]`` and
        ``[SEP]`` are added.
        """
        firsts, seconds = [], {}
        for row, tokens in enumerate(texts):
            ids = [self.vocabulary.get(token, self._unk) for token in tokens]
            bar = tokens.index(_BAR_TOKEN) if _BAR_TOKEN in tokens else len(ids)
            if bare and len(ids) == 1:
                bar = 1  # nothing would be left of a bar alone
            firsts.append(ids[:bar])
            if bar < len(ids):
                seconds[row] = ids[bar + 1 :]
        if bare or seconds:
            return self._paired(firsts, seconds, max_seq_len, truncate, bare=bare)
        return self._framed(firsts, max_seq_len, truncate)

    def _framed(self, pieces: list[list[int]], max_seq_len: int, truncate: str) -> Tokenized:
        room = max_seq_len - 2
        cut = [row for row, ids in enumerate(pieces) if len(ids) > room]
        for row in cut:
            pieces[row] = _kept(pieces[row], room, truncate)
        return Tokenized([[self._cls, *ids, self._sep] for ids in pieces], cut)

    def _paired(
        self,
        firsts: list[list[int]],
        seconds: dict[int, list[int]],
        max_seq_len: int,
        truncate: str,
        *,
        bare: bool = False,
    ) -> Tokenized:
        rows: list[list[int]] = []
        cut = []
        for row, first in enumerate(firsts):
            second = seconds.get(row, [])
            frame = 0 if bare else 2 + bool(second)
            left, right = trimmed(len(first), len(second), max_seq_len - frame)
            if left + right < len(first) + len(second):
                cut.append(row)
            # a second side of which nothing is left makes no pair, as in bert-as-service
            one, other = _kept(first, left, truncate), _kept(second, right, truncate)
            if bare:
                rows.append(Ids([*one, *other], second=left, bare=True))
            elif other:
                ids = [self._cls, *one, self._sep, *other, self._sep]
                rows.append(Ids(ids, second=left + 2, bare=False))
            else:
                rows.append([self._cls, *one, self._sep])
        return Tokenized(rows, cut)

    def wordpieces(self, texts: Sequence[str]) -> list[list[str]]:
        """All word pieces of each text: nothing cut, no ``[CLS]`` or ``[SEP]`` added."""
        return [self.tokens(ids) for ids in self._encode(texts)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens that ``ids`` stand for."""
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


def _kept(ids: list[int], count: int, truncate: str) -> list[int]:
    """The first ``count`` of some ids, or the last ones where they are cut on the left."""
    return ids[len(ids) - count :] if truncate == "left" else ids[:count]


def load_tokenizer(
    model_dir: Path, *, cased: bool | None = None, embeddings: int | None = None
) -> Tokenizer:
    """Read ``vocab.txt`` or, without one, ``tokenizer.json`` (not its padding and truncation).

    Args:
        cased: None takes it from ``tokenizer_config.json``, then from ``tokenizer.json`` where that
            is the vocabulary, then from the directory's name, else uncased.
        embeddings: rows of the embedding table, which must not be fewer than tokens.

    Raises:
        MissingFile, BrokenFile, BadVocabulary: there is no usable vocabulary.
        NotBert: ``tokenizer.json`` holds another kind of tokenizer.
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


def _cased_by_name(name: str) -> bool:
    # Google's chinese_* and multilingual_* are uncased, multi_cased_* is cased
    return "cased" in name.lower().replace("uncased", "")
