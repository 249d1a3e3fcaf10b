"""The moving parts behind a client: one registry of jobs and the threads around it."""

import threading
import uuid

from bertq.connection import connect
from bertq.errors import ClientClosed
from bertq_client.fleet import Fleet
from bertq_client.futures import Callbacks, EncodeFuture
from bertq_client.gatherer import Gatherer
from bertq_client.registry import Job, Registry
from bertq_client.sender import Sender
from bertq_client.timekeeper import Timekeeper

#: Seconds that closing waits for each thread.
_JOIN = 2.0


class Session:
    """Everything of a client that must not refer back to it, so that it can be collected."""

    def __init__(self, url: str) -> None:
        self.client_id = uuid.uuid4().hex
        self.redis = connect(url)
        self._url = url
        self._registry = Registry()
        self._callbacks = Callbacks()
        self._fleet = Fleet(self.redis)
        self._lock = threading.Lock()
        self._sender: Sender | None = None
        self._gatherer: Gatherer | None = None
        self._timekeeper: Timekeeper | None = None
        self._closed = False

    def submit(
        self, texts: tuple[str, ...], queue: str, timeout: float | None, *, as_list: bool
    ) -> EncodeFuture:
        """Take a request; returns at once.

        Raises:
            ClientClosed: the session is closed.
        """
        job_id = uuid.uuid4().hex
        future = EncodeFuture(self._callbacks, lambda: self._cancelled(job_id))
        job = Job(job_id, texts, queue, future, timeout, as_list)
        with self._lock:
            if self._closed or not self._registry.add(job):
                raise ClientClosed("the client is closed: make a new BertClient")
            if self._sender is None:
                self._sender = self._start()
            if timeout is not None and self._timekeeper is None:
                self._timekeeper = Timekeeper(
                    self._url, self._registry, self._fleet, self._sender.cancel
                )
            self._sender.send(job)
        return future

    def _start(self) -> Sender:
        around = (self._url, self.redis, self.client_id, self._registry, self._fleet)
        sender = Sender(*around)
        self._gatherer = Gatherer(*around, sender.cancel)
        return sender

    def close(self) -> None:
        """Fail what is under way, tell the workers, end the threads; twice is once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for job in self._registry.close():
            job.fail(ClientClosed("the client was closed before the vectors were there"))
            if self._sender is not None:
                self._sender.cancel(job)
        if self._sender is not None and self._gatherer is not None:
            self._sender.close(_JOIN)
            self._gatherer.close(_JOIN)
        self._callbacks.close()
        self.redis.close()

    def _cancelled(self, job_id: str) -> None:
        job = self._registry.pop(job_id)
        if job is not None and self._sender is not None:
            self._sender.cancel(job)
