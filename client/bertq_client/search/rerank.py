"""Reranking: documents in the order of a cross-encoder's scores for a query."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bertq.errors import BadInput, BadInputType, BadInputValue, RemoteError, SentenceTooLong
from bertq.protocol.limits import MAX_SENTENCE_CHARACTERS
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.state.worker_info import WorkerInfo
from bertq_client import inputs


class RankedDocument(NamedTuple):
    """A document of a result, and its score.

    Attributes:
        index: number of the document in the list of the caller.
        score: score of the cross-encoder, with the activation of the model's config; or the
            similarity to the query.
    """

    index: int  # type: ignore[assignment]  # hides a method of tuples
    score: float


def check_model(worker: WorkerInfo) -> None:
    """Refuse a model that does not give one score for a pair of texts.

    Raises:
        BadInputValue: it is no cross-encoder with one label.
    """
    name = worker.public_name
    if worker.task != "score":
        raise BadInputValue(
            f"model {name} returns {worker.returned}, not scores: reranking needs a cross-encoder"
        )
    if worker.row_shape != [1]:
        names = f" ({', '.join(worker.labels)})" if worker.labels else ""
        raise BadInputValue(
            f"model {name} has {worker.row_shape[-1]} labels{names}: reranking needs a "
            "cross-encoder with one; encode returns the scores of all labels"
        )


def make_pairs(query: Any, documents: Any, name: str = "documents") -> list[tuple[str, str]]:
    """Return the pair of texts for each document; ``name`` is that of the list, for errors.

    Raises:
        BadInputType: the query or a document is no str, or there is no list of documents.
        BadInputValue: one of them is blank or too long, or there is no document.
    """
    query = inputs.drop_surrogates(query)
    inputs.check_text(query, "query")
    found = inputs.prepare_strings(documents, name)
    for index, document in enumerate(found):
        # As two texts and a separator after each, see inputs.characters.
        if (size := len(query) + len(document) + 2) > MAX_SENTENCE_CHARACTERS:
            raise BadInputValue(
                f"query and {name}[{index}] have {size} characters together: at most "
                f"{MAX_SENTENCE_CHARACTERS} are allowed"
            )
    return [(query, document) for document in found]


def make_pairs_of_element(element: Any, number: int) -> list[tuple[str, str]]:
    """Return the pair of texts for each document of an element of a stream.

    Args:
        element: a query with its documents.
        number: its number, from 1, for errors.

    Raises:
        BadInputType, BadInputValue: as ``make_pairs``; or it is something else.
    """
    try:
        if not isinstance(element, list | tuple) or len(element) != 2:
            size = f" of {len(element)}" if isinstance(element, list | tuple) else ""
            raise BadInputType(
                f"it is a {type(element).__name__}{size}: it must be a tuple (query, documents)"
            )
        return make_pairs(*element)
    except BadInput as error:
        error.args = (f"query {number}: {error}",)
        raise


def scores_of(rows: AnyRows) -> list[float]:
    """Return the scores in rows of a cross-encoder.

    Raises:
        BadInputValue: the rows are no scores.
    """
    if isinstance(rows, SparseRows) or rows.shape[1:] != (1,):
        shape = " x ".join(map(str, rows.shape[1:]))
        raise BadInputValue(
            f"the model returned rows of {shape} numbers: reranking needs a cross-encoder with one "
            "label"
        )
    scores: list[float] = rows[:, 0].tolist()
    return scores


def rank(scores: Sequence[float], top_n: int | None) -> list[RankedDocument]:
    """Return documents by their scores, best first; equal ones in the order of the caller."""
    best = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    return [RankedDocument(index, scores[index]) for index in best[:top_n]]


def with_documents(
    error: RemoteError | SentenceTooLong, pairs: Sequence[tuple[int | None, int]]
) -> RemoteError | SentenceTooLong:
    """Return the error of a request, naming documents instead of its texts.

    Args:
        error: the error.
        pairs: number of the query, None for the only one, and index of the document, for each text
            that the error names.
    """
    place = ", ".join(
        f"documents[{index}]" if query is None else f"documents[{index}] of query {query}"
        for query, index in pairs[:1]
    )
    if len(pairs) > 1:
        place += f" and {len(pairs) - 1} more"
    if isinstance(error, SentenceTooLong):
        text = (
            f"{place}: more tokens than the {error.max_seq_len} that the model reads, special "
            'tokens included: shorten the texts, or use truncate "right" or "left"'
        )
    else:
        reason = f"{error.type_name}: {error.message}" if error.message else error.type_name
        text = f"{reason} (one of: {place})" if pairs else reason
    error.args = (text,)
    return error
