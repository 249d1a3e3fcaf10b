"""Vectors to search in: arrays and ``.npy`` files, of float, int8 or binary numbers."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq.errors import BadInputType, BadInputValue
from bertq_client.files import manifest
from bertq_client.files.manifest import Manifest

#: Most bytes of the rows of a block, as float32, and of their scores.
_MAX_BLOCK_BYTES = 4 * 1024 * 1024

#: The precisions of bytes, with the numbers of a byte.
_BYTE_PRECISIONS = {"int8": 1, "uint8": 1, "binary": 8, "ubinary": 8}


@dataclass(frozen=True)
class Vectors:
    """Vectors of documents.

    Attributes:
        rows: ``[n, columns]``, perhaps mapped from a file.
        precision: ``"float"``, or the precision of bytes as in ``bertq.protocol.encoding``.
        ranges: least and greatest value of each dimension, for int8 and uint8.
        manifest: how ``bertq encode`` made the file; None for other vectors.
        name: name for errors.
    """

    rows: NDArray[Any]
    precision: str
    ranges: NDArray[np.float32] | None
    manifest: Manifest | None
    name: str

    @property
    def dimensions(self) -> int:
        """The dimensions of a vector; of binary ones, a multiple of eight."""
        return int(self.rows.shape[1]) * _BYTE_PRECISIONS.get(self.precision, 1)

    def has_dimensions(self, dimensions: int) -> bool:
        """Whether the vectors have so many dimensions; bits may fill the last byte."""
        if self.precision in ("binary", "ubinary"):
            return 0 <= self.dimensions - dimensions < 8
        return self.dimensions == dimensions

    def query_options(self, dimensions: int | None) -> dict[str, Any]:
        """Return the options of queries that are compared with these vectors.

        Args:
            dimensions: dimensions of the model's vectors, if they are known.

        Raises:
            BadInputValue: the vectors have another number, and no manifest says why.
        """
        options: dict[str, Any] = {}
        if self.manifest is not None:
            options["normalize"] = self.manifest.options.get("normalize")
            if dimensions is None or not self.has_dimensions(dimensions):
                options["dimensions"] = self.dimensions
        elif dimensions is not None:
            # Without a manifest it is not known that these are the first dimensions of the model's.
            self.check_dimensions(dimensions, "the model's vectors")
        return options

    def check_dimensions(self, dimensions: int, owner: str) -> None:
        """Refuse vectors to compare with these that have another number of dimensions.

        Args:
            dimensions: their number of dimensions.
            owner: whose they are, for errors.

        Raises:
            BadInputValue: the numbers differ.
        """
        if self.has_dimensions(dimensions):
            return
        hint = "give vectors of the same model"
        if self.precision in ("binary", "ubinary") and self.rows.shape[1] == dimensions:
            hint = "if they are int8 vectors, not binary ones, give int8_ranges"
        elif owner != "queries" and self.dimensions < dimensions:
            hint = f"encode the queries with dimensions={self.dimensions}, and give these vectors"
        raise BadInputValue(
            f"{owner} have {dimensions} dimensions, and {self.name} has {self.dimensions}: {hint}"
        )

    def block_rows(self, queries: int) -> int:
        """Return how many rows to score at once with a number of queries."""
        return max(1, _MAX_BLOCK_BYTES // (4 * max(self.dimensions, queries)))

    def floats(self, rows: NDArray[Any], dimensions: int) -> NDArray[np.float32]:
        """Return rows as float32, with ``dimensions`` columns.

        Numbers of int8 are the middles of their steps; bits are -1 and 1.
        """
        if self.precision == "float":
            return rows.astype(np.float32, copy=False)
        if self.precision in ("binary", "int8"):
            rows = rows.view(np.uint8) ^ 0x80
        if self.precision in ("binary", "ubinary"):
            bits = np.unpackbits(rows, axis=1, count=dimensions)
            signs = bits.astype(np.float32)
            signs *= 2
            signs -= 1
            return signs
        assert self.ranges is not None
        low, high = self.ranges
        floats: NDArray[np.float32] = low + (rows.astype(np.float32) + 0.5) * ((high - low) / 255)
        return floats


def open_vectors(source: Any, int8_ranges: Any, name: str) -> Vectors:
    """Return vectors to search in.

    Args:
        source: an array, or the path of a ``.npy`` file, which is mapped into memory.
        int8_ranges: the file of ``bertq int8-ranges``, for int8 and uint8 numbers; or None.
        name: name of the argument, for errors.

    Raises:
        BadInputType, BadInputValue: they are no vectors, or their numbers need ranges.
        OutputError: the manifest beside the file is damaged.
    """
    known = None
    rows = source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name, rows = str(path), _map_file(path)
        known = manifest.load(manifest.path_of(path))
        if known is not None and not known.complete:
            raise BadInputValue(f"{path} is not complete: let bertq encode finish it")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or not rows.size:
        raise BadInputType(f"{name} must be an array of vectors, [n, dimensions]")
    ranges = None if int8_ranges is None else _read_ranges(Path(int8_ranges))
    precision = _precision(rows, known, name, has_ranges=ranges is not None)
    if precision in ("int8", "uint8"):
        if ranges is None:
            raise BadInputValue(
                f"{name} has {precision} numbers: give int8_ranges, the file that the workers have "
                "as --int8-ranges"
            )
        if ranges.shape != (2, rows.shape[1]):
            raise BadInputValue(
                f"int8_ranges are of {ranges.shape[1]} dimensions, and {name} has {rows.shape[1]}"
            )
    return Vectors(rows, precision, ranges, known, name)


def _map_file(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise BadInputValue(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise BadInputValue(f"{path} is not a .npy file of numbers") from None
    return found


def _precision(rows: NDArray[Any], known: Manifest | None, name: str, *, has_ranges: bool) -> str:
    if np.issubdtype(rows.dtype, np.floating):
        return "float"
    if rows.dtype not in (np.int8, np.uint8):
        raise BadInputType(f"{name} has numbers of type {rows.dtype}: give float, int8 or uint8")
    if known is not None and known.options.get("precision") in _BYTE_PRECISIONS:
        return str(known.options["precision"])
    if has_ranges:
        return str(rows.dtype)
    return "binary" if rows.dtype == np.int8 else "ubinary"


def _read_ranges(path: Path) -> NDArray[np.float32]:
    try:
        ranges = np.asarray(json.loads(path.read_bytes())["ranges"], np.float32)
    except OSError as error:
        raise BadInputValue(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        ranges = np.zeros(0, np.float32)
    if ranges.ndim != 2 or len(ranges) != 2:
        raise BadInputValue(f"{path} has no ranges as bertq int8-ranges writes them")
    return ranges
