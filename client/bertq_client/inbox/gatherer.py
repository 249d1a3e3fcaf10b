"""The thread that collects the results of a client's chunks."""

import logging
from contextlib import suppress

from redis import RedisError

from bertq.protocol import keys
from bertq_client import threads
from bertq_client.context import SessionContext
from bertq_client.inbox import processed, reply_stream
from bertq_client.inbox.answers import Answers
from bertq_client.inbox.reply_stream import Notice, StreamReader

log = logging.getLogger("bertq.client")

#: Seconds to wait after an error.
_PAUSE_SECONDS = 0.25

#: Seconds to wait for the thread to end, and seconds after which a remaining stream expires.
_JOIN_SECONDS, _STREAM_TTL_SECONDS = 1.0, 60


class Gatherer:
    """The thread that reads the reply stream, fetches rows and completes futures.

    It sends nothing to Redis while the client is idle. For a moment after the last answer it
    continues to read: the answer to a next request then wakes it at once. It does not read for
    callers that wait for their answers themselves, but removes their notices too.
    """

    def __init__(self, context: SessionContext, answers: Answers) -> None:
        self._redis = context.redis
        self._stream = keys.reply(context.client_id)
        self._reader = StreamReader(context.redis, self._stream)
        self._registry = context.registry
        self._directory = context.directory
        self._read_seconds = context.timings.read_seconds
        self._answers = answers
        self._processed = answers.processed
        self._continues = False  # reading, although all jobs are answered
        self._has_more = False  # the last read has returned as many notices as a read may
        self.thread = threads.start(self._run, "gatherer")

    def stop(self) -> None:
        """End the thread and remove the stream, after the registry was closed.

        Raises:
            redis.RedisError: Redis is unreachable; the stream expires.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            # Any new entry ends a blocking read.
            pipe.xadd(self._stream, {"end": ""})
            pipe.expire(self._stream, _STREAM_TTL_SECONDS)
            pipe.execute(raise_on_error=False)
        self.thread.join(_JOIN_SECONDS)
        self._redis.unlink(self._stream)

    def _run(self) -> None:
        try:
            self._run_until_closed()
        finally:
            self._reader.close()

    def _run_until_closed(self) -> None:
        while not self._registry.is_closed:
            try:
                self._run_once()
            except Exception as error:
                # No error may end this thread: every caller would wait forever.
                if self._registry.is_closed:
                    return  # the connection was closed to wake this thread
                self._report(error)
                self._registry.wait_until_closed(_PAUSE_SECONDS)
        with suppress(RedisError):  # the results expire
            self._remove_processed()

    def _run_once(self) -> None:
        """Wait until there is something to do, and do it."""
        has_job = self._registry.has_recorded_job()
        if not has_job and not self._continues:
            self._reader.release()
            has_job = self._registry.wait_for_job(self._processed.seconds_left)
        if self._registry.is_closed:
            return
        if has_job or self._processed:
            # Also for callers that send their requests themselves: they do not wait for it.
            self._directory.refresh(ahead=True)
        if has_job:
            self._answers.recovery.run(has_unread_notices=self._has_more)
        if has_job or self._continues:
            self._collect(self._read_seconds if has_job else processed.MAX_SECONDS)
        if self._processed.seconds_left() == 0:
            self._remove_processed()

    def _report(self, error: Exception) -> None:
        if isinstance(error, RedisError | OSError):  # OSError: too many open files
            self._directory.note_failure(error)
        else:
            log.error("results could not be collected; trying again", exc_info=error)

    def _collect(self, seconds: float) -> None:
        """Wait for notices, and process them."""
        notices = self._reader.read(self._processed.last_id, seconds)
        self._continues = bool(notices) and self._registry.has_recorded_job()
        if self._continues and self._can_request_more(notices):
            # Otherwise the callers whose futures are completed now would have to wait for this
            # thread: only one thread at a time runs Python code.
            self._reader.request(notices[-1].entry_id, processed.MAX_SECONDS)
        for first in range(0, len(notices), reply_stream.MAX_RESULTS):
            self._process(notices[first : first + reply_stream.MAX_RESULTS])
        self._has_more = len(notices) == reply_stream.MAX_NOTICES

    def _can_request_more(self, notices: list[Notice]) -> bool:
        """Return whether nothing else must be sent to Redis before the next notices are read."""
        return (
            len(notices) <= reply_stream.MAX_RESULTS
            and len(self._processed) + len(notices) < processed.MAX_NOTICES
            and all(notice.result is not None for notice in notices)
        )

    def _process(self, notices: list[Notice]) -> None:
        """Fetch the results of some notices, and process them."""
        payloads = [notice.result for notice in notices]
        if None in payloads:
            task_ids = [notice.task_id for notice in notices]
            stored = self._fetch(task_ids)
            payloads = [payload or other for payload, other in zip(payloads, stored, strict=True)]
        for notice, payload in zip(notices, payloads, strict=True):
            self._answers.process(notice, payload)

    def _fetch(self, task_ids: list[str]) -> list[bytes | None]:
        """Fetch results and remove processed ones, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            count = self._processed.add_removal(pipe, self._stream)
            reply_stream.fetch(pipe, task_ids)
            stored: list[bytes | None] = pipe.execute()[-1]
        self._processed.forget(count)
        return stored

    def _remove_processed(self) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            count = self._processed.add_removal(pipe, self._stream)
            if count:
                pipe.execute()
        self._processed.forget(count)
