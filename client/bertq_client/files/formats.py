"""The formats of an output: ``.npy`` and ``.jsonl``."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bertq.errors import OutputError
from bertq.protocol.sparse import SparseRows

#: Bytes before the first row of a ``.npy`` file.
NPY_HEAD = 128

#: Format of the numbers of each type, with enough digits to distinguish adjacent values.
_PATTERNS = {"float32": "%.9g", "float16": "%.5g", "int8": "%d", "uint8": "%d"}


class Form(Protocol):
    """A format that turns rows into bytes."""

    #: Bytes before the first row.
    head: int

    def encode(self, rows: Any, lines: Iterable[int]) -> bytes:
        """Return the bytes of some rows, which belong to these lines of the input."""
        ...

    def title(self, count: int) -> bytes:
        """Return the header for ``count`` rows; it is written when all rows are."""
        ...


class Npy:
    """NumPy's own format. The header has the number of rows, so it is written last.

    Until then its place has zeros, so no program reads the file as an array.
    """

    head = NPY_HEAD

    def __init__(self, dtype: str, row_shape: tuple[int, ...]) -> None:
        self._descr = np.dtype(dtype).newbyteorder("<")
        self._row_shape = row_shape

    def encode(self, rows: NDArray[Any], lines: Iterable[int]) -> bytes:
        """Return the numbers as in memory."""
        return rows.astype(self._descr, copy=False).tobytes()

    def title(self, count: int) -> bytes:
        """Return the header, version 1.0, with a fixed length."""
        shape = (count, *self._row_shape)
        text = f"{{'descr': {self._descr.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
        magic = npy.magic(1, 0)
        room = NPY_HEAD - len(magic) - 2
        return magic + room.to_bytes(2, "little") + text.ljust(room - 1).encode("ascii") + b"\n"


class Jsonl:
    """One JSON object per row: ``{"line": 1, "vector": [...]}``."""

    head = 0

    def __init__(self, dtype: str, row_shape: tuple[int, ...]) -> None:
        # One format operation per row is several times as fast as ``json.dumps`` of so many
        # numbers, and writes no superfluous digits.
        pattern = _PATTERNS[dtype]
        for length in reversed(row_shape):
            pattern = "[" + ", ".join([pattern] * length) + "]"
        self._pattern = f'{{"line": %d, "vector": {pattern}}}\n'

    def encode(self, rows: NDArray[Any], lines: Iterable[int]) -> bytes:
        """Return a line for each row."""
        flat = rows.reshape(len(rows), -1).tolist()
        text = "".join(
            [self._pattern % (line, *row) for line, row in zip(lines, flat, strict=True)]
        )
        return _finite(text, rows).encode("ascii")

    def title(self, count: int) -> bytes:
        """Return no bytes."""
        return b""


class SparseJsonl:
    """One JSON object per row of a sparse model: ``{"line": 1, "vector": {"2023": 0.731}}``."""

    head = 0

    def __init__(self, dtype: str) -> None:
        self._pattern = f'"%d": {_PATTERNS[dtype]}'

    def encode(self, rows: SparseRows, lines: Iterable[int]) -> bytes:
        """Return a line for each row."""
        text = "".join(
            [
                f'{{"line": {line}, "vector": {{{self._items(row)}}}}}\n'
                for line, row in zip(lines, rows, strict=True)
            ]
        )
        return _finite(text, rows.values).encode("ascii")

    def _items(self, row: dict[int, float]) -> str:
        return ", ".join([self._pattern % item for item in row.items()])

    def title(self, count: int) -> bytes:
        """Return no bytes."""
        return b""


def _finite(text: str, numbers: NDArray[Any]) -> str:
    """Replace infinities and NaN in ``text`` by null: JSON has no such numbers."""
    return text if np.isfinite(numbers).all() else re.sub("-?(nan|inf)", "null", text)


#: The formats of array rows, by the suffix of the output.
FORMS: dict[str, type[Npy] | type[Jsonl]] = {".npy": Npy, ".jsonl": Jsonl}


def form_of(output: Path, dtype: str, row_shape: tuple[int, ...], *, is_sparse: bool) -> Form:
    """Return the format for rows of this shape and type.

    Raises:
        OutputError: the file's format cannot store such rows.
    """
    if not is_sparse:
        return FORMS[output.suffix](dtype, row_shape)
    check_sparse(output)
    return SparseJsonl(dtype)


def check_sparse(output: Path) -> None:
    """Check that the output can store the rows of a sparse model.

    Raises:
        OutputError: it is not a ``.jsonl`` file.
    """
    if output.suffix != ".jsonl":
        raise OutputError(f"{output}: the model gives sparse rows, which are written as .jsonl")


def padded(rows: NDArray[Any], row_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows of token vectors padded to ``row_shape``; other rows unchanged."""
    if rows.shape[1:] == row_shape:
        return rows
    full = np.zeros((len(rows), *row_shape), rows.dtype)
    full[:, : rows.shape[1]] = rows
    return full
