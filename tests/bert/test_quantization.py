"""Rows cut, normalized and quantized: the numbers of sentence-transformers 6.2, row by row."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bertq_bert.errors import BadOption, UnsuitedRows
from bertq_bert.quantization import PRECISIONS, check_request, finish_rows

ROWS = np.array(
    [
        [0.0005, 0.1195, -0.1097, -0.3562, -0.1819, -0.3967, 0.0241, 0.5361, -0.1969, -0.2482],
        [0.1959, 0.1428, 0.0422, -0.3722, -0.0117, 0.2781, -0.5377, -0.183, -0.7605, -0.5158],
        [-0.7367, -0.094, -0.507, 0.1085, 0.0627, -0.0748, -1.0067, -0.2155, -0.0194, 0.0453],
        [-0.6121, -0.1911, -0.3914, -0.3235, 0.4244, -0.323, -0.013, 0.3538, -0.2334, -0.0447],
    ],
    np.float32,
)
#: The fourth column was always the same.
RANGES = np.vstack((np.full(10, -0.5), np.linspace(0.3, 0.6, 10))).astype(np.float32)
RANGES[:, 3] = 0.1

#: quantize_embeddings(ROWS, precision, ranges=RANGES) of sentence-transformers 6.2.
REFERENCE = {
    "int8": [
        [31, 61, -14, -128, -42, -101, 5, 127, -56, -70],
        [93, 68, 31, -128, 5, 77, -128, -50, -128, -128],
        [-128, -4, -128, -128, 25, -16, -128, -58, -14, -2],
        [-128, -34, -97, -128, 124, -82, -4, 82, -65, -23],
    ],
    "uint8": [
        [159, 189, 114, 0, 86, 27, 133, 255, 72, 58],
        [221, 196, 159, 0, 133, 205, 0, 78, 0, 0],
        [0, 124, 0, 0, 153, 112, 0, 70, 114, 126],
        [0, 94, 31, 0, 252, 46, 124, 210, 63, 105],
    ],
    "binary": [[67, -128], [100, -128], [-104, -64], [-119, -128]],
    "ubinary": [[195, 0], [228, 0], [24, 64], [9, 0]],
}


def finish(
    rows: NDArray[np.float32],
    precision: str = "float32",
    *,
    normalize: bool = False,
    dimensions: int | None = None,
    ranges: NDArray[np.float32] | None = None,
) -> NDArray[Any]:
    """``finish_rows`` of a copy, with defaults."""
    return finish_rows(
        rows.copy(), normalize=normalize, dimensions=dimensions, precision=precision,
        int8_ranges=ranges,
    )  # fmt: skip


@pytest.mark.parametrize("precision", list(REFERENCE))
def test_the_numbers_are_those_of_sentence_transformers(precision: str) -> None:
    found = finish(ROWS, precision, ranges=RANGES)
    np.testing.assert_array_equal(found, REFERENCE[precision])
    assert found.dtype == ("int8" if precision in ("int8", "binary") else "uint8")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_row_does_not_depend_on_its_batch(precision: str, normalize: bool) -> None:
    whole = finish(ROWS, precision, normalize=normalize, ranges=RANGES)
    for number, row in enumerate(ROWS):
        alone = finish(row[None], precision, normalize=normalize, ranges=RANGES)
        np.testing.assert_array_equal(alone[0], whole[number])


def test_numbers_outside_of_the_ranges_are_clipped() -> None:
    far = np.array([[1e30] * 10, [-1e30] * 10], np.float32)
    np.testing.assert_array_equal(finish(far, "int8", ranges=RANGES), [[127] * 10, [-128] * 10])
    np.testing.assert_array_equal(finish(far, "uint8", ranges=RANGES), [[255] * 10, [0] * 10])


def test_vectors_are_cut_and_then_normalized() -> None:
    rows = np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0], [1e-20, 0.0, 5.0]], np.float32)
    found = finish(rows, normalize=True, dimensions=2)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(finish(rows, dimensions=2), rows[:, :2])
    np.testing.assert_array_equal(finish(rows, dimensions=3), rows)
    tokens = np.stack([rows, rows * 7])
    found = finish(tokens, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), np.ones((2, 3)), rtol=1e-6)
    with pytest.raises(UnsuitedRows, match="have 3 dimensions: 4 were asked for"):
        finish(rows, dimensions=4)


def test_float16() -> None:
    rows = np.array([[0.1, -2.5]], np.float32)
    np.testing.assert_array_equal(finish(rows, "float16"), rows.astype(np.float16))
    with pytest.raises(OverflowError, match="too large for float16: take float32"):
        finish(rows * 1e6, "float16")


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_int8_needs_ranges_of_the_same_width(precision: str) -> None:
    with pytest.raises(UnsuitedRows, match=r"--int8-ranges FILE \(bertq int8-ranges makes"):
        finish(ROWS, precision)
    with pytest.raises(UnsuitedRows, match="are for 10 dimensions, and 8 were asked for"):
        finish(ROWS, precision, dimensions=8, ranges=RANGES)
    short = finish(ROWS, precision, dimensions=8, ranges=RANGES[:, :8])
    np.testing.assert_array_equal(short, np.array(REFERENCE[precision])[:, :8])
    with pytest.raises(OverflowError, match="is not finite"):
        finish(np.full((1, 10), np.nan, np.float32), precision, ranges=RANGES)


def test_an_unknown_precision() -> None:
    with pytest.raises(UnsuitedRows, match="must be one of float32, float16, int8"):
        finish(ROWS, "int4")
    assert issubclass(UnsuitedRows, BadOption)


def model(task: str = "embed", **more: Any) -> Any:
    """The attributes of a model that are read."""
    fields = {"row_shape": (10,), "normalized": False, "int8_ranges": RANGES, **more}
    return SimpleNamespace(task=task, **fields)


@pytest.mark.parametrize("task", ["score", "sparse"])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"normalize": True}, "cannot be normalized"),
        ({"dimensions": 10}, "no fewer dimensions"),
        ({"precision": "int8"}, "float32 or float16"),
        ({"precision": "binary"}, "float32 or float16"),
    ],
)
def test_scores_and_sparse_rows_stay_as_they_are(
    task: str, asked: dict[str, Any], said: str
) -> None:
    plain: dict[str, Any] = {"normalize": None, "dimensions": None, "precision": "float16"}
    check_request(model(task), **plain)
    check_request(model(task), **{**plain, "normalize": False})
    with pytest.raises(UnsuitedRows, match=said):
        check_request(model(task), **{**plain, **asked})


def test_vectors_are_checked_before_they_are_computed() -> None:
    def check(made: Any, precision: str = "float32", **asked: Any) -> None:
        check_request(made, **{"normalize": None, "dimensions": None, **asked}, precision=precision)

    check(model(), "int8", dimensions=10)
    check(model(), "int8", normalize=False)
    check(model(row_shape=(None, 10)), "float16", normalize=True, dimensions=2)
    with pytest.raises(UnsuitedRows, match="have 10 dimensions: 11 were"):
        check(model(), dimensions=11)
    with pytest.raises(UnsuitedRows, match="for 10 dimensions, and 8"):
        check(model(), "uint8", dimensions=8)
    with pytest.raises(UnsuitedRows, match="--int8-ranges"):
        check(model(int8_ranges=None), "int8")
    with pytest.raises(UnsuitedRows, match="those of rows with normalize=False"):
        check(model(), "int8", normalize=True)
    for precision in ("int8", "binary", "ubinary"):
        with pytest.raises(UnsuitedRows, match="a vector for each token: float32 or float16"):
            check(model(row_shape=(None, 10)), precision)
