"""Shortens, normalizes and quantizes rows as a request specifies.

The formulas are those of ``sentence_transformers.quantize_embeddings``, with one difference: int8
and uint8 use ranges that are fixed for a model, so that a row does not depend on its batch.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertq_bert.config import read_json
from bertq_bert.errors import BadOption, BrokenFile, UnsuitedRows

if TYPE_CHECKING:
    from bertq_bert.model import Model

#: Data types of rows. A byte of a binary row has eight numbers.
PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")

#: Precisions that need ranges, and precisions of rows that are not vectors.
_RANGED, _PLAIN = ("int8", "uint8"), ("float32", "float16")

_Floats = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.float32 | np.float16 | np.int8 | np.uint8]

_NO_RANGES = (
    "int8 and uint8 need the ranges of the model's numbers: start the worker with --int8-ranges "
    "FILE (bertq int8-ranges makes the file)"
)


def finish_rows(
    rows: _Floats,
    *,
    normalize: bool,
    dimensions: int | None,
    precision: str,
    int8_ranges: _Floats | None,
) -> _Rows:
    """Shorten, normalize and quantize rows.

    Args:
        rows: float32 [n, dim] or [n, tokens, dim], not normalized.
        normalize: whether to normalize each vector to length 1; zeros remain zeros.
        dimensions: number of leading dimensions to keep; None keeps all.
        precision: one of ``PRECISIONS``.
        int8_ranges: float32 [2, dim], the minimum and the maximum of each column; numbers out of
            the range are clipped.

    Raises:
        UnsuitedRows: the rows have fewer dimensions, or there are no ranges for them.
        OverflowError: a number is too large for the precision, or not finite.
    """
    rows = _shorten(rows, dimensions)
    if normalize:
        # In float64, because the squares of small numbers are zero in float32. np.linalg.norm
        # would be slower.
        wide = rows.astype(np.float64)
        norms = np.sqrt(np.einsum("...i,...i->...", wide, wide))[..., None]
        norms[norms == 0] = 1
        rows = (wide / norms).astype(np.float32)
    if precision == "float32":
        return rows
    if precision == "float16":
        return _halves(rows)
    if precision == "binary":
        return (np.packbits(rows > 0, axis=-1) ^ 0x80).view(np.int8)  # like subtracting 128
    if precision == "ubinary":
        return np.packbits(rows > 0, axis=-1)
    if precision in _RANGED:
        steps = _steps(rows, int8_ranges)
        return steps if precision == "uint8" else (steps ^ 0x80).view(np.int8)
    raise UnsuitedRows(f"precision must be one of {', '.join(PRECISIONS)}")


def check_request(
    model: "Model", *, normalize: bool | None, dimensions: int | None, precision: str
) -> None:
    """Check that the rows of a model suit a request, before they are computed.

    Args:
        model: the model.
        normalize, dimensions, precision: as for ``finish_rows``; ``normalize=None`` is the default
            of the model.

    Raises:
        UnsuitedRows: the rows cannot be normalized, shortened or quantized as requested.
    """
    if model.task != "embed":
        what = "scores" if model.task == "score" else "sparse rows"
        if normalize:
            raise UnsuitedRows(f"this model gives {what}: they cannot be normalized")
        if dimensions is not None:
            raise UnsuitedRows(f"this model gives {what}: they have no fewer dimensions")
        if precision not in _PLAIN:
            raise UnsuitedRows(f"this model gives {what}: they can be float32 or float16")
        return
    width = model.row_shape[-1]
    assert width is not None  # only the number of tokens may vary
    if dimensions is not None and dimensions < 1:
        raise UnsuitedRows(f"dimensions is {dimensions}: give 1 to {width}")
    if dimensions is not None and dimensions > width:
        raise UnsuitedRows(_too_many(dimensions, width))
    if len(model.row_shape) > 1 and precision not in _PLAIN:
        raise UnsuitedRows("this model gives a vector for each token: float32 or float16")
    if precision in _RANGED:
        _check_ranges(model.int8_ranges, dimensions or width)
        if normalize is not None and normalize != model.normalized:
            raise UnsuitedRows(
                f"the ranges for {precision} are those of rows with normalize={model.normalized}"
            )


def read_ranges(path: str | os.PathLike[str], model: str, width: int | None, task: str) -> _Floats:
    """Read the ranges of int8 rows: float32 [2, dim], the minimum and the maximum of each column.

    Args:
        path: the file.
        model: fingerprint of the model without ranges.
        width: size of the model's rows; the ranges may be for shortened rows.
        task: task of the model.

    Raises:
        MissingFile: the file does not exist.
        BrokenFile: the file has another format.
        BadOption: the ranges are those of another model, or the model has no int8 rows.
    """
    if task != "embed":
        raise BadOption(
            f"int8_ranges is for vectors, and this model gives {task} rows: leave it out"
        )
    document = read_json(Path(path))
    raw, made_with = document.get("ranges"), document.get("model", model)
    try:
        ranges = np.asarray(raw, np.float32)
    except (TypeError, ValueError):
        ranges = np.zeros(0, np.float32)
    if ranges.ndim != 2 or len(ranges) != 2 or not np.isfinite(ranges).all():
        raise BrokenFile(
            f'{path} has no "ranges" of two lists of numbers, as bertq int8-ranges writes them'
        )
    if (ranges[0] > ranges[1]).any():
        raise BrokenFile(f"{path}: a least value in ranges is above the greatest one")
    if made_with != model or ranges.shape[1] > (width or 0):
        raise BadOption(
            f"{path} has ranges of {ranges.shape[1]} numbers for another model or other settings "
            "than these: make one with bertq int8-ranges and a worker without --int8-ranges"
        )
    return ranges


def _too_many(dimensions: int, width: int) -> str:
    return f"the vectors of this model have {width} dimensions: {dimensions} were asked for"


def _shorten(rows: _Floats, dimensions: int | None) -> _Floats:
    if dimensions is None:
        return rows
    if dimensions > rows.shape[-1]:
        raise UnsuitedRows(_too_many(dimensions, rows.shape[-1]))
    return np.ascontiguousarray(rows[..., :dimensions])


def _halves(rows: _Floats) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = rows.astype(np.float16)
    if not np.isfinite(halves).all():
        raise OverflowError("a number of the vectors is too large for float16: take float32")
    return halves


def _check_ranges(ranges: _Floats | None, width: int) -> _Floats:
    if ranges is None:
        raise UnsuitedRows(_NO_RANGES)
    if ranges.shape != (2, width):
        raise UnsuitedRows(
            f"the ranges of the model (--int8-ranges) are for {ranges.shape[-1]} dimensions, and "
            f"{width} were asked for: bertq int8-ranges makes a file for those"
        )
    return ranges


def _steps(rows: _Floats, ranges: _Floats | None) -> npt.NDArray[np.uint8]:
    """Return the index of each number among 256 steps from the minimum to the maximum."""
    low, high = _check_ranges(ranges, rows.shape[-1])
    if not np.isfinite(rows).all():
        raise OverflowError("a number of the vectors is not finite: take float32")
    step = (high - low) / 255
    step = np.where(step == 0, np.float32(1), step)  # a column with one value
    steps: npt.NDArray[np.float32] = np.floor((rows - low) / step)
    return np.clip(steps, 0, 255).astype(np.uint8)
