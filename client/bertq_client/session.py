"""A session: the registry of a client's requests, and the threads that serve them."""

# redis-py imports these modules on the thread that first connects. A fork during that import would
# leave their import locks locked in the child forever, so they are imported here.
import email.parser  # noqa: F401
import encodings.idna  # noqa: F401
import itertools
import threading
import uuid
import weakref

from bertq.errors import ClientClosed
from bertq.protocol.encoding import Encoding
from bertq.redis.connection import connect
from bertq_client.deadlines import Deadlines
from bertq_client.futures import Callbacks, EncodeFuture
from bertq_client.inbox.gatherer import Gatherer
from bertq_client.inputs import Text
from bertq_client.outbox.sender import Sender
from bertq_client.outbox.window import Limits
from bertq_client.registry import Registry
from bertq_client.request import Request
from bertq_client.worker_directory import WorkerDirectory

#: Seconds that ``close`` waits for Redis.
_JOIN = 2.0

_CLOSED = "the client is closed: make a new BertClient"


class Session:
    """The state of a client without references to the client, so that the client can be collected.

    Attributes:
        client_id: names the reply stream.
        redis: a connection.
        directory: the workers, as the client knows them.
        submitted: number of submitted requests.
    """

    def __init__(
        self, url: str, limits: Limits, *, identity: str | None = None, check_version: bool = True
    ) -> None:
        # Clients may share an identity, but each needs its own reply stream.
        self.client_id = uuid.uuid4().hex if identity is None else f"{identity}-{uuid.uuid4().hex}"
        self.redis = connect(url)
        self._url = url
        self._limits = limits
        self._registry = Registry()
        self._numbers = itertools.count()
        self.submitted = 0
        self._callbacks = Callbacks()
        self.directory = WorkerDirectory(url, self.redis, check_version=check_version)
        self._futures: weakref.WeakSet[EncodeFuture] = weakref.WeakSet()
        # Reentrant: a signal handler may close the client during a call on the same thread.
        self._lock = threading.RLock()
        self._sender: Sender | None = None
        self._gatherer: Gatherer | None = None
        self._timekeeper: Deadlines | None = None
        self._closed = False

    def submit(
        self,
        texts: tuple[Text, ...],
        queue: str,
        encoding: Encoding,
        timeout: float | None,
        *,
        as_list: bool,
        check_length: bool,
    ) -> EncodeFuture:
        """Submit a request without waiting for it.

        Raises:
            ClientClosed: the session is closed.
        """
        number = next(self._numbers)
        self.submitted = number + 1
        future = EncodeFuture(self._callbacks, number, len(texts), lambda: self._cancelled(number))
        request = Request(number, texts, queue, encoding, future, timeout, as_list, check_length)
        with self._lock:
            self.check_open()
            # Before the request is added: if no thread can be started, the request must not exist.
            if self._sender is None:
                self._sender = self._start()
            if timeout is not None and self._timekeeper is None:
                self._timekeeper = Deadlines(
                    self._url, self._registry, self.directory, self._sender.cancel
                )
            self._futures.add(future)
            self._registry.add(request)
            self._sender.send(request)
            if self._closed:  # a signal handler closed the client during this call
                request.fail(ClientClosed(_CLOSED))
                self._sender.close([], lambda: None, 0.0)
        return future

    @property
    def pending(self) -> list[int]:
        """Numbers of the requests that are not answered yet."""
        return self._registry.numbers()

    def check_open(self) -> None:
        """Check that the session is open.

        Raises:
            ClientClosed: the session is closed.
        """
        if self._closed:
            raise ClientClosed(_CLOSED)

    def _start(self) -> Sender:
        around = (self.redis, self.client_id, self._registry, self.directory)
        sender = Sender(self._url, *around, self._limits)
        try:
            self._gatherer = Gatherer(*around, sender)
        except BaseException:  # no second thread can be started; the first would wait forever
            sender.close([], lambda: None, 0.0)
            raise
        return sender

    def close(self) -> None:
        """Fail open requests, tell the workers, and end the threads; further calls do nothing.

        It takes a few milliseconds, or ``_JOIN`` seconds when Redis does not answer.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        given_up = self._registry.close()
        for request in given_up:
            request.fail(ClientClosed("the client was closed before the vectors were there"))
        if self._sender is not None and self._gatherer is not None:
            # A client may be collected on one of its own threads, which must not wait here: the
            # sender waits for the gatherer.
            here = threading.current_thread()
            own = here in (self._sender.thread, self._gatherer.thread)
            self._sender.close(given_up, self._gatherer.dismiss, 0.0 if own else _JOIN)
        self._callbacks.close()
        # Wakes threads that are still waiting for an answer.
        self.redis.close()

    def abandon(self) -> None:
        """Fail all futures in a forked child: only the parent's threads could complete them."""
        # Otherwise the connection would take the pool's lock when it is collected, and a thread of
        # the parent may have had that lock during the fork.
        self.redis.auto_close_connection_pool = False
        for future in list(self._futures):
            future.abandon(
                ClientClosed("the request belongs to the process that was forked: send it again")
            )

    def _cancelled(self, number: int) -> None:
        request = self._registry.take(number)
        if request is not None and self._sender is not None:
            self._sender.cancel(request)
