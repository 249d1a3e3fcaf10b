"""The calls of a client that compare vectors."""

import os
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bertq.errors import BadInputType, BadInputValue, ModelMismatch, NoWorker
from bertq.integers import check_count
from bertq.protocol.encoding import Encoding
from bertq.protocol.sparse import SparseRows
from bertq_client import inputs
from bertq_client.inputs import Strings
from bertq_client.search import nearest, similarity
from bertq_client.search.rerank import RankedDocument
from bertq_client.search.rerank_calls import RerankCalls
from bertq_client.search.similarity import Floats
from bertq_client.search.vectors import Vectors, open_vectors


class SearchCalls(RerankCalls):
    """The part of ``BertClient`` for the similarity of vectors."""

    def similarity(
        self, a: Strings | Floats, b: Strings | Floats, *, function: str | None = None
    ) -> NDArray[np.float32]:
        """Return the similarity of each text or vector of ``a`` with each of ``b``.

        Args:
            a, b: lists of str, which are encoded; or arrays of vectors.
            function: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"`` (both negative
                distances). By default the one that the model's authors name; cosine if they name
                none.

        Returns:
            float32 ``[len(a), len(b)]``: the larger a number, the more similar.

        Raises:
            BadInputType, BadInputValue: an argument is invalid, or the model returns no vectors.
            ModelMismatch: the model was replaced during the call.
            NoWorker: vectors are given without ``function``, and no worker is alive.
            Exception: the other errors of ``encode``.
        """
        similarity.check_function(function)
        left, model = self._vectors_of(a, "a", {})
        right, other = self._vectors_of(b, "b", {})
        _check_same_model(model, other)
        if left.shape[1] != right.shape[1]:
            raise BadInputValue(f"a has {left.shape[1]} dimensions, and b {right.shape[1]}")
        return similarity.compute(function or self._similarity_function(), left, right)

    def semantic_search(
        self,
        queries: Strings | Floats,
        corpus: Strings | NDArray[Any] | str | os.PathLike[str],
        top_k: int = 10,
        *,
        function: str | None = None,
        int8_ranges: str | os.PathLike[str] | None = None,
        rescore_with: Floats | str | os.PathLike[str] | None = None,
    ) -> list[list[RankedDocument]]:
        """Return the documents of a corpus that are nearest to each query.

        Every document is compared with every query, in blocks of bounded memory. This is exact, and
        needs no index; a million vectors of 384 numbers take a few seconds.

        Args:
            queries: a list of str, which are encoded with the model's prompt for queries; or an
                array of vectors.
            corpus: the path of a ``.npy`` file, as of ``encode_file``, which is mapped into memory;
                or an array, of float, int8 or binary vectors; or a list of str, which are encoded
                with the model's prompt for documents.
            top_k: how many documents to return for each query.
            function: how to compare vectors, as for ``similarity``.
            int8_ranges: the file that workers have as ``--int8-ranges``, for int8 and uint8
                vectors. Without it, integers are binary vectors.
            rescore_with: the float vectors of a corpus of int8 or binary vectors, an array or a
                ``.npy`` file: four times ``top_k`` candidates are compared again with these.

        Returns:
            For each query, indices and scores of documents, best first.

        Raises:
            BadInputType, BadInputValue: an argument is invalid, or the model returns no vectors.
            ModelMismatch: the file of the corpus was made with another model, or the model was
                replaced during the call.
            NoWorker: vectors are given without ``function``, and no worker is alive.
            Exception: the other errors of ``encode``.
        """
        similarity.check_function(function)
        top_k = check_count("top_k", top_k)
        documents, model = self._documents(corpus, int8_ranges)
        exact = None if rescore_with is None else open_vectors(rescore_with, None, "rescore_with")
        vectors, other = self._vectors_of(queries, "queries", {"input_type": "query"}, documents)
        _check_same_model(model, other)
        function = function or self._similarity_function()
        return nearest.find(vectors, documents, top_k, function, exact)

    def _documents(self, corpus: Any, int8_ranges: Any) -> tuple[Vectors, str | None]:
        """Return the documents of a corpus, and the model that has just encoded them, if any."""
        model = None
        is_text = not isinstance(corpus, str | os.PathLike | np.ndarray) or (
            isinstance(corpus, np.ndarray) and corpus.dtype.kind not in "fiub"
        )
        if is_text:
            corpus, model = self._vectors_of(corpus, "corpus", {"input_type": "document"})
        return open_vectors(corpus, int8_ranges, "corpus"), model

    def _vectors_of(
        self, given: Any, name: str, options: dict[str, Any], documents: Vectors | None = None
    ) -> tuple[NDArray[np.float32], str | None]:
        """Return vectors, and the fingerprint of the model if texts were encoded.

        Args:
            given: texts or vectors.
            name: name of the argument, for errors.
            options: how to encode texts.
            documents: vectors that must be of the same model.
        """
        if isinstance(given, np.ndarray) and given.dtype.kind not in "OUS":
            if given.ndim != 2 or given.dtype.kind != "f" or not given.size:
                raise BadInputType(
                    f"{name} must be texts, or an array of float vectors [n, dim]: it has the "
                    f"shape {given.shape} and numbers of type {given.dtype}"
                )
            similarity.check_finite(given, name)
            return given.astype(np.float32, copy=False), None
        if isinstance(given, list | tuple) and given and not isinstance(given[0], str):
            raise BadInputType(
                f"{name} is a {type(given).__name__} of {type(given[0]).__name__}: it must be a "
                "list of str, or a NumPy array of vectors"
            )
        texts = inputs.prepare_strings(given, name)
        known = self._known_worker(len(texts))
        if known is not None and known.task != "embed":
            raise BadInputValue(
                f"model {known.public_name} returns {known.returned}, not vectors: they cannot be "
                "compared"
            )
        if documents is not None:
            width = None if known is None else known.row_shape[-1]
            options = options | documents.query_options(width)
        request = self._create_request(texts, Encoding.from_options(options), as_list=False)
        rows = self._result_of(request)
        if isinstance(rows, SparseRows) or rows.ndim != 2:
            raise BadInputValue("the model does not return one vector for each text")
        if documents is not None:
            _check_model(documents, request.future.fingerprint)
        return cast("NDArray[np.float32]", rows), request.future.fingerprint

    def _similarity_function(self) -> str:
        """Return how the authors of the model compare vectors."""
        known = self._known_worker(1)
        if known is None:
            raise NoWorker(
                "no worker is alive that says how its model's vectors are compared: pass function, "
                "such as 'cosine'"
            )
        return known.similarity or similarity.DEFAULT


def _check_same_model(first: str | None, second: str | None) -> None:
    """Refuse to compare the vectors of two models; None stands for vectors that were given.

    Raises:
        ModelMismatch: the model was replaced between the two requests of a call.
    """
    if None not in (first, second) and first != second:
        raise ModelMismatch(
            f"the texts of one side were encoded by model {str(first)[:12]}, those of the other by "
            f"{str(second)[:12]}: the model was just replaced; call again"
        )


def _check_model(documents: Vectors, fingerprint: str) -> None:
    """Refuse vectors of another model than that of the queries, if a manifest names it.

    Raises:
        ModelMismatch: the models differ.
    """
    made = documents.manifest
    if made is not None and made.fingerprint != fingerprint:
        raise ModelMismatch(
            f"{documents.name} was made with model {made.fingerprint[:12]}, and the workers have "
            f"model {fingerprint[:12]}: start workers with the model, max_seq_len and pooling of "
            "before, or encode the corpus again"
        )
