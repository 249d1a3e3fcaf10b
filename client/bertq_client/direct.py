"""Sends a lone small request and reads its answer on the thread of its caller, who waits anyway."""

import time
from contextlib import suppress
from functools import partial
from typing import Any

from redis import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bertq.protocol import keys
from bertq.redis.connection import SOCKET_TIMEOUT_SECONDS
from bertq.state import jobs
from bertq_client import inputs
from bertq_client.context import SessionContext
from bertq_client.inbox import reply_stream
from bertq_client.inbox.answers import Answers
from bertq_client.job import Job
from bertq_client.outbox.sender import Sender
from bertq_client.request import Request

#: Seconds that a caller waits for the answer of a worker. Then the gatherer's thread waits instead.
_MAX_READ_SECONDS = 0.05

#: Seconds that a caller waits for Redis to answer. Then the sender's thread waits instead.
_MAX_WAIT_SECONDS = _MAX_READ_SECONDS + 0.05

#: Seconds for which the sender's thread sends all requests after Redis did not answer in time.
_PAUSE_SECONDS = 1.0

#: Most characters of a request, so that the system accepts its message without waiting.
_MAX_CHARACTERS = 8192


class DirectSender:
    """Sends a request that is alone, and waits for its answer, which saves changes between threads.

    The commands that send the request and read the answer travel together. It does so only while
    Redis answers quickly, on a connection that the sender's thread has opened before. In all other
    cases the sender's thread sends the request, or continues with it, and the gatherer's thread
    reads the answer, or continues to wait for it.

    Args:
        context: what the threads of the session share.
        sender: the sender's thread.
        answers: processes the answer.
    """

    def __init__(self, context: SessionContext, sender: Sender, answers: Answers) -> None:
        self._registry = context.registry
        self._directory = context.directory
        self._waits = context.limits.waits
        self._stream = keys.reply(context.client_id)
        self._sender = sender
        self._answers = answers
        self._redis = context.redis
        # At most one. A list, without a lock: no other thread, and no signal handler that runs
        # during a call, can take the same connection.
        self._ready: list[Any] = []
        self._paused_until = 0.0

    def send(self, request: Request) -> None:
        """Send a request, and wait a moment for its answer."""
        job = self._plan(request) if self._may_send(request) else None
        if job is None:
            self._sender.send(request)
        elif not self._ready:
            self._sender.send(request)
            self._sender.call(self._connect)
        elif self._registry.add_job(job):  # otherwise it was cancelled
            self._create(job)

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

    def _plan(self, request: Request) -> Job | None:
        """Return a job of one chunk for a request; None if the sender's thread must plan it."""
        job = Job([request])
        return job if self._sender.writer.plan_at_once(job) else None

    def _connect(self) -> None:
        """Open a connection, on the sender's thread, unless there is one."""
        if self._ready:
            return
        pool: Any = self._redis.connection_pool
        with suppress(RedisError, OSError):
            connection = pool.make_connection()
            # To wait with ``can_read`` would double the system calls of a request.
            connection.socket_timeout = _MAX_WAIT_SECONDS
            connection.connect()
            self._return(connection)

    def _return(self, connection: Any) -> None:
        """Make a connection available for the next request."""
        self._ready[:] = [connection]
        if self._registry.is_closed:
            self.close()

    def _create(self, job: Job) -> None:
        """Write the record of a job, send its chunk, and read the answer."""
        command = self._sender.writer.creation_command(job)
        seconds = min(_MAX_READ_SECONDS, job.requests[0].timeout or _MAX_READ_SECONDS)
        read = reply_stream.read_command(self._stream, self._answers.processed.last_id, seconds)
        try:
            connection = self._ready.pop()
        except IndexError:
            self._sender.resume(job, None)
            return
        if connection.is_stale:  # Redis has another primary
            connection.disconnect()
            self._sender.resume(job, None)
            return
        try:
            connection.send_packed_command(connection.pack_commands([command, read]))
            length = int(connection.read_response(disconnect_on_error=False))
        except RedisTimeoutError:
            self._pause()
            self._sender.resume(job, partial(self._read_late, connection))
        except ResponseError:  # not executed: perhaps the server does not know the script
            connection.disconnect()  # the answer to the other command is not read
            self._sender.resume(job, None)
        except (RedisError, OSError):
            connection.disconnect()
            self._pause()
            self._sender.resume(job, None)
        except BaseException:
            connection.disconnect()
            raise
        else:
            self._finish(job, length, connection)

    def _read_late(self, connection: Any) -> int:
        """Read the answer to the first command, on the sender's thread."""
        try:
            connection.can_read(timeout=SOCKET_TIMEOUT_SECONDS)
            return int(connection.read_response())
        finally:
            connection.disconnect()

    def _finish(self, job: Job, length: int, connection: Any) -> None:
        self._sender.writer.finish_creation(job, length)
        if not self._read_answer(job, connection):
            self._registry.mark_recorded(job)
        if self._registry.is_closed:  # during this call, perhaps by a signal handler
            with suppress(RedisError):
                jobs.discard(self._redis, [job.id])

    def _read_answer(self, job: Job, connection: Any) -> bool:
        """Wait for the answer to a job, and process it; return whether it has come."""
        try:
            notices = reply_stream.parse(connection.read_response())
        except (RedisError, OSError):
            return False
        self._return(connection)
        # Others belong to the gatherer's thread: an exception of a signal handler may end this
        # loop, and must not lose an answer that somebody else waits for.
        for notice in notices:
            if notice.task_id == keys.task_id(job.id, 0) and notice.result is not None:
                self._answers.process(notice, notice.result)
                return True
        return False

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
