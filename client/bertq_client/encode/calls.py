"""The calls of a client that encode a list of sentences."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from bertq.errors import BadInputValue
from bertq.protocol.encoding import Encoding, Options
from bertq_client.connection import ClientBase
from bertq_client.encode.unfetched import UnfetchedRequests
from bertq_client.futures import EncodeFuture
from bertq_client.inputs import Texts
from bertq_client.request import Request

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    Vectors = TypeVarWithDefault("Vectors", default=Any)
else:
    #: Type of vectors: ``NDArray[Any]``, or ``list[Any]`` with ``output_fmt="list"``. To type
    #: checkers, a client that is annotated as ``BertClient`` has vectors of any type.
    Vectors = TypeVar("Vectors")

_Call = TypeVar("_Call", bound=Callable[..., Any])


def _with_signature_of(_: _Call) -> Callable[[Callable[..., Any]], _Call]:
    """Give a method the overloads of another one, for type checkers."""

    def decorate(method: Callable[..., Any]) -> Any:
        return method

    return decorate


class EncodeCalls(ClientBase, Generic[Vectors]):
    """The part of ``BertClient`` for lists of sentences."""

    @abstractmethod
    def _create_request(self, texts: Any, encoding: Encoding, *, as_list: bool) -> Request:
        """Create a request, which is sent by ``_submit``."""

    @overload
    def encode(
        self,
        texts: Texts,
        blocking: Literal[True] = True,
        is_tokenized: bool = False,
        show_tokens: Literal[False] = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Vectors: ...

    @overload
    def encode(
        self,
        texts: Texts,
        blocking: Literal[True] = True,
        is_tokenized: bool = False,
        *,
        show_tokens: Literal[True],
        progress: bool = False,
        **options: Unpack[Options],
    ) -> tuple[Vectors, list[list[str]]]: ...

    @overload
    def encode(
        self,
        texts: Texts,
        blocking: Literal[True],
        is_tokenized: bool,
        show_tokens: Literal[True],
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> tuple[Vectors, list[list[str]]]: ...

    @overload
    def encode(
        self,
        texts: Texts,
        blocking: Literal[False],
        is_tokenized: bool = False,
        show_tokens: bool = False,
        **options: Unpack[Options],
    ) -> int: ...

    @overload
    def encode(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any: ...

    def encode(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Encode sentences and wait for their vectors.

        If the call is interrupted (Ctrl-C, or an exception of a signal handler), the request is
        cancelled, and workers drop its chunks.

        Args:
            texts: a list, tuple, NumPy array or pandas Series of str, none of them blank; an
                element may also be a pair of sentences, a tuple (or list) of two str. Lone
                surrogates (halves of characters) are dropped.
            blocking: if False, return at once; ``fetch`` or ``fetch_all`` return the vectors later.
            is_tokenized: ``texts`` is a list of lists of tokens, which are looked up unchanged in
                the model's vocabulary.
            show_tokens: return the tokens too.
            progress: show a progress bar (tqdm), also in notebooks.
            options: ``normalize``, ``truncate``, ``precision``, ``prompt_name``, ``prompt``,
                ``input_type``, ``dimensions``, ``pairs``: see ``bertq.protocol.encoding.Options``.

        Returns:
            An ndarray ``[len(texts), dim]`` with the dtype that ``precision`` names, row i for
            sentence i. For a cross-encoder: ``[len(texts), labels]``. For the pooling strategy
            NONE: ``[len(texts), max_seq_len, dim]``. For a sparse model: ``SparseRows``. With
            ``output_fmt="list"``: nested lists, or for a sparse model dicts of token id and weight.
            With ``show_tokens``: a pair of that and, for each sentence, the list of its tokens,
            special tokens included. With ``blocking=False``: the number of the request.

        Raises:
            BadInputType, BadInputValue: the sentences or an option are invalid; nothing was sent.
            SentenceTooLong: sentences are too long, and ``truncate="error"`` forbids truncating
                them.
            NoWorker, Timeout: the client's timeout has passed, without or with workers.
            RemoteError: a chunk failed in the worker, or its model lacks the prompt, cannot read
                pairs, or cannot return the requested rows.
            QueueFull: too many chunks are waiting, and the client was created with
                ``on_full="raise"``.
            RedisFull: Redis had no memory for the request for 30 s.
            RedisUnavailable: Redis was unreachable for a minute, or refuses the client.
            LostResult, ModelMismatch, WireError: the answer is lost or invalid.
            ClientClosed: the client was closed, before or during the call.
        """
        if progress and not blocking:
            raise BadInputValue(
                "progress=True needs blocking=True: without waiting there is no progress to show"
            )
        encoding = Encoding.from_options(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens
        )
        request = self._create_request(texts, encoding, as_list=self._output_fmt == "list")
        if blocking:
            return self._result_of(request, progress=progress)
        try:
            self._submit(request)
            self._unfetched.expect(request.future)
        except BaseException:  # nobody has the future, so nobody else could cancel it
            request.future.cancel()
            raise
        return request.number

    @_with_signature_of(encode)
    def encode_query(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Encode queries: ``encode`` with ``input_type="query"``.

        The model's prompt for queries is prepended to each text, unless ``prompt`` or
        ``prompt_name`` is given. Arguments, results and errors are those of ``encode``.
        """
        with_type = _with_input_type("query", options)
        return self.encode(
            texts, blocking, is_tokenized, show_tokens, progress=progress, **with_type
        )

    @_with_signature_of(encode)
    def encode_document(
        self,
        texts: Texts,
        blocking: bool = True,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Encode documents that queries search: ``encode`` with ``input_type="document"``.

        The model's prompt for documents is prepended to each text, unless ``prompt`` or
        ``prompt_name`` is given. Arguments, results and errors are those of ``encode``.
        """
        with_type = _with_input_type("document", options)
        return self.encode(
            texts, blocking, is_tokenized, show_tokens, progress=progress, **with_type
        )

    def encode_async(
        self,
        texts: Texts,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        count_tokens: bool = False,
        **options: Unpack[Options],
    ) -> EncodeFuture:
        """Encode sentences and return a future immediately.

        The call takes well under a millisecond for thousands of sentences, and 20 to 30 ms for a
        million: it copies the list, so the caller may change it afterwards.

        Args:
            texts: as for ``encode``. If there are more than 4096 elements, a background thread
                checks the rest, and the future reports an error in it.
            is_tokenized, show_tokens, options: as for ``encode``.
            count_tokens: set ``tokens_read`` of the future to the number of tokens that were read.

        Returns:
            An awaitable ``concurrent.futures.Future`` for the result of ``encode``. Its
            ``exception()`` returns the errors that ``encode`` raises; its ``progress`` is the
            number of encoded sentences.

        Raises:
            BadInputType, BadInputValue: as ``encode``.
            ClientClosed: the client is closed.
        """
        encoding = Encoding.from_options(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens, count_tokens=count_tokens
        )
        request = self._create_request(texts, encoding, as_list=self._output_fmt == "list")
        self._submit(request)
        return request.future

    def fetch(self, delay: float = 0.0) -> Iterator[tuple[int, Any]]:
        """Return the vectors of requests that were sent with ``blocking=False``, as they arrive.

        Args:
            delay: seconds to wait first.

        Returns:
            An iterator of (number of the request, result of ``encode``), which ends with the last
            request. It raises the error of a failed request; another call returns the remaining
            ones.
        """
        time.sleep(delay)
        return self._unfetched.take()

    def fetch_all(self, sort: bool = True, concat: bool = False) -> Any:
        """Return the vectors of all requests that were sent with ``blocking=False``.

        Args:
            sort: return them in the order of sending, instead of the order of arrival.
            concat: return one array (or list), instead of a list of them.
        """
        return self._unfetched.take_all(sort=sort, concat=concat)

    def _open(self) -> None:
        super()._open()
        self._unfetched = UnfetchedRequests()


def _with_input_type(input_type: str, options: Options) -> Options:
    """Return the options with ``input_type`` set, unless a prompt is given."""
    if options.get("input_type") is not None:
        raise BadInputValue("this call sets input_type itself: use encode for another one")
    if options.get("prompt_name") is None and options.get("prompt") is None:
        return {**options, "input_type": input_type}
    return options
