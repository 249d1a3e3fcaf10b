"""The similarity of vectors, as the authors of a model compare them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertq.errors import BadInputValue

#: An array of floating-point numbers of any size.
Floats: TypeAlias = NDArray[np.floating[Any]]


def _cosine(a: Floats, b: Floats) -> Floats:
    return _divide(_divide(a @ b.T, _lengths(a)[:, None]), _lengths(b))


def _lengths(vectors: Floats) -> Floats:
    lengths: Floats = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths


def _divide(products: Floats, lengths: Floats) -> Floats:
    # A vector of zeros, as of a blank line, is similar to none.
    lengths = np.broadcast_to(lengths, products.shape)
    return np.divide(products, lengths, out=products, where=lengths > 0)


def _dot(a: Floats, b: Floats) -> Floats:
    return a @ b.T


def _euclidean(a: Floats, b: Floats) -> Floats:
    # In float64: the difference of large numbers would lose the digits of a small distance.
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)
    distances: Floats = np.sqrt(np.maximum(squares, 0))
    return -distances


def _manhattan(a: Floats, b: Floats) -> Floats:
    # Row by row: all differences at once would be len(a) times as large as b.
    return -np.stack([np.abs(b - row).sum(1) for row in a])


#: The functions by their names in sentence-transformers; the larger, the more similar.
FUNCTIONS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}

#: The function of a model whose authors name none, as in sentence-transformers.
DEFAULT = "cosine"


def check_function(name: Any) -> None:
    """Refuse the name of a function that does not exist.

    Raises:
        BadInputValue: it is neither None nor one of ``FUNCTIONS``.
    """
    if name is not None and (not isinstance(name, str) or name not in FUNCTIONS):
        choices = ", ".join(map(repr, FUNCTIONS))
        raise BadInputValue(f"function must be one of {choices}, or None for that of the model")


def check_finite(vectors: Floats, name: str, rows: Sequence[int] | None = None) -> None:
    """Refuse vectors with NaN or infinite numbers, which have no similarity.

    Args:
        vectors: the vectors.
        name: name of the argument, for errors.
        rows: their numbers in it; None if they are all.

    Raises:
        BadInputValue: a number is not finite.
    """
    with np.errstate(all="ignore"):
        if np.isfinite(vectors.sum()):  # much faster than a look at each number
            return
    is_finite = np.isfinite(vectors).all(axis=1)
    if not is_finite.all():
        index = int(np.argmin(is_finite))
        row = index if rows is None else rows[index]
        raise BadInputValue(f"row {row} of {name} has NaN or infinite numbers: make it again")


def compute(function: str, a: Floats, b: Floats) -> NDArray[np.float32]:
    """Return the similarity of each row of ``a`` with each row of ``b``: ``[len(a), len(b)]``."""
    return FUNCTIONS[function](a, b).astype(np.float32, copy=False)
