"""Finds the longest sequence that a model takes, from its directory and from an option."""

from pathlib import Path

from bertq_bert.config import NetworkConfig
from bertq_bert.directory.description import Description
from bertq_bert.errors import BadConfig, BadLength

#: The default of bert-as-service, in tokens.
_DEFAULT_TOKENS = 25


def find_max_length(
    option: int | str | None,
    description: Description | None,
    config: NetworkConfig,
    config_file: Path,
    *,
    min_tokens: int,
    has_positions: bool,
) -> int:
    """Return the number of token ids of the longest sequence.

    Args:
        option: a number, ``"none"`` for the network's own limit, or None for the directory's.
        description: the directory's settings; None: the default of bert-as-service.
        config: the network.
        config_file: for messages.
        min_tokens: the fewest tokens that make a sequence of one token and the special ones.
        has_positions: whether tokens have positions, which limit the length.

    Raises:
        BadLength: the option is no length that the network takes.
        BadConfig: the directory's length leaves no room for a token.
    """
    limit = config.max_position_embeddings
    if option is not None:
        if isinstance(option, str) and option != "none":
            raise BadLength(f"max_seq_len is {option!r}: give a number, or 'none' for no limit")
        length = limit if isinstance(option, str) else option
        if length >= min_tokens and not has_positions:
            return length
        if not min_tokens <= length <= limit:
            raise BadLength(
                f"max_seq_len is {length}: give {min_tokens} (a token between [CLS] and [SEP]) to "
                f"{limit}, the model's max_position_embeddings"
            )
        return length
    named = _DEFAULT_TOKENS if description is None else description.max_seq_len
    length = limit if named is None else named
    if config.rotary:
        limit = config.rotary[0].longest or length  # sentence-transformers does not limit it
    if has_positions:
        length = min(length, limit)
    if length < min_tokens:
        raise BadConfig(
            f"{config_file}: the longest sequence is {length} tokens, and the tokenizer needs "
            f"{min_tokens}"
        )
    return length
