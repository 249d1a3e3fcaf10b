"""The tokenizer that a model's directory ships: ``tokenizer.json`` as it is, but not its cutting.

Without that file it is made from ``vocab.txt`` and ``added_tokens.json``, or from ``vocab.json``
and ``merges.txt``, as transformers does.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer, Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertq_bert.config import read_json, shown
from bertq_bert.errors import BadIds, BadVocabulary, BrokenFile, MissingFile, UnsupportedModel
from bertq_bert.tokenizing.base import Tokenizer
from bertq_bert.tokenizing.template import Template
from bertq_bert.tokenizing.vocabulary import read_settings, read_vocab

_SPECIAL = (
    "cls_token",
    "sep_token",
    "unk_token",
    "pad_token",
    "mask_token",
    "bos_token",
    "eos_token",
)

log = logging.getLogger("bertq.model")

#: Classes of transformers 5 that give the network ``token_type_ids`` by default.
_WITH_SEGMENTS = {"BertTokenizer", "ElectraTokenizer", "FunnelTokenizer", "SplinterTokenizer"}


class ShippedTokenizer(Tokenizer):
    """Runs a tokenizer of the ``tokenizers`` library; safe to use from many threads."""

    def __init__(
        self, rust: RustTokenizer, *, unknown: str | None, identity: str, segments: bool = True
    ) -> None:
        """Take over ``rust``.

        Args:
            rust: the tokenizer, which no other object uses.
            unknown: the token that stands for tokens that are looked up and not there.
            identity: the same for tokenizers that give the same ids.
            segments: whether the network is told which text of a pair a token is of.
        """
        rust.no_truncation()
        rust.no_padding()
        self._rust = rust
        self._identity = identity
        self.vocabulary = rust.get_vocab(with_added_tokens=True)
        self._unknown = None if unknown is None else self.vocabulary.get(unknown)
        self.template = _template(rust, segments=segments)
        self.splits_at_spaces = _splits_at_spaces(rust)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """All token ids of each text: nothing cut, none added."""
        try:
            found = self._rust.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            # lone surrogates are no characters to the library
            whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
            found = self._rust.encode_batch_fast(whole, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def token(self, number: int) -> str:
        """The token that an id stands for; nothing for ids without a token."""
        token: str | None = self._rust.id_to_token(number)
        return "" if token is None else token

    def look_up_token(self, token: str) -> int:
        """The id of a token; that of the unknown token for others."""
        number = self.vocabulary.get(token, self._unknown)
        if number is None:
            raise BadIds("a token is not in the vocabulary, which has no token for unknown ones")
        return number

    def identity(self) -> str:
        """A digest of the files that the tokenizer was read from, and of the options."""
        return self._identity


def _splits_at_spaces(rust: RustTokenizer) -> bool:
    text = "a b" if rust.normalizer is None else rust.normalizer.normalize_str("a b")
    return rust.pre_tokenizer is not None and len(rust.pre_tokenizer.pre_tokenize_str(text)) > 1


def _template(rust: RustTokenizer, *, segments: bool) -> Template:
    """Find the tokens that the post-processor puts around texts, by running it."""
    single, pair = rust.encode("a"), rust.encode("a", "a")
    if 0 not in single.sequence_ids:
        raise UnsupportedModel("the tokenizer makes no token of the letter a")
    before, behind = _around(single, 1)
    first, between, last = _around(pair, 2)
    return Template(
        before, behind, (first, between, last), segments=segments and 1 in pair.type_ids
    )


def _around(encoding: Any, texts: int) -> list[tuple[int, ...]]:
    """The ids before, between and behind the texts of an encoding."""
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
        directory: where the transformer's files are.
        lower: letters are made small before the tokenizer's own normalizer, as
            sentence-transformers does for ``do_lower_case``.
        cased: overrides whether a BERT normalizer keeps capitals and accents.
        embeddings: rows of the embedding table, which must not be fewer than tokens.

    Raises:
        MissingFile, BrokenFile, BadVocabulary: there is no usable tokenizer.
        UnsupportedModel: there are only files that need another library.
    """
    settings_file = directory / "tokenizer_config.json"
    settings = read_json(settings_file) if settings_file.is_file() else {}
    path = directory / "tokenizer.json"
    if path.is_file():
        rust = _read(path)
        content = path.read_bytes()
        _warn_of_settings(rust.normalizer, settings, path)
    elif (directory / "vocab.txt").is_file():
        path = directory / "vocab.txt"
        rust = _wordpiece(path, settings)
        content = rust.to_str().encode()
    elif (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        path = directory / "vocab.json"
        rust = _byte_pairs(directory, settings)
        content = rust.to_str().encode()
    else:
        raise _no_tokenizer(directory)
    if cased is not None:
        rust.normalizer = _with_case(rust.normalizer, cased, path)
    if lower:
        rust.normalizer = _lowered(rust.normalizer)
    # no text has the empty token of a blank line
    numbers = (n for token, n in rust.get_vocab(with_added_tokens=False).items() if token)
    size = max(numbers, default=-1) + 1
    if embeddings is not None and size > embeddings:
        raise BadVocabulary(
            f"{path} has {size} tokens, the embedding table only {embeddings}: "
            f"they belong to different models"
        )
    digest, segments = hashlib.sha256(content).hexdigest(), _has_segments(settings)
    with _library_errors(path):
        return ShippedTokenizer(
            rust,
            unknown=_content(settings.get("unk_token")) or _unknown(rust),
            identity=f"{digest} lower={lower} cased={cased} segments={segments}",
            segments=segments,
        )


def _has_segments(settings: dict[str, Any]) -> bool:
    """Whether transformers 5 gives the network ``token_type_ids``: by name, or by the class."""
    names = settings.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    kind = settings.get("tokenizer_class")
    return not isinstance(kind, str) or kind.removesuffix("Fast") in _WITH_SEGMENTS


def _warn_of_settings(normalizer: Any, settings: dict[str, Any], path: Path) -> None:
    """Warn where ``tokenizer_config.json`` says otherwise: transformers 5 would follow that."""
    kind = settings.get("tokenizer_class")
    if not isinstance(normalizer, BertNormalizer) or kind in (None, "PreTrainedTokenizerFast"):
        return
    told = {
        "do_lower_case": (settings.get("do_lower_case", True), normalizer.lowercase),
        "strip_accents": (settings.get("strip_accents"), normalizer.strip_accents),
        "tokenize_chinese_chars": (
            settings.get("tokenize_chinese_chars", True),
            normalizer.handle_chinese_chars,
        ),
    }
    for name, (said, done) in told.items():
        if said != done:
            log.warning(
                "%s has %s %s, and tokenizer_config.json beside it %s: bertq does as the former "
                "says, transformers 5 as the latter",
                path, name, done, said,
            )  # fmt: skip


def _read(path: Path) -> RustTokenizer:
    with _library_errors(path):
        return RustTokenizer.from_file(str(path))


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Refuse a file that the library cannot use."""
    try:
        yield
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None
    except BaseException as error:
        # the library raises Exception itself, and a panic of Rust is not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise BrokenFile(
            f"{path} cannot be read by the tokenizers library ({reason}): fetch it again"
        ) from None


def _wordpiece(path: Path, settings: dict[str, Any]) -> RustTokenizer:
    """WordPiece as transformers makes it of ``vocab.txt``."""
    directory = path.parent
    vocabulary = read_vocab(path)
    special = _special_tokens(directory, settings)
    unknown = special.get("unk_token", "[UNK]")
    start, end = special.get("cls_token", "[CLS]"), special.get("sep_token", "[SEP]")
    missing = [token for token in (start, end, unknown) if token not in vocabulary]
    if missing:
        names = ", ".join(map(shown, missing))
        raise BadVocabulary(f"{path} has no {names}: not a tokenizer's vocabulary")
    rust = RustTokenizer(WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    flags = read_settings(directory / "tokenizer_config.json")
    rust.normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=flags.get("split_cjk", True),
        strip_accents=flags.get("strip_accents"),
        lowercase=flags.get("lowercase", True),
    )
    rust.pre_tokenizer = BertPreTokenizer()
    cls, sep = (start, vocabulary[start]), (end, vocabulary[end])
    if start == "<s>":  # MPNet
        rust.post_processor = processors.RobertaProcessing(sep, cls)
    else:
        rust.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}",
            pair=f"{start} $A {end} $B:1 {end}:1",
            special_tokens=[cls, sep],
        )
    _add_tokens(rust, directory, special, settings)
    return rust


def _byte_pairs(directory: Path, settings: dict[str, Any]) -> RustTokenizer:
    """Byte pairs as transformers makes them of ``vocab.json`` and ``merges.txt`` (RoBERTa)."""
    special = _special_tokens(directory, settings)
    try:
        model = BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt"))
    except Exception as error:  # the library raises Exception itself
        raise BrokenFile(
            f"{directory / 'vocab.json'} and merges.txt cannot be read: {type(error).__name__}"
        ) from None
    rust = RustTokenizer(model)
    space = bool(settings.get("add_prefix_space", False))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    start, end = special.get("cls_token", "<s>"), special.get("sep_token", "</s>")
    first, last = rust.token_to_id(start), rust.token_to_id(end)
    if first is None or last is None:
        raise BadVocabulary(f"{directory / 'vocab.json'} has no {shown(start)} or {shown(end)}")
    rust.post_processor = processors.RobertaProcessing(
        (end, last), (start, first), trim_offsets=True, add_prefix_space=space
    )
    _add_tokens(rust, directory, special, settings)
    return rust


def _special_tokens(directory: Path, settings: dict[str, Any]) -> dict[str, str]:
    path = directory / "special_tokens_map.json"
    named = (read_json(path) if path.is_file() else {}) | settings
    return {key: token for key in _SPECIAL if (token := _content(named.get(key))) is not None}


def _content(token: Any) -> str | None:
    """The text of a special token, which may be written as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and _is_whole(text) else None


def _is_whole(text: str) -> bool:
    """Whether the library takes a text: it has no lone surrogates."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _add_tokens(
    rust: RustTokenizer, directory: Path, special: dict[str, str], settings: dict[str, Any]
) -> None:
    """Add special tokens and those of ``added_tokens.json``, which must get the ids named there."""
    path = directory / "added_tokens.json"
    numbers = read_json(path) if path.is_file() else {}
    described = settings.get("added_tokens_decoder")
    for number, token in (described if isinstance(described, dict) else {}).items():
        text = _content(token)
        if text is not None and number.isdecimal() and len(number) < 10:
            numbers.setdefault(text, int(number))
    if not all(isinstance(number, int) and _is_whole(text) for text, number in numbers.items()):
        raise BrokenFile(f"{path} is not a map from tokens to ids")
    known = set(special.values())
    rust.add_special_tokens(
        [token for token in special.values() if rust.token_to_id(token) is not None]
    )
    for token, number in sorted(numbers.items(), key=lambda item: item[1]):
        if token in known:
            rust.add_special_tokens([AddedToken(token)])
        else:
            rust.add_tokens([AddedToken(token)])
        if rust.token_to_id(token) != number:
            raise BadVocabulary(
                f"{path}: the id of {shown(token)} is {shown(number)}, and by the vocabulary it "
                f"would be {rust.token_to_id(token)}: they belong to different models"
            )


def _with_case(normalizer: Any, cased: bool, path: Path) -> Any:
    """A BERT normalizer that keeps capitals and accents, or does not."""
    if not isinstance(normalizer, BertNormalizer):
        raise UnsupportedModel(
            f"{path}: cased has no meaning for this tokenizer, which has no BERT normalizer: leave "
            "the option out"
        )
    normalizer.lowercase = not cased
    normalizer.strip_accents = None
    return normalizer


def _lowered(normalizer: Any) -> Any:
    parts = [] if normalizer is None else [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        parts = list(normalizer)  # type: ignore[call-overload]
    if any(isinstance(part, Lowercase) for part in parts):
        return normalizer
    return normalizers.Sequence([Lowercase(), *parts])


def _unknown(rust: RustTokenizer) -> str | None:
    """The token for unknown words that the model itself names."""
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
