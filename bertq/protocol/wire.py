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
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from bertq.errors import WireError
from bertq.protocol import sparse, versions
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.protocol.tokens import Token

#: Name of the serializer in kombu's registry, and the content type of its payloads.
SERIALIZER = "bertq"
CONTENT_TYPE = "application/x-bertq"

#: Redis's own limit on a value.
MAX_PAYLOAD_BYTES = 512 * 1024 * 1024

#: Number of the msgpack extension that stands for an array.
_ARRAY_EXTENSION = 1

_DTYPE = r"\A[<>|](f[248]|[iu][1248])\Z"
_SIZE = struct.Struct(">I")
_ALIGNMENT_BYTES = 16

_Count = Annotated[int, Meta(ge=0)]


class _ArrayHeader(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The description of an array in a document."""

    dtype: Annotated[str, Meta(pattern=_DTYPE)]
    shape: Annotated[list[_Count], Meta(max_length=4)]


_HEADER_DECODER = msgspec.msgpack.Decoder(_ArrayHeader)


class _ResultFields(msgspec.Struct):
    """The fields of a chunk's result, without those that are checked separately."""

    fingerprint: str
    tokens: list[list[str | Token]] | None = None
    cut: list[_Count] = []
    max_seq_len: int = 0
    lengths: list[Annotated[int, Meta(ge=0, lt=2**31)]] | None = None


@dataclass(frozen=True, repr=False)
class ChunkResult:
    """The rows of a chunk.

    Attributes:
        rows: ``[n, *row_shape]``, in the order of the chunk's sentences; compressed for a sparse
            model.
        fingerprint: fingerprint of the model that computed the rows.
        tokens: tokens of each sentence, if requested: str, or ``Token`` with their places.
        cut: numbers of the sentences with more tokens than the model reads.
        max_seq_len: number of tokens that the model reads.
        lengths: number of tokens read from each sentence, if requested.
        wire: format to write it in.
    """

    rows: AnyRows
    fingerprint: str
    tokens: list[list[Any]] | None = None
    cut: Sequence[int] = ()
    max_seq_len: int = 0
    lengths: Sequence[int] | None = None
    wire: int = versions.WIRE_VERSION

    def __repr__(self) -> str:
        # Celery puts the repr of a task's result into events and logs: show the shape, never a
        # vector.
        shape = " x ".join(str(size) for size in self.rows.shape)
        return f"<rows {shape}, {self.rows.dtype}>"

    def to_wire(self) -> dict[str, Any]:
        """Return the result as plain values for ``dumps``."""
        rows = sparse.to_wire(self.rows) if isinstance(self.rows, SparseRows) else self.rows
        value: dict[str, Any] = {
            "wire": self.wire, "rows": rows, "fingerprint": self.fingerprint
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
            VersionMismatch: the value has a format that this release does not read.
            WireError: the value does not have this form.
        """
        if not isinstance(value, dict):
            raise WireError(f"a result must be a map, not {type(value).__name__}")
        # Check the format first: in another one, the other fields may have another meaning.
        wire: Any = value.get("wire")
        versions.check(wire, sender="worker", receiver="client")
        rows = value.get("rows")
        if isinstance(rows, dict):
            rows = sparse.from_wire(rows)
        elif not isinstance(rows, np.ndarray) or rows.ndim < 2:
            raise WireError("a result must hold an array of rows")
        try:
            found = msgspec.convert(value, _ResultFields)
        except msgspec.ValidationError as error:
            raise WireError(f"a result is malformed: {error}") from None
        for name, items in (("tokens", found.tokens), ("lengths", found.lengths)):
            if items is not None and len(items) != len(rows):
                raise WireError(f"a result has {len(rows)} rows and {len(items)} {name}")
        if any(number >= len(rows) for number in found.cut):
            raise WireError("a result names a truncated text that it does not have")
        return cls(
            rows, found.fingerprint, found.tokens, found.cut, found.max_seq_len, found.lengths, wire
        )


def dumps(value: Any) -> bytes:
    """Encode plain values and numeric arrays.

    Raises:
        WireError: a value, or the dtype of an array, is of another kind.
    """
    arrays: list[np.ndarray[Any, np.dtype[Any]]] = []

    def describe(item: Any) -> msgspec.msgpack.Ext:
        if not isinstance(item, np.ndarray):
            raise WireError(f"a {type(item).__name__} cannot be sent")
        if not re.match(_DTYPE, item.dtype.str):
            raise WireError(f"an array of dtype {item.dtype} cannot be sent")
        arrays.append(item)
        header = msgspec.msgpack.encode((item.dtype.str, item.shape))
        return msgspec.msgpack.Ext(_ARRAY_EXTENSION, header)

    document = msgspec.msgpack.encode(value, enc_hook=describe)
    parts: list[Any] = [_SIZE.pack(len(document)), document]
    end = _SIZE.size + len(document)
    for array in arrays:
        parts += [bytes(-end % _ALIGNMENT_BYTES), np.ascontiguousarray(array).reshape(-1).data]
        end += -end % _ALIGNMENT_BYTES + array.nbytes
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
    if size > MAX_PAYLOAD_BYTES:
        raise WireError(f"a payload of {size} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    reader = _Reader(whole)
    try:
        # msgspec reserves memory for a list or map as its items arrive, not for its stated length.
        value = msgspec.msgpack.decode(reader.document, ext_hook=reader.array)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a payload of {size} bytes cannot be decoded: {error}") from None
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

    def array(self, code: int, data: memoryview) -> Any:
        """Return the next array, described by ``data``."""
        if code != _ARRAY_EXTENSION:
            raise WireError(f"extension {code} is not known")
        header = _HEADER_DECODER.decode(data)
        dtype = np.dtype(header.dtype)
        count = math.prod(header.shape)
        start = self.end + -self.end % _ALIGNMENT_BYTES
        size, left = count * dtype.itemsize, max(0, self._whole.nbytes - start)
        if size > left:
            raise WireError(f"an array should have {size} bytes and has {left}")
        self.end = start + size
        if not size:
            return np.zeros(header.shape, dtype)  # frombuffer accepts no empty buffer
        return np.frombuffer(self._whole, dtype, count, start).reshape(header.shape)
