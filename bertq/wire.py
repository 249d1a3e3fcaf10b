"""Results on the wire: msgpack, with numpy arrays as an extension type.

An array travels as extension 1: a msgpack header ``[dtype, shape]`` followed by its raw bytes in C
order. The decoder takes bytes from anybody who can write to Redis: it builds nothing but plain
values and numeric arrays, and allocates nothing that the payload itself does not hold.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from bertq.errors import WireError

#: Name of the serializer in kombu's registry, and the content type that it marks payloads with.
SERIALIZER = "bertq"
CONTENT_TYPE = "application/x-bertq"

#: Redis' own limit on a value, in bytes.
MAX_PAYLOAD = 512 * 1024 * 1024

_NDARRAY = 1
_MAX_DIMENSIONS = 4
_DTYPE = re.compile(r"[<>|](f[248]|[iu][1248])")


@dataclass(frozen=True, repr=False)
class ChunkResult:
    """The rows of a chunk.

    Attributes:
        rows: ``[n, *row_shape]``, in the order of the chunk's sentences.
        fingerprint: of the model that made them.
    """

    rows: np.ndarray[Any, np.dtype[Any]]
    fingerprint: str

    def __repr__(self) -> str:
        # Celery puts the repr of a task's result into events and logs: the shape, never a vector.
        shape = " x ".join(str(size) for size in self.rows.shape)
        return f"<rows {shape}, {self.rows.dtype}>"

    def to_wire(self) -> dict[str, Any]:
        """Return the plain form that ``dumps`` takes."""
        return {"rows": self.rows, "fingerprint": self.fingerprint}

    @classmethod
    def from_wire(cls, value: Any) -> "ChunkResult":
        """Check a decoded value and return it as a result.

        Raises:
            WireError: it does not have this form.
        """
        if not isinstance(value, dict):
            raise WireError(f"a result must be a map, not {type(value).__name__}")
        rows, fingerprint = value.get("rows"), value.get("fingerprint")
        if not isinstance(rows, np.ndarray) or rows.ndim < 2:
            raise WireError("a result must hold an array of rows")
        if not isinstance(fingerprint, str):
            raise WireError("a result must name the fingerprint of its model")
        return cls(rows, fingerprint)


def dumps(value: Any) -> bytes:
    """Encode plain values and numeric arrays.

    Raises:
        WireError: a value, or an array's dtype, is of another kind.
    """
    packed: bytes = msgpack.packb(value, default=_pack_array)
    return packed


def loads(payload: Any) -> Any:
    """Decode what ``dumps`` made; arrays are read-only views of their own bytes.

    Args:
        payload: bytes, or anything with the buffer protocol.

    Raises:
        WireError: the payload is cut, damaged, too large or holds something else.
    """
    size = memoryview(payload).nbytes
    if size > MAX_PAYLOAD:
        raise WireError(f"a payload of {size} bytes is over the limit of {MAX_PAYLOAD}")
    try:
        # unpackb caps every length by what the payload can really hold.
        return msgpack.unpackb(payload, ext_hook=_unpack)
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise WireError(f"a payload of {size} bytes cannot be decoded: {reason}") from None


def _pack_array(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise WireError(f"a {type(value).__name__} cannot be sent")
    if not _DTYPE.fullmatch(value.dtype.str):
        raise WireError(f"an array of dtype {value.dtype} cannot be sent")
    header: bytes = msgpack.packb([value.dtype.str, value.shape])
    return msgpack.ExtType(_NDARRAY, header + value.tobytes())


def _unpack(code: int, data: bytes) -> Any:
    if code != _NDARRAY:
        raise WireError(f"extension {code} is not known")
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    header = unpacker.unpack()
    if not isinstance(header, list) or len(header) != 2:
        raise WireError("an array must start with its dtype and shape")
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
    raw = memoryview(data)[unpacker.tell() :]
    claimed = math.prod(shape) * kind.itemsize
    if claimed != raw.nbytes:
        raise WireError(f"an array claims {claimed} bytes and has {raw.nbytes}")
    return np.frombuffer(raw, kind).reshape(shape)
