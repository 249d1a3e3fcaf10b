"""Creates tokenizers from vocabulary files, for directories without ``tokenizer.json``."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertq_bert.config import read_json, shown
from bertq_bert.errors import BadVocabulary, BrokenFile
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


def make_wordpiece(path: Path, settings: dict[str, Any]) -> RustTokenizer:
    """Create a WordPiece tokenizer from ``vocab.txt``, as transformers does.

    Args:
        path: the file.
        settings: the contents of ``tokenizer_config.json``.

    Raises:
        BrokenFile: a file is damaged.
        BadVocabulary: the vocabulary lacks a special token, or does not fit ``added_tokens.json``.
    """
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


def make_byte_pairs(directory: Path, settings: dict[str, Any]) -> RustTokenizer:
    """Create a byte-pair tokenizer (RoBERTa's) from ``vocab.json`` and ``merges.txt``.

    It is that of transformers.

    Args:
        directory: the directory of the files.
        settings: the contents of ``tokenizer_config.json``.

    Raises:
        BrokenFile: a file is damaged.
        BadVocabulary: the vocabulary lacks a special token, or does not fit ``added_tokens.json``.
    """
    special = _special_tokens(directory, settings)
    try:
        model = BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt"))
    except Exception as error:  # the library raises a plain Exception
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
    return {key: token for key in _SPECIAL if (token := read_token(named.get(key))) is not None}


def read_token(token: Any) -> str | None:
    """Return the text of a special token in a file, a string or an object; None if it has none."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and _is_whole(text) else None


def _is_whole(text: str) -> bool:
    """Return whether a text has no lone surrogates, which the library refuses."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _add_tokens(
    rust: RustTokenizer, directory: Path, special: dict[str, str], settings: dict[str, Any]
) -> None:
    """Add special tokens, and the tokens of ``added_tokens.json`` and ``added_tokens_decoder``.

    Raises:
        BrokenFile: ``added_tokens.json`` is not a map from tokens to ids.
        BadVocabulary: a token would get another id than the files state.
    """
    path = directory / "added_tokens.json"
    numbers = read_json(path) if path.is_file() else {}
    described = settings.get("added_tokens_decoder")
    for number, token in (described if isinstance(described, dict) else {}).items():
        text = read_token(token)
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
