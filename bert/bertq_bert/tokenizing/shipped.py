"""The tokenizer of a model's directory: ``tokenizer.json`` without its truncation and padding.

If that file is missing, the tokenizer is created from ``vocab.txt`` and ``added_tokens.json``, or
from ``vocab.json`` and ``merges.txt``, as transformers does.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, normalizers
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Lowercase
from tokenizers.pre_tokenizers import ByteLevel

from bertq_bert.config import check_readable, read_json
from bertq_bert.errors import BadIds, BrokenFile, MissingFile, UnsupportedModel
from bertq_bert.tokenizing.base import Tokenizer
from bertq_bert.tokenizing.template import Template
from bertq_bert.tokenizing.vocabulary import check_size
from bertq_bert.tokenizing.vocabulary_files import make_byte_pairs, make_wordpiece, read_token

log = logging.getLogger("bertq.model")

#: Classes of transformers 5 that return ``token_type_ids`` for the network by default.
_WITH_SEGMENTS = {"BertTokenizer", "ElectraTokenizer", "FunnelTokenizer", "SplinterTokenizer"}

#: Letters of scripts that few vocabularies have: Cherokee, Runic, Ogham.
_RARE_LETTERS = "\u13a0 \u16a0 \u1681"


class ShippedTokenizer(Tokenizer):
    """A tokenizer of the ``tokenizers`` library; thread-safe."""

    def __init__(
        self, rust: RustTokenizer, *, unknown: str | None, identity: str, segments: bool = True
    ) -> None:
        """Use a tokenizer of the library, and change its settings.

        Args:
            rust: the tokenizer, which no other object may use.
            unknown: the token for tokens that are not in the vocabulary.
            identity: the result of ``identity``.
            segments: whether the second text of a pair is a second segment for the network.
        """
        rust.no_truncation()
        rust.no_padding()
        if rust.decoder is None:
            rust.decoder = _decoder(rust)
        self._rust = rust
        self._identity = identity
        self.vocabulary = rust.get_vocab(with_added_tokens=True)
        self._unknown = None if unknown is None else self.vocabulary.get(unknown)
        rust.encode(_RARE_LETTERS)  # fails if the token for unknown words is not in the vocabulary
        self.template = _template(rust, segments=segments)
        self.splits_at_spaces = _splits_at_spaces(rust)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Return all token ids of each text, without special tokens around it."""
        try:
            found = self._rust.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            found = self._rust.encode_batch_fast(_whole(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        """Return (id, start, stop) of each token of ``pieces``, as ``Tokenizer`` defines them."""
        found = self._rust.encode_batch(_whole(texts), add_special_tokens=False)
        return [
            [
                (number, start, stop)
                for number, (start, stop) in zip(row.ids, row.offsets, strict=True)
            ]
            for row in found
        ]

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        """Return the text of each sequence of ids, without special tokens if ``skip_special``."""
        found: list[str] = self._rust.decode_batch(
            [list(row) for row in ids], skip_special_tokens=skip_special
        )
        return found

    def token(self, number: int) -> str:
        """Return the token with an id; an empty string for an id without a token."""
        token: str | None = self._rust.id_to_token(number)
        return "" if token is None else token

    def look_up_token(self, token: str) -> int:
        """Return the id of a token; of the unknown token if it is not in the vocabulary.

        Raises:
            BadIds: it is not in the vocabulary, and there is no unknown token.
        """
        number = self.vocabulary.get(token, self._unknown)
        if number is None:
            raise BadIds("a token is not in the vocabulary, which has no token for unknown ones")
        return number

    def identity(self) -> str:
        """Return a digest of the files of the tokenizer, and its options."""
        return self._identity


def _decoder(rust: RustTokenizer) -> Any:
    """Return a decoder for a tokenizer without one, as in the files of older models."""
    if isinstance(rust.model, WordPiece):
        return decoders.WordPiece(rust.model.continuing_subword_prefix)
    if isinstance(rust.pre_tokenizer, ByteLevel):
        return decoders.ByteLevel()
    return decoders.Fuse()


def _whole(texts: Sequence[str]) -> list[str]:
    """Replace lone surrogates, which the library does not accept, by ``?``."""
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _splits_at_spaces(rust: RustTokenizer) -> bool:
    text = "a b" if rust.normalizer is None else rust.normalizer.normalize_str("a b")
    return rust.pre_tokenizer is not None and len(rust.pre_tokenizer.pre_tokenize_str(text)) > 1


def _template(rust: RustTokenizer, *, segments: bool) -> Template:
    """Run the post-processor, to find the special tokens that it adds to texts.

    Raises:
        UnsupportedModel: the tokenizer has no token for the letter a.
    """
    single, pair = rust.encode("a"), rust.encode("a", "a")
    if 0 not in single.sequence_ids:
        raise UnsupportedModel("the tokenizer makes no token of the letter a")
    before, behind = _around(single, 1)
    first, between, last = _around(pair, 2)
    return Template(
        before, behind, (first, between, last), segments=segments and 1 in pair.type_ids
    )


def _around(encoding: Any, texts: int) -> list[tuple[int, ...]]:
    """Return the ids before, between and after the texts of an encoding."""
    parts: list[list[int]] = [[] for _ in range(texts + 1)]
    seen = 0
    last = None
    for number, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            parts[seen].append(number)
        elif sequence != last:
            seen, last = sequence + 1, sequence
    return [tuple(part) for part in parts]


def load_shipped(
    directory: Path,
    *,
    lower: bool = False,
    cased: bool | None = None,
    embeddings: int | None = None,
) -> ShippedTokenizer:
    """Read the tokenizer of a directory in Hugging Face's layout.

    Args:
        directory: the directory of the transformer's files.
        lower: whether to convert texts to lower case before the tokenizer's normalizer, as
            sentence-transformers does for ``do_lower_case``.
        cased: whether a BERT normalizer keeps upper case and accents; None: as the files define it.
        embeddings: rows of the embedding table, at least the number of tokens; None for no check.

    Raises:
        MissingFile: the directory has no file of a tokenizer.
        BrokenFile: a file is damaged.
        BadVocabulary: a special token is missing, or the vocabulary has too many tokens.
        UnsupportedModel: bertq cannot run the tokenizer, or its files need another library.
    """
    settings_file = directory / "tokenizer_config.json"
    settings = read_json(settings_file) if settings_file.is_file() else {}
    path = directory / "tokenizer.json"
    if path.is_file():
        rust = _read(path)
        content = path.read_bytes()
        _warn_of_differences(rust.normalizer, settings, path)
    elif (directory / "vocab.txt").is_file():
        path = directory / "vocab.txt"
        rust = make_wordpiece(path, settings)
        content = rust.to_str().encode()
    elif (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        path = directory / "vocab.json"
        rust = make_byte_pairs(directory, settings)
        content = rust.to_str().encode()
    else:
        raise _no_tokenizer(directory)
    if cased is not None:
        rust.normalizer = _with_case(rust.normalizer, cased, path)
    if lower:
        rust.normalizer = _with_lower_case(rust.normalizer)
    check_size(rust.get_vocab(with_added_tokens=False), embeddings, path)
    digest, segments = hashlib.sha256(content).hexdigest(), _has_segments(settings)
    with _library_errors(path):
        return ShippedTokenizer(
            rust,
            unknown=read_token(settings.get("unk_token")) or _unknown(rust),
            identity=f"{digest} lower={lower} cased={cased} segments={segments}",
            segments=segments,
        )


def _has_segments(settings: dict[str, Any]) -> bool:
    """Return whether transformers 5 returns ``token_type_ids`` for the network.

    ``model_input_names`` decides, or else the class of the tokenizer.
    """
    names = settings.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    kind = settings.get("tokenizer_class")
    return not isinstance(kind, str) or kind.removesuffix("Fast") in _WITH_SEGMENTS


def _warn_of_differences(normalizer: Any, settings: dict[str, Any], path: Path) -> None:
    """Log a warning for each setting in which ``tokenizer_config.json`` differs.

    transformers 5 uses the values of that file.
    """
    kind = settings.get("tokenizer_class")
    if not isinstance(normalizer, BertNormalizer) or kind in (None, "PreTrainedTokenizerFast"):
        return
    values = {
        "do_lower_case": (settings.get("do_lower_case", True), normalizer.lowercase),
        "strip_accents": (settings.get("strip_accents"), normalizer.strip_accents),
        "tokenize_chinese_chars": (
            settings.get("tokenize_chinese_chars", True),
            normalizer.handle_chinese_chars,
        ),
    }
    for name, (configured, used) in values.items():
        if configured != used:
            log.warning(
                "%s has %s %r, and tokenizer_config.json beside it %r: bertq uses the former, "
                "transformers 5 the latter",
                path, name, used, configured,
            )  # fmt: skip


def _read(path: Path) -> RustTokenizer:
    check_readable(path)
    with _library_errors(path):
        return RustTokenizer.from_file(str(path))


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Convert an error of the library while it reads a file.

    Raises:
        BrokenFile: the library cannot use the file.
        UnsupportedModel: bertq does not support the tokenizer.
    """
    try:
        yield
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None
    except BaseException as error:
        # The library raises a plain Exception, and for a panic in Rust a BaseException.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise BrokenFile(
            f"{path} cannot be read by the tokenizers library ({reason}): fetch it again"
        ) from None


def _with_case(normalizer: Any, cased: bool, path: Path) -> Any:
    """Set whether a BERT normalizer keeps upper case and accents.

    Raises:
        UnsupportedModel: the normalizer is another one.
    """
    if not isinstance(normalizer, BertNormalizer):
        raise UnsupportedModel(
            f"{path}: cased has no meaning for this tokenizer, which has no BERT normalizer: leave "
            "the option out"
        )
    normalizer.lowercase = not cased
    normalizer.strip_accents = None
    return normalizer


def _with_lower_case(normalizer: Any) -> Any:
    parts = [] if normalizer is None else [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        parts = list(normalizer)  # type: ignore[call-overload]
    if any(isinstance(part, Lowercase) for part in parts):
        return normalizer
    return normalizers.Sequence([Lowercase(), *parts])


def _unknown(rust: RustTokenizer) -> str | None:
    """Return the unknown token that the model of the tokenizer names, if any."""
    token: Any = getattr(rust.model, "unk_token", None)
    if isinstance(token, str):
        return token
    model = json.loads(rust.to_str())["model"]
    number = model.get("unk_id")
    return rust.id_to_token(number) if isinstance(number, int) else None


def _no_tokenizer(directory: Path) -> Exception:
    pieces = sorted(path.name for path in directory.glob("*.model"))
    if pieces:
        return UnsupportedModel(
            f"{directory} has {pieces[0]} and no tokenizer.json: save the tokenizer once with "
            "transformers, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    return MissingFile(f"no tokenizer.json and no vocab.txt in {directory}")
