"""Parsers of settings; a parser's ValueError states the rule that the text breaks."""

import math

from bertq.errors import SettingsError
from bertq.protocol import queues

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True} | {
    "0": False, "false": False, "no": False, "off": False
}  # fmt: skip

#: Pooling modes of sentence-transformers.
_POOLING_MODES = frozenset(
    {"cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"}
)


def positive_int(text: str) -> int:
    """Parse a whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError("must be a whole number above zero")
    return value


def seconds(text: str) -> float:
    """Parse a positive number of seconds."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise ValueError("must be a number of seconds above zero")
    return value


def fraction(text: str) -> float:
    """Parse a share: above 0, at most 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1, as 0.5")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def flag(text: str) -> bool:
    """Parse a value that is on or off."""
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError("must be 1, true, yes or on, or else 0, false, no or off")
    return value


def port(text: str) -> int:
    """Parse the number of a TCP port."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= value <= 65535:
        raise ValueError("must be a port, from 1 to 65535")
    return value


def host(text: str) -> str:
    """Parse an address or host name to listen on, without checking that this machine has it."""
    if not text.strip() or not text.isprintable():
        raise ValueError("must be an address or a name of this machine")
    return text.strip()


def log_format(text: str) -> str:
    """Parse the format of log lines."""
    value = lower(text)
    if value not in ("text", "json"):
        raise ValueError("must be text or json")
    return value


def sequence_length(text: str) -> int | str:
    """Parse ``max_seq_len``: a number of tokens, or ``none`` for the model's own limit."""
    if text.strip().lower() == "none":
        return "none"
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 3:
        raise ValueError("must be 'none' or a number of at least 3 ([CLS], one token, [SEP])")
    return value


def layers(text: str) -> tuple[int, ...]:
    """Parse ``pooling_layer``: layer numbers from -1, the last, separated by commas."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or max(values) >= 0:
        raise ValueError(
            "must be layers counted from the last, -1, separated by commas: -2 or -1,-2"
        )
    return values


def pooling(text: str) -> str:
    """Parse the name of a pooling strategy; the model checks whether it exists.

    Names of bert-as-service are returned in upper case, names of sentence-transformers in lower
    case, regardless of the case of the text. ``+`` joins several of the latter.
    """
    name = text.strip().lower()
    if not name:
        raise ValueError("must be the name of a pooling strategy, as REDUCE_MEAN or mean")
    modes = [mode.strip() for mode in name.split("+")]
    return "+".join(modes) if _POOLING_MODES.issuperset(modes) else name.upper()


def compat(text: str) -> str:
    """Parse the name of the service to imitate."""
    value = lower(text)
    if value != "bert-as-service":
        raise ValueError("must be bert-as-service")
    return value


def directory(text: str) -> str:
    """Parse the path of a directory; the model checks whether the directory holds a model."""
    if not text.strip():
        raise ValueError("must be the path of a model directory")
    return text


def file_name(text: str) -> str:
    """Parse the name of a file in a model's directory."""
    if not text.strip():
        raise ValueError("must be the name of a file in the model directory")
    return text


def path(text: str) -> str:
    """Parse the path of a file, without checking that the file is readable."""
    if not text.strip():
        raise ValueError("must be the path of a file")
    return text


def model_name(text: str) -> str:
    """Parse the name by which clients request a model."""
    try:
        return queues.check_model(text)
    except SettingsError:
        raise ValueError(f"cannot be a model's name: {queues.MODEL_NAMES}") from None


def lower(text: str) -> str:
    """Parse a name, in lower case."""
    return text.strip().lower()
