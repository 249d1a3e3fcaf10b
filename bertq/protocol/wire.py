"""Results on the wire: a msgpack document, followed by the bytes of its numpy arrays.

A payload is the size of a msgpack document (four bytes), the document, and the raw bytes of its
arrays in C order, each at a multiple of 16 bytes. In the document, extension 1 stands for an array,
``[dtype, shape]``; these are in the order of the arrays' bytes. msgpack would copy arrays inside
the document twice on either side. Outside of it, the rows of a chunk are written once and read in
place.

The decoder takes bytes from any program that can write to Redis. It builds only plain values and
numeric arrays, and allocates no more than the payload itself holds.
"""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from bertq.errors import VersionMismatch, WireError
from bertq.protocol import sparse
from bertq.protocol.sparse import AnyRows, SparseRows

#: Version of everything that clients and workers send to each other: the message of a chunk and its
#: result. It changes with either of them.
WIRE_VERSION = 3

#: Name of the serializer in kombu's registry, and the content type of its payloads.
SERIALIZER = "bertq"
CONTENT_TYPE = "application/x-bertq"

#: Redis's own limit on a value, in bytes.
MAX_PAYLOAD = 512 * 1024 * 1024

_NDARRAY = 1
_MAX_DIMENSIONS = 4
_DTYPE = re.compile(r"[<>|](f[248]|[iu][1248])")
_SIZE = struct.Struct(">I")
_ALIGNMENT = 16


@dataclass(frozen=True, repr=False)
class ChunkResult:
    """The rows of a chunk.

    Attributes:
        rows: ``[n, *row_shape]``, in the order of the chunk's sentences; compressed for a sparse
            model.
        fingerprint: fingerprint of the model that computed the rows.
        tokens: tokens of each sentence, if requested.
        cut: numbers of the sentences with more tokens than the model reads.
        max_seq_len: number of tokens that the model reads.
        lengths: number of tokens read from each sentence, if requested.
    """

    rows: AnyRows
    fingerprint: str
    tokens: list[list[str]] | None = None
    cut: Sequence[int] = ()
    max_seq_len: int = 0
    lengths: Sequence[int] | None = None

    def __repr__(self) -> str:
        # Celery puts the repr of a task's result into events and logs: show the shape, never a
        # vector.
        shape = " x ".join(str(size) for size in self.rows.shape)
        return f"<rows {shape}, {self.rows.dtype}>"

    def to_wire(self) -> dict[str, Any]:
        """Return the result as plain values for ``dumps``."""
        rows = sparse.to_wire(self.rows) if isinstance(self.rows, SparseRows) else self.rows
        value: dict[str, Any] = {
            "wire": WIRE_VERSION, "rows": rows, "fingerprint": self.fingerprint
        }  # fmt: skip
        if self.tokens is not None:
            value["tokens"] = self.tokens
        if self.cut:
            value |= {"cut": list(self.cut), "max_seq_len": self.max_seq_len}
        if self.lengths is not None:
            value["lengths"] = list(self.lengths)
        return value

    @classmethod
    def from_wire(cls, value: Any) -> "ChunkResult":
        """Check a decoded value and return it as a result.

        Raises:
            VersionMismatch: the value comes from a worker of another version.
            WireError: the value does not have this form.
        """
        if not isinstance(value, dict):
            raise WireError(f"a result must be a map, not {type(value).__name__}")
        # Check the version first: in another version, the other fields may have another meaning.
        check_version(value.get("wire"), sender="worker", receiver="client")
        rows, fingerprint = value.get("rows"), value.get("fingerprint")
        if isinstance(rows, dict):
            rows = sparse.from_wire(rows)
        elif not isinstance(rows, np.ndarray) or rows.ndim < 2:
            raise WireError("a result must hold an array of rows")
        if not isinstance(fingerprint, str):
            raise WireError("a result must name the fingerprint of its model")
        tokens = value.get("tokens")
        if tokens is not None and not _are_tokens(tokens, len(rows)):
            raise WireError("the tokens of a result must be a list of str for each row")
        cut, length = value.get("cut", []), value.get("max_seq_len", 0)
        if not _are_numbers(cut, len(rows)) or type(length) is not int:
            raise WireError("a result must name truncated texts by their row numbers")
        lengths = value.get("lengths")
        if lengths is not None and not _are_lengths(lengths, len(rows)):
            raise WireError("the lengths of a result must be a number for each row")
        return cls(rows, fingerprint, tokens, cut, length, lengths)


def _are_tokens(value: Any, rows: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == rows
        and all(isinstance(row, list) and all(isinstance(t, str) for t in row) for row in value)
    )


