"""Reads the files that define the vocabulary, and the normalization of texts.

The settings of the normalization are ``lowercase``, ``strip_accents`` and ``split_cjk``.
"""

from pathlib import Path
from typing import Any

from bertq_bert.config import check_readable, read_json
from bertq_bert.errors import BadVocabulary, BrokenFile, UnsupportedModel


def read_vocab(path: Path) -> dict[str, int]:
    """Read the ids of tokens from ``vocab.txt``: the id of a token is its line number, from 0.

    Raises:
        BrokenFile: the file is not UTF-8 text.
    """
    check_readable(path)
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenFile(f"{path} cannot be read as UTF-8 text: {type(error).__name__}") from error
    if not lines[-1]:
        lines.pop()
    return {line.strip(): number for number, line in enumerate(lines)}


def check_size(vocabulary: dict[str, int], embeddings: int | None, path: Path) -> None:
    """Check that the embedding table has a row for each token.

    Args:
        vocabulary: ids of tokens.
        embeddings: rows of the table; None for no check.
        path: the file of the vocabulary, for the message.

    Raises:
        BadVocabulary: the table has fewer rows.
    """
    # The empty token of a blank line does not occur in texts.
    size = max((number for token, number in vocabulary.items() if token), default=-1) + 1
    if embeddings is not None and size > embeddings:
        raise BadVocabulary(
            f"{path} has {size} tokens, the embedding table only {embeddings}: "
            "they belong to different models"
        )


def read_tokenizer_json(path: Path) -> tuple[dict[str, int], dict[str, bool]]:
    """Read the vocabulary of ``tokenizer.json``, and the settings of its normalizer.

    Raises:
        BrokenFile: the file is damaged.
        UnsupportedModel: the file has another kind of tokenizer than BERT's.
    """
    raw = read_json(path)
    model = _read_part(raw, "model", "WordPiece", path)
    normalizer = _read_part(raw, "normalizer", "BertNormalizer", path)
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not all(
        isinstance(number, int)
        and 0 <= number < 2**31
        and token.encode("utf-8", "ignore").decode() == token
        for token, number in vocabulary.items()
    ):
        raise BrokenFile(f"{path} has no vocabulary of tokens and ids")
    return vocabulary, _flags(normalizer, "lowercase", "handle_chinese_chars")


def _read_part(raw: dict[str, Any], name: str, wanted: str, path: Path) -> dict[str, Any]:
    part = raw.get(name)
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind != wanted:
        raise UnsupportedModel(
            f"{path}: {name} is {kind}, BERT's is {wanted}: add the model's vocab.txt"
        )
    return part


def read_settings(path: Path) -> dict[str, bool]:
    """Read the settings in ``tokenizer_config.json``; empty if the file does not exist.

    Raises:
        BrokenFile: the file is damaged.
    """
    if not path.is_file():
        return {}
    return _flags(read_json(path), "do_lower_case", "tokenize_chinese_chars")


def _flags(raw: dict[str, Any], lowercase: str, split_cjk: str) -> dict[str, bool]:
    names = {"lowercase": lowercase, "strip_accents": "strip_accents", "split_cjk": split_cjk}
    return {ours: raw[name] for ours, name in names.items() if isinstance(raw.get(name), bool)}
