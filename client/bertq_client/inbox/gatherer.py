"""The thread that collects the results of a client's chunks."""

import logging
import time
from contextlib import suppress
from typing import Any, NamedTuple

from redis import RedisError

from bertq.errors import BertqError, RemoteError, SentenceTooLong, WireError
from bertq.protocol import keys
from bertq.state import purge
from bertq_client import threads
from bertq_client.context import SessionContext
from bertq_client.inbox import reply_stream, results
from bertq_client.inbox.recovery import Recovery
from bertq_client.inbox.reply_stream import Notice, StreamReader
from bertq_client.job import Job
from bertq_client.outbox.sender import Sender

log = logging.getLogger("bertq.client")

#: Bounds on processed results in Redis, which are removed together: seconds, notices, bytes.
_MAX_PROCESSED_SECONDS, _MAX_PROCESSED, _MAX_PROCESSED_BYTES = 0.1, 128, 4 * 1024 * 1024

#: Seconds to wait after an error.
_PAUSE_SECONDS = 0.25

#: Seconds to wait for the thread to end, and seconds after which a remaining stream expires.
_JOIN_SECONDS, _STREAM_TTL_SECONDS = 1.0, 60


class ProcessedNotice(NamedTuple):
    """A notice whose result is processed, but still in Redis.

    Attributes:
        entry_id: id of the notice in the stream.
        key: key of the result, if it has one.
        answered_job_id: id of the chunk's job, if the job is now answered.
    """

    entry_id: bytes
    key: str | None
    answered_job_id: str | None