def _are_numbers(value: Any, rows: int) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < rows for n in value)


def _are_lengths(value: Any, rows: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == rows
        and all(type(n) is int and 0 <= n < 2**31 for n in value)
    )


def check_version(version: Any, *, sender: str, receiver: str) -> None:
    """Refuse data that another version of bertq has sent, or that does not state its version.

    Args:
        version: the wire version that the sender states.
        sender: role of the sender, for the error message: client or worker.
        receiver: role of the receiver, which checks.

    Raises:
        VersionMismatch: the version is not ``WIRE_VERSION``.
    """
    if type(version) is int and version == WIRE_VERSION:
        return
    speaks = f"wire format {version}" if type(version) is int else "no known wire format"
    raise VersionMismatch(
        f"the {sender} speaks {speaks} and this {receiver} {WIRE_VERSION}: install the same "
        "version of bertq on both"
    )


def dumps(value: Any) -> bytes:
    """Encode plain values and numeric arrays.

    Raises:
        WireError: a value, or the dtype of an array, is of another kind.
    """
    arrays: list[np.ndarray[Any, np.dtype[Any]]] = []

    def stand_in(item: Any) -> Any:
        if not isinstance(item, np.ndarray):
            raise WireError(f"a {type(item).__name__} cannot be sent")
        if not _DTYPE.fullmatch(item.dtype.str):
            raise WireError(f"an array of dtype {item.dtype} cannot be sent")
        arrays.append(item)
        return msgpack.ExtType(_NDARRAY, msgpack.packb([item.dtype.str, item.shape]))

    document: bytes = msgpack.packb(value, default=stand_in)
    parts: list[Any] = [_SIZE.pack(len(document)), document]
    end = _SIZE.size + len(document)
    for array in arrays:
        parts += [bytes(-end % _ALIGNMENT), np.ascontiguousarray(array).reshape(-1).data]
        end += -end % _ALIGNMENT + array.nbytes
    return b"".join(parts)


def loads(payload: Any) -> Any:
    """Decode the output of ``dumps``; arrays are read-only views of the payload.

    Args:
        payload: bytes, or any object with the buffer protocol.

    Raises:
        WireError: the payload is cut, damaged, too large or holds something else.
    """
    whole = memoryview(payload).cast("B").toreadonly()
    size = whole.nbytes
    if size > MAX_PAYLOAD:
        raise WireError(f"a payload of {size} bytes is over the limit of {MAX_PAYLOAD}")
    reader = _Reader(whole)
    try:
        # unpackb limits every length to the real size of the document.
        value = msgpack.unpackb(reader.document, ext_hook=reader.array)
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f"a payload of {size} bytes cannot be decoded: {reason}") from None
    if reader.end != size:
        raise WireError(f"a payload of {size} bytes should have {reader.end}")
    return value


class _Reader:
    """A reader of a payload: first the document, then its arrays one after the other."""

    def __init__(self, whole: memoryview) -> None:
        self._whole = whole
        if whole.nbytes < _SIZE.size:
            raise WireError(f"a payload of {whole.nbytes} bytes is cut")
        self.end = _SIZE.size + _SIZE.unpack_from(whole)[0]
        if self.end > whole.nbytes:
            raise WireError(f"a payload of {whole.nbytes} bytes is cut")
        self.document = whole[_SIZE.size : self.end]

    def array(self, code: int, data: bytes) -> Any:
        """Return the next array, described by ``data``."""
        if code != _NDARRAY:
            raise WireError(f"extension {code} is not known")
        header = msgpack.unpackb(data)
        if not isinstance(header, list) or len(header) != 2:
            raise WireError("an array is described by its dtype and shape")
        dtype, shape = header
        if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
            raise WireError(f"an array of dtype {str(dtype)[:40]!r} is refused")
        if (
            not isinstance(shape, list)
            or len(shape) > _MAX_DIMENSIONS
            or not all(type(size) is int and size >= 0 for size in shape)
        ):
            raise WireError("an array's shape must be at most four sizes")
        kind = np.dtype(dtype)
        count = math.prod(shape)
        start = self.end + -self.end % _ALIGNMENT
        claimed, left = count * kind.itemsize, max(0, self._whole.nbytes - start)
        if claimed > left:
            raise WireError(f"an array claims {claimed} bytes and has {left}")
        self.end = start + claimed
        if not claimed:
            return np.zeros(shape, kind)  # frombuffer accepts no empty buffer
        return np.frombuffer(self._whole, kind, count, start).reshape(shape)
