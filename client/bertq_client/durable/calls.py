"""The calls of a client that leave jobs in Redis, and find them there."""

import time
from typing import Unpack

from bertq.errors import BadInputType
from bertq.protocol import keys
from bertq.protocol.encoding import Encoding, Options
from bertq.protocol.queues import ModelQueues
from bertq.state import durable_jobs
from bertq.state.durable_jobs import JobInfo
from bertq_client import inputs
from bertq_client.connection import ClientBase
from bertq_client.durable.durable_job import DurableJob
from bertq_client.durable.reader import Reader
from bertq_client.durable.submission import Submission
from bertq_client.inputs import Texts
from bertq_client.retry import Retry


class DurableCalls(ClientBase):
    """The part of ``BertClient`` for jobs that outlive it."""

    _queues: ModelQueues
    _queue: str | None
    _check_length: bool

    def submit(
        self,
        texts: Texts,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        ttl: float = keys.KEPT_TTL,
        **options: Unpack[Options],
    ) -> DurableJob:
        """Leave sentences in Redis to be encoded, whether anybody waits or not.

        Returns when the texts and the job's record are in Redis. From then on nobody need be alive
        but a worker: the rows wait in Redis for whoever asks. The bounds on waiting chunks
        (``max_pending_chunks``) do not hold a job up: it sends its chunks little by little.

        Args:
            texts: as for ``encode``.
            is_tokenized, show_tokens, options: as for ``encode``.
            ttl: seconds after which the job, its texts and its rows are forgotten, done or not.

        Returns:
            The job; its ``id`` is what another process gives to ``job``.

        Raises:
            BadInputType, BadInputValue: the sentences or an option cannot be used.
            RedisFull, RedisUnavailable: Redis did not take all of it; nothing is left of the job.
            ClientClosed: the client is closed.
        """
        encoding = Encoding.of(options, is_tokenized=is_tokenized, show_tokens=show_tokens)
        seconds = inputs.check_ttl(ttl)
        inputs.check_list(texts, is_tokenized=is_tokenized)
        frozen = inputs.frozen(texts)
        queue = self._queue or self._queues.for_size(len(frozen))
        session = self._session
        session.check_open()
        submission = Submission(
            session.redis, session.client_id, session.fleet,
            Retry(self._url, session.fleet, time.sleep), session.check_open,
        )  # fmt: skip
        return self._kept(submission.write(frozen, queue, encoding, seconds))

    def job(self, job_id: str) -> DurableJob:
        """Return the job of an id that ``submit`` gave, perhaps to another process.

        Raises:
            UnknownJob: no such job is kept.
            RedisUnavailable: Redis cannot be asked.
            ClientClosed: the client is closed.
        """
        if not isinstance(job_id, str):
            raise BadInputType(f"a job's id is a str, not a {type(job_id).__name__}")
        self._reader(job_id).info()
        return self._kept(job_id)

    def jobs(self) -> list[JobInfo]:
        """Return what is known of the jobs that are kept, whoever submitted them; oldest first.

        Raises:
            RedisUnavailable: Redis cannot be asked.
            ClientClosed: the client is closed.
        """
        found = self._ask(lambda redis: durable_jobs.read(redis, durable_jobs.ids(redis)))
        return sorted(found, key=lambda info: info.created)

    def _kept(self, job_id: str) -> DurableJob:
        as_list = self._output_fmt == "list"
        return DurableJob(job_id, self._reader, as_list=as_list, check_length=self._check_length)

    def _reader(self, job_id: str) -> Reader:
        session = self._session  # that of this process
        return Reader(self._url, session.redis, session.fleet, session.check_open, job_id)
