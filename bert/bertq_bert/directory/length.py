"""Finds the maximum length of a sequence, from the model's directory and an option."""

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
    """Return the maximum number of token ids of a sequence.

    Args:
        option: a number, ``"none"`` for the limit of the network, or None for that of the
            directory.
        description: the settings of the directory; None: the default of bert-as-service.
        config: the hyper-parameters of the network.
        config_file: the file of the hyper-parameters, for messages.
        min_tokens: number of tokens of the shortest sequence: one token and the special tokens.
        has_positions: whether tokens have positions, which limit the length.

    Raises:
        BadLength: the option is not valid for the network.
        BadConfig: the length of the directory is less than ``min_tokens``.
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
        limit = config.rotary[0].longest or length  # no limit in sentence-transformers
    if has_positions:
        length = min(length, limit)
    if length < min_tokens:
        raise BadConfig(
            f"{config_file}: the longest sequence is {length} tokens, and the tokenizer needs "
            f"{min_tokens}"
        )
    return length
