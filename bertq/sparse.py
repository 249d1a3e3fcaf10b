"""Sparse rows: of each only the numbers that are not zero, and the columns where they stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, repr=False, eq=False)
class SparseRows:
    """Rows of a sparse model (SPLADE): a weight for each token of its vocabulary, most of them 0.

    ``rows[i]`` and iteration give a dict of token id and weight; ``rows[first:end]`` and
    ``rows[[3, 1]]`` give ``SparseRows``. The arrays are those of a compressed sparse row matrix;
    they cannot be written to.

    Attributes:
        indptr: int64 ``[n + 1]``: the numbers of row i are those from ``indptr[i]`` to
            ``indptr[i + 1]`` of the other two arrays.
        indices: int32, the columns (token ids), ascending within each row.
        values: float32 or float16, the numbers that stand there.
        shape: number of rows, and of tokens in the vocabulary.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[Any]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("indptr", "indices", "values"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @classmethod
    def from_dense(cls, rows: NDArray[Any]) -> "SparseRows":
        """Compress an array ``[n, columns]``."""
        numbers, columns = np.nonzero(rows)
        counts = np.bincount(numbers, minlength=len(rows))
        indptr = np.concatenate(([0], np.cumsum(counts)))
        values = rows[numbers, columns]
        return cls(indptr.astype(np.int64), columns.astype(np.int32), values, _shape(rows.shape))

    @classmethod
    def concatenate(cls, parts: Sequence["SparseRows"]) -> "SparseRows":
        """Put rows of the same number of columns, of at least one part, below each other."""
        starts = np.cumsum([0, *(len(part.indices) for part in parts)])
        ends = [part.indptr[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *ends]),
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.values for part in parts]),
            (sum(map(len, parts)), parts[0].shape[1]),
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """Always 2, as of an array of rows."""
        return 2

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> dict[int, float]: ...
    @overload
    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> "SparseRows": ...
    def __getitem__(self, rows: Any) -> "SparseRows | dict[int, float]":
        if isinstance(rows, int | np.integer):
            first, end = self.indptr[range(len(self))[rows] :][:2]
            columns, values = self.indices[first:end].tolist(), self.values[first:end].tolist()
            return dict(zip(columns, values, strict=True))
        return self._take(np.arange(len(self))[rows])

    def _take(self, rows: NDArray[np.intp]) -> "SparseRows":
        """Return a copy of some rows."""
        starts, ends = self.indptr[:-1][rows], self.indptr[1:][rows]
        counts = ends - starts
        indptr = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        # Of each number, where it stands in this array.
        places = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        shape = (len(rows), self.shape[1])
        return SparseRows(indptr, self.indices[places], self.values[places], shape)

    def __iter__(self) -> Iterator[dict[int, float]]:
        return map(self.__getitem__, range(len(self)))

    def toarray(self) -> NDArray[Any]:
        """Return all of it, zeros too: an array of ``shape``."""
        dense = np.zeros(self.shape, self.dtype)
        dense[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices] = self.values
        return dense

    def to_scipy(self) -> "csr_array":
        """Return a ``scipy.sparse.csr_array`` on the same memory; float16 becomes float32.

        Raises:
            ImportError: SciPy is not installed.
        """
        from scipy.sparse import csr_array

        # SciPy has no float16.
        values = self.values.astype(np.float32, copy=False)
        return csr_array((values, self.indices, self.indptr), shape=self.shape)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<SparseRows {rows} x {columns}, {len(self.indices)} numbers, {self.dtype}>"


def _shape(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape
    return rows, columns


#: What comes for sentences: a row for each of them.
AnyRows: TypeAlias = NDArray[Any] | SparseRows
