"""Reads and checks single values of a ``config.json``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertq_bert.config import ACTIVATIONS, shown
from bertq_bert.errors import BadConfig, UnsupportedModel

#: Maximum sizes of a model: a greater number means a damaged file. Other sizes are at most 2**24.
_LARGEST = {"num_hidden_layers": 4096}

#: Other names of activations, and bertq's names.
_SYNONYMS = {
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "linear": "identity",
    "swish": "silu",
}


class Fields:
    """The values of a ``config.json``; each error names the file, the key and the value.

    Attributes:
        raw: the contents of the file.
        path: the file, for messages.
        family: name of the family, for messages.
    """

    def __init__(self, raw: Mapping[str, Any], path: Path, family: str) -> None:
        self.raw = raw
        self.path = path
        self.family = family

    def size(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Read a whole number.

        Args:
            keys: names of the value; the first that exists is read.
            default: the value if none exists; None if it is required.
            least: minimum of the value.

        Raises:
            BadConfig: the value is missing, not a whole number, or out of range.
        """
        key = next((key for key in keys if self.raw.get(key) is not None), None)
        if key is None:
            if default is None:
                raise BadConfig(f"{self.path}: {keys[0]} is missing")
            return default
        value = self.raw[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            wanted = "a positive whole number" if least == 1 else f"a whole number from {least} on"
            raise BadConfig(f"{self.path}: {key} is {shown(value)}, not {wanted}")
        if value > _LARGEST.get(key, 2**24):
            raise BadConfig(f"{self.path}: {key} is {shown(value)}: no {self.family} is that large")
        return value

    def epsilon(self, *keys: str, default: float = 1e-12) -> float:
        """Read the number that LayerNorm adds to the variance.

        Raises:
            BadConfig: the value is not a number between 0 and 1.
        """
        key, value = self._first(keys, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise BadConfig(f"{self.path}: {key} is {shown(value)}, not a number in 0..1")
        return float(value)

    def number(self, value: Any, name: str) -> float:
        """Return ``value`` as a number; ``name`` is for the message.

        Raises:
            BadConfig: the value is not a number above zero.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e18:
            raise BadConfig(f"{self.path}: {name} is {shown(value)}, not a number above zero")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Read a boolean.

        Raises:
            BadConfig: the value is not a boolean.
        """
        key, value = self._first((key,), default)
        if not isinstance(value, bool):
            raise BadConfig(f"{self.path}: {key} is {shown(value)}, not true or false")
        return value

    def activation(self, *keys: str, default: str = "gelu") -> str:
        """Read the name of an activation; return one of ``ACTIVATIONS``.

        Raises:
            BadConfig: the activation is unknown.
        """
        key, value = self._first(keys, default)
        found = _SYNONYMS.get(value, value) if isinstance(value, str) else None
        if found not in ACTIVATIONS:
            raise BadConfig(
                f"{self.path}: {key} {shown(value)} is unknown: bertq knows "
                f"{', '.join(ACTIVATIONS)}"
            )
        return found

    def require(self, key: str, *wanted: object) -> None:
        """Check that a value is missing or one of ``wanted``.

        Raises:
            UnsupportedModel: it is another value.
        """
        value = self.raw.get(key)
        if value is not None and value not in wanted:
            known = " or ".join(map(repr, wanted)) or "not set"
            raise UnsupportedModel(
                f"{self.path}: {key} is {shown(value)}: bertq runs {self.family} models where it "
                f"is {known}"
            )

    def _first(self, keys: Sequence[str], default: object) -> tuple[str, Any]:
        """Return the first of ``keys`` that exists, and its value; null counts as missing.

        If none exists, return the first key and the default.
        """
        key = next((key for key in keys if self.raw.get(key) is not None), None)
        return (keys[0], default) if key is None else (key, self.raw[key])
