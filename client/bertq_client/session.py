"""A session: the registry of a client's requests, and the threads that serve them."""

# redis-py imports these modules on the thread that first connects. A fork during that import would
# leave their import locks locked in the child forever, so they are imported here.
import email.parser  # noqa: F401
import encodings.idna  # noqa: F401
import importlib.metadata
import itertools
import threading
import uuid
from concurrent.futures import Future
from contextlib import suppress

from bertq.errors import ClientClosed
from bertq.protocol.encoding import Encoding
from bertq.redis.connection import connect
from bertq.state.counters import RequestCounter
from bertq_client import threads
from bertq_client.context import ClientTimings, SessionContext
from bertq_client.deadlines import Deadlines
from bertq_client.direct import DirectSender
from bertq_client.futures import Callbacks, EncodeFuture
from bertq_client.inbox.answers import Answers
from bertq_client.inbox.gatherer import Gatherer
from bertq_client.inputs import Text
from bertq_client.outbox.sender import Sender
from bertq_client.outbox.window import Limits
from bertq_client.registry import Registry
from bertq_client.request import Request
from bertq_client.worker_directory import WorkerDirectory

# For the same reason: redis-py calls this for each connection, and on Python 3.13 the first call
# imports modules.
with suppress(importlib.metadata.PackageNotFoundError):
    importlib.metadata.version("redis")


class Session:
    """The state of a client without references to the client, so that the client can be collected.

    Attributes:
        context: what the threads share.
        submitted: number of submitted requests.
    """

    def __init__(
        self,
        url: str,
        limits: Limits,
        timings: ClientTimings,
        *,
        identity: str | None = None,
        check_version: bool = True,
    ) -> None:
        redis = connect(url)
        directory = WorkerDirectory(
            url,
            redis,
            check_version=check_version,
            max_age_seconds=timings.worker_info_seconds,
        )
        # Clients may share an identity, but each needs its own reply stream.
        client_id = uuid.uuid4().hex if identity is None else f"{identity}-{uuid.uuid4().hex}"
        self.context = SessionContext(
            url, redis, client_id, Registry(), directory, RequestCounter(client_id), limits, timings
        )
        self._registry = self.context.registry
        self._numbers = itertools.count()
        self.submitted = 0
        self._callbacks = Callbacks()
        # Not a WeakSet: Python ignores an exception of a signal handler, such as KeyboardInterrupt,
        # that is raised in the callback of a weak reference.
        self._pending_futures: dict[int, EncodeFuture] = {}
        # Reentrant: a signal handler may close the client during a call on the same thread.
        self._lock = threading.RLock()
        self._sender: Sender | None = None
        self._gatherer: Gatherer | None = None
        self._direct: DirectSender | None = None
        self._deadlines: Deadlines | None = None

    def create_request(
        self,
        texts: tuple[Text, ...],
        queue: str,
        encoding: Encoding,
        timeout: float | None,
        *,
        as_list: bool,
        check_length: bool,
    ) -> Request:
        """Create a request, for ``submit``."""
        number = next(self._numbers)
        future = EncodeFuture(self._callbacks, number, len(texts), lambda: self._cancel(number))
        return Request(number, texts, queue, encoding, future, timeout, as_list, check_length)

    def submit(self, request: Request, *, is_awaited: bool = False) -> None:
        """Submit a request without waiting for it; an exception cancels it.

        Args:
            request: the request.
            is_awaited: whether this thread waits for the answer next: it may then send the request
                itself.

        Raises:
            ClientClosed: the session is closed.
        """
        try:
            self._submit(request, is_awaited)
        except BaseException:
            request.future.cancel()
            raise

    def _submit(self, request: Request, is_awaited: bool) -> None:
        with self._lock:
            self.context.check_open()
            # Before the request is added: if no thread can be started, the request must not exist.
            if self._sender is None:
                self._sender = self._start()
            if request.timeout is not None and self._deadlines is None:
                self._deadlines = Deadlines(self.context, self._sender.cancel_request)
            self.submitted += 1
            self._add_pending(request.number, request.future)
            self._registry.add_request(request)
            is_direct = is_awaited and self._registry.has_only(request)
            if not is_direct:
                self._sender.send(request)
            if self._registry.is_closed:  # a signal handler closed the client during this call
                request.fail(ClientClosed("the client was closed during the call"))
                self._sender.close([], lambda: None, 0.0)
        if is_direct and self._direct is not None:
            self._direct.send(request)  # without the lock: it waits for Redis

    def _add_pending(self, number: int, future: EncodeFuture) -> None:
        pending = self._pending_futures
        # The base class calls it on the thread that completes the future.
        Future.add_done_callback(future, lambda _: pending.pop(number, None))
        pending[number] = future

    @property
    def pending(self) -> list[int]:
        """Numbers of the requests that are not answered yet."""
        return self._registry.numbers()

    def _start(self) -> Sender:
        sender = Sender(self.context)
        try:
            answers = Answers(self.context, sender)
            self._direct = DirectSender(self.context, sender, answers)
            self._gatherer = Gatherer(self.context, answers)
        except BaseException:  # no second thread can be started; the first would wait forever
            sender.close([], lambda: None, 0.0)
            raise
        return sender

    def close(self, *, wait: bool = True) -> None:
        """Fail open requests, tell the workers, and end the threads; further calls do nothing.

        Args:
            wait: whether to wait for the threads: a few milliseconds, or ``JOIN_SECONDS`` when
                Redis does not answer. Otherwise the exit of the interpreter waits for them.
        """
        with self._lock:
            if self._registry.is_closed:
                return
            open_requests = self._registry.close()
        for request in open_requests:
            request.fail(ClientClosed("the client was closed before the vectors had arrived"))
        if self._direct is not None:
            self._direct.close()
        if self._sender is not None and self._gatherer is not None:
            # A client may be collected on one of its own threads, which must not wait here: the
            # sender waits for the gatherer.
            own_threads = (self._sender.thread, self._gatherer.thread)
            wait = wait and threading.current_thread() not in own_threads
            timeout = threads.JOIN_SECONDS if wait else 0.0
            self._sender.close(open_requests, self._gatherer.stop, timeout)
            if not wait:
                threads.join_at_exit(self._sender.thread)
        self._callbacks.close()
        if wait or self._sender is None:
            self.context.redis.close()  # wakes threads that are still waiting for an answer

    def abandon(self) -> None:
        """Fail all futures in a forked child: only the parent's threads could complete them."""
        # Otherwise the connection would take the pool's lock when it is collected, and a thread of
        # the parent may have had that lock during the fork.
        self.context.redis.auto_close_connection_pool = False
        for future in list(self._pending_futures.values()):
            future.abandon(
                ClientClosed("the request belongs to the process that was forked: send it again")
            )

    def _cancel(self, number: int) -> None:
        request = self._registry.take_request(number)
        if request is not None and self._sender is not None:
            self._sender.cancel_request(request)
