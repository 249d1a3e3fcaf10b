"""The two forms of an output: ``.npy`` and ``.jsonl``."""

import re
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

#: Bytes before the first row of a ``.npy``.
NPY_HEAD = 128

#: Significant digits that tell every number of a type from its neighbours.
_DIGITS = {"float32": 9, "float16": 5}


class Form(Protocol):
    """How rows become bytes."""

    #: Bytes before the first row.
    head: int

    def encode(self, rows: NDArray[Any], lines: Iterable[int]) -> bytes:
        """Return the bytes of some rows, which belong to these lines of the input."""
        ...

    def title(self, count: int) -> bytes:
        """Return what stands in front of ``count`` rows, once they are all there."""
        ...


class Npy:
    """NumPy's own format. Its header says how many rows there are: it is written last.

    Until then there are zeros in its place, and nothing takes the file for an array.
    """

    head = NPY_HEAD

    def __init__(self, dtype: str, row_shape: tuple[int, ...]) -> None:
        self._descr = np.dtype(dtype).newbyteorder("<")
        self._row_shape = row_shape

    def encode(self, rows: NDArray[Any], lines: Iterable[int]) -> bytes:
        """Return the numbers as they are in memory."""
        return rows.astype(self._descr, copy=False).tobytes()

    def title(self, count: int) -> bytes:
        """Return the header, version 1.0, of a fixed length."""
        shape = (count, *self._row_shape)
        text = f"{{'descr': {self._descr.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
        magic = npy.magic(1, 0)
        room = NPY_HEAD - len(magic) - 2
        return magic + room.to_bytes(2, "little") + text.ljust(room - 1).encode("ascii") + b"\n"


class Jsonl:
    """A JSON object a row: ``{"line": 1, "vector": [...]}``."""

    head = 0

    def __init__(self, dtype: str, row_shape: tuple[int, ...]) -> None:
        # Formatted at once, which is several times as fast as json.dumps of so many numbers, and
        # with no more digits than there are.
        pattern = f"%.{_DIGITS[dtype]}g"
        for length in reversed(row_shape):
            pattern = "[" + ", ".join([pattern] * length) + "]"
        self._pattern = f'{{"line": %d, "vector": {pattern}}}\n'

    def encode(self, rows: NDArray[Any], lines: Iterable[int]) -> bytes:
        """Return a line for each row."""
        flat = rows.reshape(len(rows), -1).tolist()
        text = "".join(
            [self._pattern % (line, *row) for line, row in zip(lines, flat, strict=True)]
        )
        if not np.isfinite(rows).all():
            text = re.sub("-?(nan|inf)", "null", text)  # JSON has no such numbers
        return text.encode("ascii")

    def title(self, count: int) -> bytes:
        """Return nothing."""
        return b""


#: The forms by the suffix of the output.
FORMS: dict[str, type[Npy] | type[Jsonl]] = {".npy": Npy, ".jsonl": Jsonl}


def padded(rows: NDArray[Any], row_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows of token vectors with as many vectors as a row of the file has; others as are."""
    if rows.shape[1:] == row_shape:
        return rows
    full = np.zeros((len(rows), *row_shape), rows.dtype)
    full[:, : rows.shape[1]] = rows
    return full
