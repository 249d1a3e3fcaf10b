"""Sparse rows: the same numbers as in an array, also after the wire format."""

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from bertq import SparseRows
from bertq.errors import WireError
from bertq.protocol import wire
from bertq.protocol.versions import WIRE_VERSION
from bertq.protocol.wire import ChunkResult

DENSE = hnp.arrays(
    dtype=st.sampled_from([np.float32, np.float16]),
    shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.25]),
)

ROWS = np.array([[0, 0.5, 0, 2], [0, 0, 0, 0], [0.25, 0, 0, 0]], np.float32)


def through_the_wire(rows: SparseRows) -> Any:
    """The rows of a result after its way to the client."""
    result = ChunkResult.from_wire(wire.loads(wire.dumps(ChunkResult(rows, "f").to_wire())))
    return result.rows


@given(DENSE, st.data())
def test_sparse_rows_are_those_of_the_array(dense: NDArray[Any], data: st.DataObject) -> None:
    rows = through_the_wire(SparseRows.from_dense(dense))
    assert isinstance(rows, SparseRows)
    assert (len(rows), rows.shape, rows.dtype, rows.ndim) == (
        len(dense),
        dense.shape,
        dense.dtype,
        2,
    )
    np.testing.assert_array_equal(rows.toarray(), dense)
    chosen = data.draw(st.lists(st.integers(-len(dense), len(dense) - 1), max_size=9))
    np.testing.assert_array_equal(rows[chosen].toarray(), dense[np.array(chosen, int)])
    part = data.draw(st.slices(len(dense)))
    np.testing.assert_array_equal(rows[part].toarray(), dense[part])
    two = SparseRows.concatenate([rows, rows[part]])
    np.testing.assert_array_equal(two.toarray(), np.concatenate([dense, dense[part]]))
    for row, found in zip(dense, rows, strict=True):
        assert found == {index: value for index, value in enumerate(row.tolist()) if value}


def test_a_single_row_is_a_dict() -> None:
    rows = SparseRows.from_dense(ROWS)
    assert rows[0] == {1: 0.5, 3: 2.0}
    assert rows[-1] == rows[np.int64(2)] == {0: 0.25}
    assert list(rows) == [{1: 0.5, 3: 2.0}, {}, {0: 0.25}]
    with pytest.raises(IndexError):
        rows[3]


def test_nothing_can_be_changed_and_nothing_is_shown() -> None:
    rows = SparseRows.from_dense(ROWS)
    assert repr(rows) == "<SparseRows 3 x 4, 3 numbers, float32>"
    assert repr(ChunkResult(rows, "f")) == "<rows 3 x 4, float32>"
    for array in (rows.indptr, rows.indices, rows.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    own = np.zeros(1, np.float32)
    SparseRows(np.array([0, 1]), np.array([0], np.int32), own, (1, 4))
    own[0] = 1  # its source is unchanged
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)).toarray(), ROWS)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scipy_reads_sparse_rows(dtype: type[np.generic]) -> None:
    found = SparseRows.from_dense(ROWS.astype(dtype)).to_scipy()
    np.testing.assert_array_equal(found.toarray(), ROWS)
    np.testing.assert_array_equal((found @ found.T).toarray(), ROWS @ ROWS.T)


def test_scipy_is_imported_when_it_is_asked_for() -> None:
    script = "import sys, bertq; bertq.SparseRows; print('scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


GOOD = {
    "indptr": np.array([0, 2, 2, 3]), "indices": np.array([1, 3, 0], np.int32),
    "values": np.ones(3, np.float32), "columns": 4,
}  # fmt: skip


def result_of(**changes: Any) -> dict[str, Any]:
    """A result with sparse rows in which something is different."""
    return {"wire": WIRE_VERSION, "fingerprint": "f", "rows": {**GOOD, **changes}}


def test_what_sparse_rows_on_the_wire_are() -> None:
    rows = ChunkResult.from_wire(result_of()).rows
    assert list(rows) == [{1: 1.0, 3: 1.0}, {}, {0: 1.0}]


@pytest.mark.parametrize(
    "changes",
    [
        {"indptr": None},
        {"indptr": [0, 2, 2, 3]},
        {"indptr": np.array([0, 2, 2, 3], np.int32)},
        {"indptr": np.array([[0, 3]])},
        {"indptr": np.array([], np.int64)},
        {"indptr": np.array([0])},
        {"indptr": np.array([1, 2, 2, 3])},
        {"indptr": np.array([0, 2, 2, 4])},
        {"indptr": np.array([0, 2, 1, 3])},
        {"indptr": np.array([0, 2**63 - 1, -(2**63), 3])},
        {"indptr": np.array([0, 3, 3, 3])},  # 1, 3, 0 are no columns of one row
        {"indices": np.array([1, 3, 0])},
        {"indices": np.array([1, 4, 0], np.int32)},
        {"indices": np.array([-1, 3, 0], np.int32)},
        {"indices": np.array([3, 3, 0], np.int32)},
        {"values": np.ones(2, np.float32)},
        {"values": np.ones(3)},
        {"values": np.ones((3, 1), np.float32)},
        {"columns": 0},
        {"columns": 2**31},
        {"columns": True},
        {"columns": "4"},
    ],
)
def test_sparse_rows_that_contradict_themselves(changes: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="sparse rows"):
        ChunkResult.from_wire(result_of(**changes))
