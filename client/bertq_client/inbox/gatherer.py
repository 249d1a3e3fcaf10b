"""The thread that collects the results of a client's chunks."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Redis, RedisError

from bertq.errors import BertqError, RemoteError, SentenceTooLong, WireError
from bertq.protocol import keys
from bertq.state import jobs
from bertq_client import threads
from bertq_client.inbox import results
from bertq_client.inbox.recovery import Recovery
from bertq_client.job import Job
from bertq_client.outbox.sender import Sender
from bertq_client.registry import Registry
from bertq_client.worker_directory import WorkerDirectory

log = logging.getLogger("bertq.client")

#: Longest time of one blocking read of the stream, in seconds.
_BLOCK = 0.25
#: Most notices in one read, and most results in one fetch.
_NOTICES, _RESULTS = 256, 8
#: Seconds for which processed results may stay in Redis: usually the next command removes them.
_LINGER = 0.1
_PAUSE = 0.25
#: Seconds to wait for the thread to end, and seconds after which a remaining stream expires.
_LAST, _LEFT = 1.0, 60


class Gatherer:
    """The thread that reads the reply stream, fetches rows and completes futures.

    It sends nothing to Redis while the client has no unanswered jobs.
    """

    def __init__(
        self,
        redis: Redis,
        client_id: str,
        registry: Registry,
        directory: WorkerDirectory,
        sender: Sender,
    ) -> None:
        self._redis = redis
        self._stream = keys.reply(client_id)
        self._registry = registry
        self._directory = directory
        self._sender = sender
        # Processed but still in Redis: entry of the stream, task id, job id if it is answered.
        self._spent: list[tuple[bytes, str, str | None]] = []
        self._recovery = Recovery(redis, registry, directory, sender.send_again, self._fail)
        self.thread = threads.start(self._run, "gatherer")

    def dismiss(self) -> None:
        """End the thread and remove the stream, after the registry was closed.

        Raises:
            redis.RedisError: Redis is unreachable; the stream expires.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            # Any new entry ends a blocking read.
            pipe.xadd(self._stream, {"end": ""})
            pipe.expire(self._stream, _LEFT)
            pipe.execute(raise_on_error=False)
        self.thread.join(_LAST)
        self._redis.unlink(self._stream)

    def _run(self) -> None:
        while not self._registry.closed:
            try:
                if not self._registry.wait(_LINGER if self._spent else None):
                    self._clean_up()
                    continue
                self._directory.refresh(ahead=True)
                self._recovery.look()
                self._collect()
            except Exception as error:
                # No error may end this thread: every caller would wait forever.
                if self._registry.closed:
                    break  # the connection was closed to wake this thread
                self._report(error)
                self._registry.pause(_PAUSE)
        else:
            with suppress(RedisError):  # the results expire
                self._clean_up()

    def _report(self, error: Exception) -> None:
        if isinstance(error, RedisError):
            self._directory.missed(error)
        else:
            log.error("results could not be collected; trying again", exc_info=error)

    # -- results

    def _collect(self) -> None:
        # Reads from the beginning, because processed entries have been removed. Reading after the
        # last id would miss the notices of a new server whose clock is behind the old one's.
        answer = self._ask(
            lambda redis: redis.xread(
                {self._stream: "0-0"}, count=_NOTICES, block=int(_BLOCK * 1000)
            )
        )
        # RESP2 answers with a list of streams, RESP3 with a map.
        streams = answer.values() if isinstance(answer, dict) else [item[1] for item in answer]
        for entries in streams:
            notices = entries[0] if entries and isinstance(entries[0], list) else entries
            for first in range(0, len(notices), _RESULTS):
                self._take_in(notices[first : first + _RESULTS])

    def _take_in(self, notices: list[Any]) -> None:
        task_ids = [fields.get(b"task", b"").decode("utf-8", "replace") for _, fields in notices]
        payloads = [fields.get(b"result") for _, fields in notices]
        if None in payloads:
            stored = self._ask(lambda redis: redis.mget(list(map(keys.result, task_ids))))
            payloads = [near or far for near, far in zip(payloads, stored, strict=True)]
        for (entry, _), task_id, payload in zip(notices, task_ids, payloads, strict=True):
            answered = self._deliver(task_id, payload)
            # Removed only after the rows are copied: if the connection is lost, the same notices
            # are read again.
            self._spent.append((entry, task_id, answered))

    def _ask(self, command: Callable[[Any], Any]) -> Any:
        """Send a command to Redis and remove processed results, in one round trip."""
        if not self._spent:
            return command(self._redis)
        with self._redis.pipeline(transaction=False) as pipe:
            self._remove(pipe)
            command(pipe)
            answer = pipe.execute()[-1]
        self._spent.clear()
        return answer

    def _remove(self, pipe: Any) -> None:
        entries, task_ids, answered = zip(*self._spent, strict=True)
        pipe.xdel(self._stream, *entries)
        pipe.unlink(*map(keys.result, task_ids))
        for job_id in filter(None, answered):
            jobs.discard(pipe, job_id)

    def _clean_up(self) -> None:
        if self._spent:
            with self._redis.pipeline(transaction=False) as pipe:
                self._remove(pipe)
                pipe.execute()
            self._spent.clear()

    def _deliver(self, task_id: str, payload: Any) -> str | None:
        """Process one result; return the job's id if it was the last one."""
        parts = keys.split_task_id(task_id)
        job = self._registry.get(parts[0]) if parts else None
        if parts is None or job is None or job.assembly is None:
            return None  # cancelled, timed out, or a chunk that was computed twice
        if parts[1] >= len(job.assembly.plan):
            return None  # forged: no client has sent such a chunk
        try:
            if payload is None:
                if parts[1] in job.assembly.missing:
                    self._recovery.lose(job, [parts[1]])
                return None
            answer = results.decode(payload, task_id)
            if job.encoding.show_tokens and answer.tokens is None:
                raise WireError(f"the tokens of chunk {task_id} are missing")
            job.assembly.add(parts[1], answer)
            self._registry.mark_answered(job, parts[1])
            if not job.shared:
                job.requests[0].future.advance(job.assembly.done)
            if job.shared and job.assembly.of_tokens:
                # Padded to the longest sentence, which may belong to another request.
                self._separate(job)
                return None
            if job.assembly.missing:
                return None
            self._complete(job)
        except (RemoteError, SentenceTooLong) as error:
            if job.shared:
                self._separate(job)
            else:
                self._fail(job, results.of_request(error, job.assembly.plan[parts[1]]))
            return None
        except Exception as error:
            # Any other error means that memory is short, and must not stop the stream.
            known = error if isinstance(error, BertqError) else BertqError(f"no rows: {error!r}")
            self._fail(job, known)
            return None
        return job.id

    def _complete(self, job: Job) -> None:
        answers = list(job.answers())
        waiting = self._registry.disband(job)
        for request, answer in answers:
            if request in waiting and self._registry.take(request.number) is not None:
                try:
                    request.succeed(answer)
                except Exception as error:  # no memory for lists of numbers
                    request.fail(BertqError(f"no rows: {error!r}"))

    def _separate(self, job: Job) -> None:
        """Send the requests of a job again, each alone, so that an error of one fails no other."""
        for request in self._registry.disband(job):
            request.alone = True
            self._sender.send(request)
        self._sender.drop(job)

    def _fail(self, job: Job, error: Exception) -> None:
        self._registry.fail(job, error)
        self._sender.drop(job)
