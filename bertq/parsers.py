"""What the text of a setting may be; each parser's ValueError says what it must be."""

import math

from bertq import queues
from bertq.errors import SettingsError

_FLAGS = {"1": True, "true": True, "yes": True, "on": True} | {
    "0": False, "false": False, "no": False, "off": False
}  # fmt: skip


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
    """Parse a time in seconds, above zero."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise ValueError("must be a number of seconds above zero")
    return value


def fraction(text: str) -> float:
    """Parse a share of something: above 0, at most 1."""
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
    """Parse what is on or off."""
    value = _FLAGS.get(text.strip().lower())
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
    """Parse an address or a name to listen on; whether it is this machine's is seen later."""
    if not text.strip() or not text.isprintable():
        raise ValueError("must be an address or a name of this machine")
    return text.strip()


def log_format(text: str) -> str:
    """Parse how lines of the log are written."""
    value = lower(text)
    if value not in ("text", "json"):
        raise ValueError("must be text or json")
    return value


def sequence_length(text: str) -> int | None:
    """Parse ``max_seq_len``: a number of wordpieces, or ``none`` for the model's own limit."""
    if text.strip().lower() == "none":
        return None
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 3:
        raise ValueError("must be 'none' or a number of at least 3 ([CLS], one wordpiece, [SEP])")
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


def directory(text: str) -> str:
    """Parse a directory's name; whether it holds a model is for the model to say."""
    if not text.strip():
        raise ValueError("must be the path of a model directory")
    return text


def file_name(text: str) -> str:
    """Parse the name of a file in a model's directory."""
    if not text.strip():
        raise ValueError("must be the name of a file in the model directory")
    return text


def model_name(text: str) -> str:
    """Parse the name that clients ask for a model by."""
    try:
        return queues.check_model(text)
    except SettingsError:
        raise ValueError(f"cannot be a model's name: {queues.MODEL_NAMES}") from None


def upper(text: str) -> str:
    """Parse a name that is written in capitals."""
    return text.strip().upper()


def lower(text: str) -> str:
    """Parse a name that is written in small letters."""
    return text.strip().lower()