class Gatherer:
    """The thread that reads the reply stream, fetches rows and completes futures.

    It sends nothing to Redis while the client is idle. For a moment after the last answer it
    continues to read: the answer to a next request then wakes it at once.
    """

    def __init__(self, context: SessionContext, sender: Sender) -> None:
        self._redis = context.redis
        self._stream = keys.reply(context.client_id)
        self._reader = StreamReader(context.redis, self._stream)
        self._registry = context.registry
        self._directory = context.directory
        self._read_seconds = context.timings.read_seconds
        self._sender = sender
        self._processed: list[ProcessedNotice] = []
        self._processed_bytes = 0
        self._removal_due_at = 0.0  # monotonic time
        self._has_more = False  # the last read has returned as many notices as a read may
        self._recovery = Recovery(context, sender.resend, self._fail)
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
                if self._processed or self._reader.is_requested:
                    has_job = self._registry.has_recorded_job()
                else:
                    self._reader.release()
                    has_job = self._registry.wait_for_job()
                if self._registry.is_closed:
                    break
                if has_job:
                    self._directory.refresh(ahead=True)
                    self._recovery.run(has_unread_notices=self._has_more)
                if not self._collect(self._read_seconds if has_job else _MAX_PROCESSED_SECONDS):
                    self._remove_processed()
            except Exception as error:
                # No error may end this thread: every caller would wait forever.
                if self._registry.is_closed:
                    return  # the connection was closed to wake this thread
                self._report(error)
                self._registry.wait_until_closed(_PAUSE_SECONDS)
        with suppress(RedisError):  # the results expire
            self._remove_processed()

    def _report(self, error: Exception) -> None:
        if isinstance(error, RedisError):
            self._directory.note_failure(error)
        else:
            log.error("results could not be collected; trying again", exc_info=error)

    # -- the stream

    def _collect(self, seconds: float) -> bool:
        """Wait for notices, and process them; return whether there were any."""
        if self._must_remove():
            self._remove_processed()
        # After the processed notices that are still there. Usually there are none, and it reads
        # from the beginning: after a last id it would miss the notices of a new server whose clock
        # is behind the old one's.
        after = self._processed[-1].entry_id if self._processed else "0-0"
        notices = self._reader.read(after, seconds)
        if self._can_request_more(notices):
            # Otherwise the callers whose futures are completed now would have to wait for this
            # thread: only one thread at a time runs Python code.
            self._reader.request(notices[-1].entry_id, _MAX_PROCESSED_SECONDS)
        for first in range(0, len(notices), reply_stream.MAX_RESULTS):
            self._process(notices[first : first + reply_stream.MAX_RESULTS])
        self._has_more = len(notices) == reply_stream.MAX_NOTICES
        return bool(notices)

    def _can_request_more(self, notices: list[Notice]) -> bool:
        """Return whether nothing else must be sent to Redis before the next notices are read."""
        return (
            0 < len(notices) <= reply_stream.MAX_RESULTS
            and len(self._processed) + len(notices) < _MAX_PROCESSED
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
            job_id = self._process_result(notice.task_id, payload)
            if not self._processed:
                self._removal_due_at = time.monotonic() + _MAX_PROCESSED_SECONDS
            # Removed only after the rows are copied: if the connection is lost, the same notices
            # are read again.
            key = keys.result(notice.task_id) if notice.has_key else None
            self._processed.append(ProcessedNotice(notice.entry_id, key, job_id))
            self._processed_bytes += len(payload or b"")

    def _must_remove(self) -> bool:
        return (
            len(self._processed) >= _MAX_PROCESSED
            or time.monotonic() >= self._removal_due_at
            or self._processed_bytes >= _MAX_PROCESSED_BYTES
        )

    def _fetch(self, task_ids: list[str]) -> list[bytes | None]:
        """Fetch results and remove processed ones, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            if self._processed:
                self._add_removal(pipe)
            reply_stream.fetch(pipe, task_ids)
            stored: list[bytes | None] = pipe.execute()[-1]
        self._forget_processed()
        return stored

    def _remove_processed(self) -> None:
        if self._processed:
            with self._redis.pipeline(transaction=False) as pipe:
                self._add_removal(pipe)
                pipe.execute()
            self._forget_processed()

    def _forget_processed(self) -> None:
        self._processed.clear()
        self._processed_bytes = 0

    def _add_removal(self, pipe: Any) -> None:
        pipe.xdel(self._stream, *(notice.entry_id for notice in self._processed))
        names = [notice.key for notice in self._processed if notice.key is not None]
        names += [
            keys.job(notice.answered_job_id)
            for notice in self._processed
            if notice.answered_job_id is not None
        ]
        if names:
            pipe.unlink(*names)

    # -- results

    def _process_result(self, task_id: str, payload: bytes | None) -> str | None:
        """Process one result; return the job's id if it was the last one of the job."""
        parts = keys.split_task_id(task_id)
        job = self._registry.get_job(parts[0]) if parts else None
        if parts is None or job is None or job.assembly is None:
            return None  # cancelled, timed out, or a chunk that was computed twice
        number = parts[1]
        if number >= len(job.assembly.plan):
            return None  # forged: no client has sent such a chunk
        try:
            if payload is None:
                if number in job.assembly.missing:
                    self._recovery.resend(job, [number])
                return None
            answer = results.decode(payload, task_id)
            if job.encoding.show_tokens and answer.tokens is None:
                raise WireError(f"the tokens of chunk {task_id} are missing")
            job.assembly.add(number, answer)
            self._registry.mark_answered(job, number)
            if not job.is_shared:
                job.requests[0].future.advance(job.assembly.done)
            if job.is_shared and job.assembly.has_token_rows:
                # Padded to the longest sentence, which may belong to another request.
                self._send_separately(job)
                return None
            if job.assembly.missing:
                return None
            self._complete(job)
        except (RemoteError, SentenceTooLong) as error:
            is_purged = isinstance(error, RemoteError) and error.type_name == purge.ERROR_NAME
            if job.is_shared and not is_purged:
                self._send_separately(job)
            else:
                self._fail(job, results.error_of_request(error, job.assembly.plan[number]))
            return None
        except Exception as error:
            # Any other error means that memory is short, and must not stop the stream.
            known = error if isinstance(error, BertqError) else BertqError(f"no rows: {error!r}")
            self._fail(job, known)
            return None
        return job.id

    def _complete(self, job: Job) -> None:
        # The answer may come before the sender has counted: the caller shall find it counted.
        self._sender.count(job)
        answers = list(job.answers())
        still_open = self._registry.remove_job(job)
        for request, answer in answers:
            if request in still_open and self._registry.take_request(request.number) is not None:
                try:
                    request.succeed(answer)
                except Exception as error:  # no memory for lists of numbers
                    request.fail(BertqError(f"no rows: {error!r}"))

    def _send_separately(self, job: Job) -> None:
        """Send the requests of a job again, each alone, so that an error of one fails no other."""
        for request in self._registry.remove_job(job):
            request.may_share_job = False
            self._sender.send(request)
        self._sender.cancel_job(job)

    def _fail(self, job: Job, error: Exception) -> None:
        self._registry.fail(job, error)
        self._sender.cancel_job(job)
