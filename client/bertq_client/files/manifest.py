"""What is known of an output, beside it: how it was made, and how much of it is there."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bertq.errors import OutputError
from bertq_client.files.source import Identity

#: Version of the form of a manifest.
_VERSION = 2


@dataclass(frozen=True)
class Position:
    """How far an output is.

    Attributes:
        rows: in it.
        line: of the input, up to which they go.
        bytes: of the file.
        cut: sentences that had more tokens than are read.
        digest: of the sentences of the rows (``Trace``).
    """

    rows: int
    line: int
    bytes: int
    cut: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """A file ``vectors.npy.json``, beside ``vectors.npy`` or ``vectors.npy.part``.

    Attributes:
        complete: whether the vectors are all there.
        fingerprint: of the model.
        row_shape: of one sentence's row.
        is_sparse: whether the rows are those of a sparse model.
        options: by name, what was asked for.
        input: its identity; None where it could not be known before, as of standard input.
        position: how far it is.
    """

    complete: bool
    fingerprint: str
    row_shape: tuple[int, ...]
    is_sparse: bool
    options: Mapping[str, Any]
    input: Identity | None
    position: Position

    def at(self, position: Position, *, complete: bool = False) -> "Manifest":
        """Return the manifest of the same output, somewhat further."""
        return replace(self, position=position, complete=complete)

    def save(self, path: Path) -> None:
        """Write it so that whoever looks sees the old one or the new one, whole.

        Raises:
            OSError: it cannot be written.
        """
        document = asdict(self)
        text = json.dumps({"bertq_encode": _VERSION} | document, indent=2) + "\n"
        fresh = path.with_name(f"{path.name}.tmp")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def check(self, path: Path, options: Mapping[str, Any], identity: Identity | None) -> None:
        """Refuse what would not make the same vectors.

        Raises:
            OutputError: an option, or the input, is another one.
        """
        for name, value in options.items():
            known = self.options.get(name)
            if known != value:
                made = f"{name} {known}, not {value}" if name != "prompt" else "another prompt"
                raise OutputError(
                    f"{path} was made with {made}: resume with the same options, or overwrite it"
                )
        if self.input != identity:
            raise OutputError(
                f"{path} was made from another input, or the input has changed since: overwrite it"
            )


def load(path: Path) -> Manifest | None:
    """Return the manifest in a file; None where there is no file.

    Raises:
        OutputError: it cannot be read, or is something else.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["bertq_encode"] != _VERSION:
            raise OutputError(f"{path} was written by another version of bertq")
        known = document["input"]
        return Manifest(
            document["complete"] is True,
            str(document["fingerprint"]),
            tuple(map(int, document["row_shape"])),
            document["is_sparse"] is True,
            dict(document["options"]),
            None if known is None else Identity(**known),
            _position(document["position"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise OutputError(
            f"{path} is there, and was not written by bertq encode: choose another output"
        ) from None


def _position(document: Any) -> Position:
    position = Position(**document)
    for spec in fields(Position):
        value = getattr(position, spec.name)
        if type(value) is not spec.type or (isinstance(value, int) and value < 0):
            raise TypeError(spec.name)
    return position
