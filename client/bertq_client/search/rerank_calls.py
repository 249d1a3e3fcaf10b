"""The calls of a client that rerank documents."""

from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing, suppress

from redis import RedisError

from bertq.errors import BadInputType, RemoteError, SentenceTooLong
from bertq.integers import check_count
from bertq.protocol import time_to_live
from bertq.protocol.encoding import Encoding, Truncate
from bertq.state.worker_info import WorkerInfo
from bertq_client.durable.calls import DurableCalls
from bertq_client.durable.durable_job import DurableJob
from bertq_client.inputs import Strings
from bertq_client.search import rerank
from bertq_client.search.rerank import RankedDocument
from bertq_client.streaming import stream
from bertq_client.streaming.calls import StreamCalls
from bertq_client.streaming.stream import RequestStream


class RerankCalls(StreamCalls, DurableCalls):
    """The part of ``BertClient`` for cross-encoders."""

    def rerank(
        self,
        query: str,
        documents: Strings,
        top_n: int | None = None,
        *,
        truncate: Truncate = "right",
        progress: bool = False,
    ) -> list[RankedDocument]:
        """Sort documents by their relevance to a query, as a cross-encoder scores them.

        The pairs of query and document are one request: workers batch them by length with all other
        work. In a coroutine use ``encode_async`` with pairs, or ``asyncio.to_thread``.

        Args:
            query: a text.
            documents: a list, tuple, NumPy array or pandas Series of str, none of them blank.
            top_n: how many documents to return; None for all.
            truncate: the end to cut from the longer text of a pair with too many tokens,
                ``"right"`` or ``"left"``; ``"error"`` refuses such a pair.
            progress: show a progress bar (tqdm).

        Returns:
            The documents' indices and scores, best first. The scores have the activation that the
            model's config names: logits for some models, numbers from 0 to 1 for others.

        Raises:
            BadInputType, BadInputValue: an argument is invalid, or the model is not a cross-encoder
                with one label.
            Exception: the other errors of ``encode``; their ``rows`` are indices of documents.
        """
        if top_n is not None:
            top_n = check_count("top_n", top_n)
        pairs = rerank.make_pairs(query, documents)
        self._check_reranker(len(pairs))
        request = self._create_request(pairs, Encoding(truncate=truncate), as_list=False)
        try:
            rows = self._result_of(request, progress=progress)
        except (RemoteError, SentenceTooLong) as error:
            raise rerank.with_documents(error, [(None, row) for row in error.rows]) from None
        return rerank.rank(rerank.scores_of(rows), top_n)

    def rerank_stream(
        self,
        iterable: Iterable[tuple[str, Strings]],
        top_n: int | None = None,
        *,
        truncate: Truncate = "right",
    ) -> Generator[list[RankedDocument], None, None]:
        """Rerank the documents of any number of queries, in bounded memory.

        Several requests are in progress at once, each with the pairs of one or more queries. The
        thread that takes the results also reads ``iterable``.

        Args:
            iterable: queries, each with its documents.
            top_n, truncate: as for ``rerank``.

        Returns:
            An iterator of the result of ``rerank`` for each query, in their order.

        Raises:
            BadInputType: ``iterable`` is none.
            Exception: as ``rerank``, when the query is read or its result is due. Messages count
                queries from 1.
        """
        if top_n is not None:
            top_n = check_count("top_n", top_n)
        if isinstance(iterable, str) or not isinstance(iterable, Iterable):
            raise BadInputType(
                f"iterable is a {type(iterable).__name__}: it must have a pair of a query and its "
                "documents for each result"
            )
        encoding = Encoding(truncate=truncate)
        return self._rerank_stream(iterable, top_n, encoding)

    def _rerank_stream(
        self, iterable: Iterable[tuple[str, Strings]], top_n: int | None, encoding: Encoding
    ) -> Generator[list[RankedDocument], None, None]:
        counts: deque[int] = deque()  # of the documents of each query without a result
        scores: deque[float] = deque()
        open_pairs: deque[tuple[int, int]] = deque()  # number of query, index of document

        def read_pairs() -> Generator[tuple[str, str], None, None]:
            for number, element in enumerate(iterable, 1):
                pairs = rerank.make_pairs_of_element(element, number)
                counts.append(len(pairs))
                open_pairs.extend((number, index) for index in range(len(pairs)))
                yield from pairs

        self._check_reranker(stream.BATCH_SIZE)
        requests = RequestStream(
            lambda texts: self._create_request(texts, encoding, as_list=False),
            self._submit,
            stream.BATCH_SIZE,
            ordered=True,
            max_requests=stream.MAX_REQUESTS,
        )
        with closing(requests.batches(read_pairs())) as batches:
            try:
                for batch in batches:
                    scores.extend(rerank.scores_of(batch.vectors))
                    for _ in batch.texts:
                        open_pairs.popleft()
                    while counts and counts[0] <= len(scores):
                        found = [scores.popleft() for _ in range(counts.popleft())]
                        yield rerank.rank(found, top_n)
            except (RemoteError, SentenceTooLong) as error:
                pairs = [open_pairs[row] for row in error.rows]
                raise rerank.with_documents(error, pairs) from None

    def submit_rerank(
        self,
        queries: Iterable[tuple[str, Strings]],
        *,
        truncate: Truncate = "right",
        ttl: float = time_to_live.DURABLE_JOB_SECONDS,
    ) -> DurableJob:
        """Submit a durable job that scores the documents of queries.

        Args:
            queries: queries, each with its documents.
            truncate: as for ``rerank``.
            ttl: as for ``submit``.

        Returns:
            The job. Its result is an array of scores, ``[n, 1]``: those of the documents of the
            first query, then those of the second one, and so on.

        Raises:
            Exception: as ``submit`` and, for invalid queries or a model that cannot rerank,
                ``rerank_stream``.
        """
        pairs = [
            pair
            for number, element in enumerate(queries, 1)
            for pair in rerank.make_pairs_of_element(element, number)
        ]
        self._check_reranker(len(pairs))
        return self.submit(pairs, ttl=ttl, truncate=truncate)

    def _check_reranker(self, rows: int) -> None:
        """Refuse a model that cannot rerank, if its workers are known."""
        known = self._known_worker(rows)
        if known is not None:
            rerank.check_model(known)

    def _known_worker(self, rows: int) -> WorkerInfo | None:
        """Return a worker that takes requests of this client; None if none is known.

        Raises:
            ClientClosed: the client is closed.
        """
        self._session.context.check_open()
        with suppress(RedisError):  # the request waits for Redis, and reports the error
            workers = self.worker_directory.serving(self._queue or self._queues.for_size(rows))
            return workers[0] if workers else None
        return None
