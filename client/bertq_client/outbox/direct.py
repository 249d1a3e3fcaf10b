"""Sends a lone small request on the thread of its caller, who waits for the answer anyway."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from redis import RedisError, ResponseError

from bertq.state import jobs
from bertq_client import inputs
from bertq_client.context import SessionContext
from bertq_client.job import Job
from bertq_client.outbox.writer import Writer
from bertq_client.request import Request

#: Seconds that a caller waits for Redis to answer. Then the sender's thread waits instead.
_MAX_WAIT_SECONDS = 0.05

#: Seconds for which the sender's thread sends all requests after Redis did not answer in time.
_PAUSE_SECONDS = 1.0

#: Most characters of a request, so that the system accepts its message without waiting.
_MAX_CHARACTERS = 8192


class DirectSender:
    """Sends a request that is alone, which saves two changes between threads.

    It does so only while Redis answers quickly, on a connection that the sender's thread has opened
    before. In all other cases the sender's thread sends the request, or continues with it.

    Args:
        context: what the threads of the session share.
        writer: writes jobs.
        hand_over: lets the sender's thread continue with a job. Its second argument reads the
            answer to the command that was sent, or is None if it must be sent again.
    """

    def __init__(
        self,
        context: SessionContext,
        writer: Writer,
        hand_over: Callable[[Job, Callable[[], int] | None], object],
    ) -> None:
        self._registry = context.registry
        self._directory = context.directory
        self._waits = context.limits.waits
        self._writer = writer
        self._hand_over = hand_over
        self._redis = context.redis
        # At most one. A list, without a lock: no other thread, and no signal handler that runs
        # during a call, can take the same connection.
        self._ready: list[Any] = []
        self._needs_connection = False
        self._paused_until = 0.0

    def send(self, request: Request) -> bool:
        """Send a request now.

        Returns:
            False if the sender's thread must send it.
        """
        if not self._may_send(request):
            return False
        if not self._ready:
            self._needs_connection = True
            return False
        job = Job([request])
        if not self._writer.plan_at_once(job):
            return False
        if self._registry.add_job(job):  # otherwise it was cancelled
            self._create(job)
        return True

    def prepare(self) -> None:
        """Open a connection if one is needed, on the sender's thread."""
        if not self._needs_connection:
            return
        self._needs_connection = False
        pool: Any = self._redis.connection_pool
        with suppress(RedisError, OSError):
            connection = pool.make_connection()
            connection.connect()
            self._ready[:] = [connection]

    def close(self) -> None:
        """Close the connection, after the registry was closed."""
        while self._ready:
            self._ready.pop().disconnect()

    def _may_send(self, request: Request) -> bool:
        return (
            self._waits
            and request.is_small
            and self._directory.is_near
            and bool(self._directory.known(request.queue))
            and time.monotonic() >= self._paused_until
            and sum(map(inputs.characters, request.texts)) <= _MAX_CHARACTERS
        )

    def _create(self, job: Job) -> None:
        """Write the record of a job and send its chunk."""
        command = self._writer.creation_command(job)
        try:
            connection = self._ready.pop()
        except IndexError:
            self._hand_over(job, None)
            return
        try:
            connection.send_command(*command)
            if not connection.can_read(timeout=_MAX_WAIT_SECONDS):
                self._pause()
                self._hand_over(job, partial(self._read, connection))
                return
            length = self._read(connection)
        except ResponseError:  # not executed: perhaps the server does not know the script
            self._hand_over(job, None)
        except (RedisError, OSError):
            self._pause()
            self._hand_over(job, None)
        except BaseException:
            connection.disconnect()
            raise
        else:
            self._finish(job, length)

    def _read(self, connection: Any) -> int:
        length = int(connection.read_response())
        if self._registry.is_closed:
            connection.disconnect()
        else:
            self._ready[:] = [connection]
        return length

    def _finish(self, job: Job, length: int) -> None:
        self._writer.finish_creation(job, length)
        if self._registry.is_closed:  # a signal handler closed the client during this call
            with suppress(RedisError):
                jobs.discard(self._redis, [job.id])

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
