"""The documents that are nearest to queries, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

from bertq.errors import BadInputValue
from bertq_client.search import similarity
from bertq_client.search.rerank import RankedDocument
from bertq_client.search.vectors import Vectors

#: Queries that are compared with a block of documents at once.
_MAX_QUERIES = 1024

#: For each result, the candidates that are scored again with exact vectors.
_CANDIDATES_PER_RESULT = 4


def find(
    queries: NDArray[np.float32],
    corpus: Vectors,
    top_k: int,
    function: str,
    exact: Vectors | None,
) -> list[list[RankedDocument]]:
    """Return the nearest documents of each query, best first.

    Args:
        queries: ``[n, dimensions]``.
        corpus: the documents.
        top_k: how many documents to return for a query.
        function: how vectors are compared, one of ``similarity.FUNCTIONS``.
        exact: the documents in float32, to score candidates again; or None.

    Raises:
        BadInputValue: the vectors have different lengths.
    """
    corpus.check_dimensions(queries.shape[1], "queries")
    if exact is not None:
        if exact.precision != "float" or len(exact.rows) != len(corpus.rows):
            raise BadInputValue(
                f"{exact.name} must have the float vectors of {corpus.name}: as many rows"
            )
        exact.check_dimensions(queries.shape[1], "queries")
    results = []
    for first in range(0, len(queries), _MAX_QUERIES):
        part = queries[first : first + _MAX_QUERIES]
        count = top_k if exact is None else top_k * _CANDIDATES_PER_RESULT
        indices, scores = _scan(part, corpus, count, function)
        if exact is not None:
            scores = np.concatenate(
                [
                    _score(query, exact, rows, function)
                    for query, rows in zip(part, indices, strict=True)
                ]
            )
        results += [_sorted(*row, top_k) for row in zip(indices, scores, strict=True)]
    return results


def _scan(
    queries: NDArray[np.float32], corpus: Vectors, count: int, function: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return indices and scores of the ``count`` nearest documents of each query, unsorted."""
    size = corpus.block_rows(len(queries))
    indices = np.zeros((len(queries), 0), np.int64)
    scores = np.zeros((len(queries), 0), np.float32)
    for first in range(0, len(corpus.rows), size):
        block = corpus.floats(np.asarray(corpus.rows[first : first + size]), queries.shape[1])
        similarity.check_finite(block, corpus.name, range(first, first + len(block)))
        found = similarity.compute(function, queries, block)
        places = np.broadcast_to(np.arange(first, first + len(block)), found.shape)
        found, places = _largest(found, places, count)
        scores = np.concatenate([scores, found], axis=1)
        indices = np.concatenate([indices, places], axis=1)
        scores, indices = _largest(scores, indices, count)
    return indices, scores


def _score(
    query: NDArray[np.float32], exact: Vectors, rows: NDArray[np.int64], function: str
) -> NDArray[np.float32]:
    """Return the scores of some documents for one query, ``[1, len(rows)]``."""
    vectors = exact.floats(exact.rows[rows], len(query))
    similarity.check_finite(vectors, exact.name, rows.tolist())
    return similarity.compute(function, query[None], vectors)


def _largest(
    scores: NDArray[np.float32], indices: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the columns with the ``count`` largest scores of each row, with their indices."""
    if scores.shape[1] <= count:
        return scores, indices
    best = np.argpartition(scores, -count, axis=1)[:, -count:]
    return np.take_along_axis(scores, best, 1), np.take_along_axis(indices, best, 1)


def _sorted(
    indices: NDArray[np.int64], scores: NDArray[np.float32], count: int
) -> list[RankedDocument]:
    order = np.lexsort((indices, -scores))[:count]
    return [
        RankedDocument(index, score)
        for index, score in zip(indices[order].tolist(), scores[order].tolist(), strict=True)
    ]
