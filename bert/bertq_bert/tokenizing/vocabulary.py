"""The files that say which tokens there are, and how a text is normalised.

The settings' names are those of ``Tokenizer``: ``lowercase``, ``strip_accents``, ``split_cjk``.
"""

from pathlib import Path
from typing import Any

from bertq_bert.config import check_readable, read_json
from bertq_bert.errors import BadVocabulary, BrokenFile, UnsupportedModel


def read_vocab(path: Path) -> dict[str, int]:
    """Read ``vocab.txt``: one token on each line; the line number is its id.

    Raises:
        BrokenFile: it is not UTF-8 text.
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
    """Raise ``BadVocabulary`` if there are more tokens than rows in the embedding table."""
    # no text has the empty token of a blank line
    size = max((number for token, number in vocabulary.items() if token), default=-1) + 1
    if embeddings is not None and size > embeddings:
        raise BadVocabulary(
            f"{path} has {size} tokens, the embedding table only {embeddings}: "
            "they belong to different models"
        )


def read_tokenizer_json(path: Path) -> tuple[dict[str, int], dict[str, bool]]:
    """Read the vocabulary of ``tokenizer.json``, and the settings of its normaliser.

    Raises:
        BrokenFile: it is damaged.
        UnsupportedModel: it holds another kind of tokenizer.
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
    """Read what ``tokenizer_config.json`` says, if it is there.

    Raises:
        BrokenFile: it is there and damaged.
    """
    if not path.is_file():
        return {}
    return _flags(read_json(path), "do_lower_case", "tokenize_chinese_chars")


def _flags(raw: dict[str, Any], lowercase: str, split_cjk: str) -> dict[str, bool]:
    names = {"lowercase": lowercase, "strip_accents": "strip_accents", "split_cjk": split_cjk}
    return {ours: raw[name] for ours, name in names.items() if isinstance(raw.get(name), bool)}
