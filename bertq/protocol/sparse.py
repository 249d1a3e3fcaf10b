"""Sparse rows: only the numbers that are not zero, and their columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, overload

import numpy as np
from numpy.typing import NDArray

from bertq.errors import WireError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, repr=False, eq=False)
class SparseRows:
    """Rows of a sparse model (SPLADE): a weight for each token of its vocabulary, most of them 0.

    ``rows[i]`` and iteration return a dict of token id and weight; ``rows[first:end]`` and
    ``rows[[3, 1]]`` return ``SparseRows``. The arrays are those of a compressed sparse row matrix,
    and read-only.

    Attributes:
        indptr: int64 ``[n + 1]``: the numbers of row i are at ``indptr[i]`` to ``indptr[i + 1]`` in
            the other two arrays.
        indices: int32, the columns (token ids), ascending within each row.
        values: float32 or float16, the numbers in these columns.
        shape: number of rows, and number of tokens in the vocabulary.
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
        """Stack rows of at least one part; all parts have the same number of columns."""
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
        """Always 2, as for an array of rows."""
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
        return self._select(np.arange(len(self))[rows])

    def _select(self, rows: NDArray[np.intp]) -> "SparseRows":
        """Return a copy of some rows."""
        starts, ends = self.indptr[:-1][rows], self.indptr[1:][rows]
        counts = ends - starts
        indptr = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        # For each number, its position in this array.
        positions = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        shape = (len(rows), self.shape[1])
        return SparseRows(indptr, self.indices[positions], self.values[positions], shape)

    def __iter__(self) -> Iterator[dict[int, float]]:
        return map(self.__getitem__, range(len(self)))

    def toarray(self) -> NDArray[Any]:
        """Return a dense array of ``shape``, including the zeros."""
        dense = np.zeros(self.shape, self.dtype)
        dense[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices] = self.values
        return dense

    def to_scipy(self) -> "csr_array":
        """Return a ``scipy.sparse.csr_array`` that shares the memory; float16 becomes float32.

        Raises:
            ImportError: SciPy is not installed.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError:
            raise ImportError("to_scipy needs scipy: pip install scipy") from None

        # SciPy has no float16.
        values = self.values.astype(np.float32, copy=False)
        return csr_array((values, self.indices, self.indptr), shape=self.shape)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<SparseRows {rows} x {columns}, {len(self.indices)} numbers, {self.dtype}>"


def _shape(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape
    return rows, columns


#: The result for sentences: one row for each.
AnyRows: TypeAlias = NDArray[Any] | SparseRows


def to_wire(rows: SparseRows) -> dict[str, Any]:
    """Return rows as plain values for ``wire.dumps``."""
    return {
        "indptr": rows.indptr, "indices": rows.indices, "values": rows.values,
        "columns": rows.shape[1],
    }  # fmt: skip


def from_wire(value: dict[Any, Any]) -> SparseRows:
    """Check a decoded value and return it as rows.

    Raises:
        WireError: the value does not have this form, or contradicts itself.
    """
    indptr, indices, values = (value.get(name) for name in ("indptr", "indices", "values"))
    columns = value.get("columns")
    if not (
        _is_vector(indptr, "int64")
        and _is_vector(indices, "int32")
        and (_is_vector(values, "float32") or _is_vector(values, "float16"))
        and type(columns) is int
        and 0 < columns < 2**31
    ):
        raise WireError("sparse rows of a result must have indptr, indices, values and columns")
    if not _is_compressed(indptr, indices, columns) or len(values) != len(indices):
        raise WireError("the sparse rows of a result contradict themselves")
    return SparseRows(indptr, indices, values, (len(indptr) - 1, columns))


def _is_compressed(indptr: NDArray[Any], indices: NDArray[Any], columns: int) -> bool:
    """Return whether each row starts at the end of the previous one and has sorted columns."""
    if len(indptr) < 2 or indptr[0] != 0 or indptr[-1] != len(indices):
        return False
    if (indptr[1:] < indptr[:-1]).any() or (indices < 0).any() or (indices >= columns).any():
        return False
    ascending = indices[1:] > indices[:-1]
    borders = indptr[1:-1]
    ascending[borders[(borders > 0) & (borders < len(indices))] - 1] = True  # of another row
    return bool(ascending.all())


def _is_vector(value: Any, dtype: str) -> TypeGuard[NDArray[Any]]:
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.dtype(dtype)
