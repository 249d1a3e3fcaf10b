"""The manifest beside an output: how the output was made, and how far it is complete."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bertq.errors import OutputError
from bertq_client.files.source import Identity

#: Version of the manifest's format.
_VERSION = 2

_Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Position:
    """The position that an output has reached.

    Attributes:
        rows: number of rows in it.
        line: last line of the input that these rows cover.
        bytes: size of the file.
        cut: number of truncated sentences.
        digest: digest of the sentences of the rows (``LineDigest``).
    """

    rows: _Count
    line: _Count
    bytes: _Count
    cut: _Count
    digest: str


@dataclass(frozen=True)
class Manifest:
    """A file ``vectors.npy.json``, beside ``vectors.npy`` or ``vectors.npy.part``.

    Attributes:
        complete: whether all vectors have been written.
        fingerprint: fingerprint of the model.
        row_shape: shape of one sentence's row.
        is_sparse: whether the rows are those of a sparse model.
        options: options of the run, by name.
        input: identity of the input; None if it was unknown at the start, as for standard input.
        position: position reached.
    """

    complete: bool
    fingerprint: str
    row_shape: tuple[int, ...]
    is_sparse: bool
    options: Mapping[str, Any]
    input: Identity | None
    position: Position

    def at(self, position: Position, *, complete: bool = False) -> "Manifest":
        """Return the manifest of the same output at another position."""
        return replace(self, position=position, complete=complete)

    def save(self, path: Path) -> None:
        """Write the manifest atomically: a reader sees the complete old or new one.

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
        """Check that a run with these options and this input makes the same vectors.

        Raises:
            OutputError: an option or the input differs.
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


def path_of(vectors: Path) -> Path:
    """Return the path of the manifest of a file of vectors."""
    return vectors.with_name(f"{vectors.name}.json")


def load(path: Path) -> Manifest | None:
    """Return the manifest in a file; None if there is no file.

    Raises:
        OutputError: the file cannot be read, or is not a manifest.
    """
    try:
        document = json.loads(path.read_bytes())
        if document["bertq_encode"] != _VERSION:
            raise OutputError(f"{path} was written by another version of bertq")
        return msgspec.convert(document, Manifest)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise OutputError(
            f"{path} was not written by bertq encode, or is damaged: remove it, or use other files"
        ) from None
