"""The moving parts behind a client: one registry of requests and the threads around it."""

# redis-py imports these when it first connects, on any thread. A fork meanwhile would leave a lock
# of theirs held in the child for ever: better now.
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

#: Seconds that closing waits for Redis.
_JOIN = 2.0

_CLOSED = "the client is closed: make a new BertClient"


class Session:
    """Everything of a client that must not refer back to it, so that it can be collected.

    Attributes:
        client_id: names its reply stream.
        redis: a connection.
        fleet: the workers, as it knows them.
        submitted: how many requests it has taken.
    """

    def __init__(
        self, url: str, limits: Limits, *, identity: str | None = None, check_version: bool = True
    ) -> None:
        # Two clients may have the same identity: each has a reply stream of its own.
        self.client_id = uuid.uuid4().hex if identity is None else f"{identity}-{uuid.uuid4().hex}"
        self.redis = connect(url)
        self._url = url
        self._limits = limits
        self._registry = Registry()
        self._numbers = itertools.count()
        self.submitted = 0
        self._callbacks = Callbacks()
        self.fleet = WorkerDirectory(url, self.redis, check_version=check_version)
        self._futures: weakref.WeakSet[EncodeFuture] = weakref.WeakSet()
        # Reentrant: a signal handler may close the client amid a call of its own thread.
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
        """Take a request; returns at once.

        Raises:
            ClientClosed: the session is closed.
        """
        number = next(self._numbers)
        self.submitted = number + 1
        future = EncodeFuture(self._callbacks, number, len(texts), lambda: self._cancelled(number))
        request = Request(number, texts, queue, encoding, future, timeout, as_list, check_length)
        with self._lock:
            self.check_open()
            # Before the request is known: where no thread can be started there is none.
            if self._sender is None:
                self._sender = self._start()
            if timeout is not None and self._timekeeper is None:
                self._timekeeper = Deadlines(
                    self._url, self._registry, self.fleet, self._sender.cancel
                )
            self._futures.add(future)
            self._registry.add(request)
            self._sender.send(request)
            if self._closed:  # by a signal handler, meanwhile
                request.fail(ClientClosed(_CLOSED))
                self._sender.close([], lambda: None, 0.0)
        return future

    @property
    def pending(self) -> list[int]:
        """Numbers of the requests that are not answered yet."""
        return self._registry.numbers()

    def check_open(self) -> None:
        """Refuse to go on with a closed client.

        Raises:
            ClientClosed: the session is closed.
        """
        if self._closed:
            raise ClientClosed(_CLOSED)

    def _start(self) -> Sender:
        around = (self.redis, self.client_id, self._registry, self.fleet)
        sender = Sender(self._url, *around, self._limits)
        try:
            self._gatherer = Gatherer(*around, sender)
        except BaseException:  # no thread can be started: this one would wait for ever
            sender.close([], lambda: None, 0.0)
            raise
        return sender

    def close(self) -> None:
        """Fail what is under way, tell the workers, end the threads; twice is once.

        It takes a few milliseconds, and ``_JOIN`` seconds when Redis does not answer.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        given_up = self._registry.close()
        for request in given_up:
            request.fail(ClientClosed("the client was closed before the vectors were there"))
        if self._sender is not None and self._gatherer is not None:
            # A client may be collected on a thread of its own, which the other one will wait for.
            here = threading.current_thread()
            own = here in (self._sender.thread, self._gatherer.thread)
            self._sender.close(given_up, self._gatherer.dismiss, 0.0 if own else _JOIN)
        self._callbacks.close()
        # Wakes those who wait for an answer all the same.
        self.redis.close()

    def abandon(self) -> None:
        """In a forked child: let nobody wait for what only the parent's threads can do."""
        # Or it would take the pool's lock when it is collected, which one of them may have held.
        self.redis.auto_close_connection_pool = False
        for future in list(self._futures):
            future.abandon(
                ClientClosed("the request belongs to the process that was forked: send it again")
            )

    def _cancelled(self, number: int) -> None:
        request = self._registry.take(number)
        if request is not None and self._sender is not None:
            self._sender.cancel(request)
