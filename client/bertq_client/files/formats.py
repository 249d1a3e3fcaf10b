"""The formats of an output: ``.npy`` and ``.jsonl``."""

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bertq.errors import OutputError
from bertq.protocol.sparse import SparseRows

#: Format of the numbers of each type, with enough digits to distinguish adjacent values.
_PATTERNS = {"float32": "%.9g", "float16": "%.5g", "int8": "%d", "uint8": "%d"}


class RowFormat(Protocol):
    """A format that turns rows into bytes."""

    #: Bytes before the first row.
    header_bytes: int

    def encode(self, rows: Any, lines: Iterable[int]) -> bytes:
        """Return the bytes of some rows, which belong to these lines of the input."""
        ...

    def header(self, count: int) -> bytes:
        """Return the header for ``count`` rows; it is written when all rows are."""
        ...


class NpyFormat:
    """NumPy's own format. The header has the number of rows, so it is written last.

    Until then its place has zeros, so no program reads the file as an array.
    """

    def __init__(self, dtype: str, row_shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._row_shape = row_shape
        self.header_bytes = len(self.header(0))

    def encode(self, rows: NDArray[Any], lines: Iterable[int]) -> bytes:
        """Return the numbers as in memory."""
        return rows.astype(self._dtype, copy=False).tobytes()

    def header(self, count: int) -> bytes:
        """Return the header; NumPy pads it, so that its length does not depend on ``count``."""
        file = io.BytesIO()
        shape = (count, *self._row_shape)
        npy.write_array_header_1_0(
            file, {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        )
        return file.getvalue()


class JsonlFormat:
    """One JSON object per row: ``{"line": 1, "vector": [...]}``."""

    header_bytes = 0

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
        return _replace_non_finite(text, rows).encode("ascii")

    def header(self, count: int) -> bytes:
        """Return no bytes."""
        return b""


class SparseJsonlFormat:
    """One JSON object per row of a sparse model: ``{"line": 1, "vector": {"2023": 0.731}}``."""

    header_bytes = 0

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
        return _replace_non_finite(text, rows.values).encode("ascii")

    def _items(self, row: dict[int, float]) -> str:
        return ", ".join([self._pattern % item for item in row.items()])

    def header(self, count: int) -> bytes:
        """Return no bytes."""
        return b""


def _replace_non_finite(text: str, numbers: NDArray[Any]) -> str:
    """Replace infinities and NaN in ``text`` by null: JSON has no such numbers."""
    return text if np.isfinite(numbers).all() else re.sub("-?(nan|inf)", "null", text)


#: The formats of array rows, by the suffix of the output.
FORMATS: dict[str, type[NpyFormat] | type[JsonlFormat]] = {
    ".npy": NpyFormat,
    ".jsonl": JsonlFormat,
}


def create_format(
    output: Path, dtype: str, row_shape: tuple[int, ...], *, is_sparse: bool
) -> RowFormat:
    """Return the format for rows of this shape and type.

    Raises:
        OutputError: the file's format cannot store such rows.
    """
    if not is_sparse:
        return FORMATS[output.suffix](dtype, row_shape)
    check_sparse(output)
    return SparseJsonlFormat(dtype)


def check_sparse(output: Path) -> None:
    """Check that the output can store the rows of a sparse model.

    Raises:
        OutputError: it is not a ``.jsonl`` file.
    """
    if output.suffix != ".jsonl":
        raise OutputError(f"{output}: the model gives sparse rows, which are written as .jsonl")


def pad_rows(rows: NDArray[Any], row_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows of token vectors padded to ``row_shape``; other rows unchanged."""
    if rows.shape[1:] == row_shape:
        return rows
    padded = np.zeros((len(rows), *row_shape), rows.dtype)
    padded[:, : rows.shape[1]] = rows
    return padded
