"""The calls of a client that submit durable jobs, and find them again."""

from typing import Unpack

from bertq.errors import BadInputType
from bertq.protocol import time_to_live
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


class DurableCalls(ClientBase):
    """The part of ``BertClient`` for durable jobs."""

    _queues: ModelQueues
    _queue: str | None
    _check_length: bool

    def submit(
        self,
        texts: Texts,
        is_tokenized: bool = False,
        show_tokens: bool = False,
        *,
        ttl: float = time_to_live.DURABLE_JOB_SECONDS,
        **options: Unpack[Options],
    ) -> DurableJob:
        """Submit a durable job: workers encode it even if no client waits for it.

        The call returns when the texts and the job's record are in Redis and, if it has replicas,
        in one of them, so that they survive a failover. From then on only a worker is needed. The
        rows stay in Redis, and any process may read them. A durable job sends its chunks gradually,
        so the limit on waiting chunks (``max_pending_chunks``) does not delay it.

        Args:
            texts: as for ``encode``.
            is_tokenized, show_tokens, options: as for ``encode``.
            ttl: seconds after which the job, its texts and its rows expire, even if it is
                unfinished.

        Returns:
            The job; another process can pass its ``id`` to ``job``.

        Raises:
            BadInputType, BadInputValue: the sentences or an option are invalid.
            RedisFull, RedisUnavailable: Redis did not store all of it, or no replica has confirmed
                it within 10 s, and nothing of it remains.
            ClientClosed: the client is closed.
        """
        encoding = Encoding.from_options(
            options, is_tokenized=is_tokenized, show_tokens=show_tokens
        )
        seconds = inputs.check_ttl(ttl)
        frozen = inputs.prepare(texts, is_tokenized=is_tokenized)
        queue = self._queue or self._queues.for_size(len(frozen))
        context = self._session.context
        context.check_open()
        job_id = Submission(context).write(frozen, queue, encoding, seconds)
        return self._durable_job(job_id)

    def job(self, job_id: str) -> DurableJob:
        """Return the durable job with an id from ``submit``, perhaps in another process.

        Raises:
            UnknownJob: there is no such job.
            RedisUnavailable: Redis cannot be reached.
            ClientClosed: the client is closed.
        """
        if not isinstance(job_id, str):
            raise BadInputType(f"a job's id is a str, not a {type(job_id).__name__}")
        self._reader(job_id).info()
        return self._durable_job(job_id)

    def jobs(self) -> list[JobInfo]:
        """Return the durable jobs of all clients, oldest first.

        Raises:
            RedisUnavailable: Redis cannot be reached.
            ClientClosed: the client is closed.
        """
        found = self._query(lambda redis: durable_jobs.read(redis, durable_jobs.ids(redis)))
        return sorted(found, key=lambda info: info.created)

    def _durable_job(self, job_id: str) -> DurableJob:
        as_list = self._output_fmt == "list"
        return DurableJob(job_id, self._reader, as_list=as_list, check_length=self._check_length)

    def _reader(self, job_id: str) -> Reader:
        return Reader(self._session.context, job_id)  # the session of this process
