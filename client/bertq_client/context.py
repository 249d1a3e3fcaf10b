"""What the threads of a session share."""

from dataclasses import dataclass

from redis import Redis, ResponseError

from bertq.errors import ClientClosed
from bertq.protocol import time_to_live
from bertq.redis.primary import ReadOnlyServer
from bertq.redis.retry import RETRY_SECONDS, Retry
from bertq.state.counters import RequestCounter
from bertq.state.lost_chunks import LOST_AFTER_SECONDS
from bertq_client.outbox.window import Limits
from bertq_client.registry import Registry
from bertq_client.worker_directory import MAX_AGE_SECONDS, WorkerDirectory


@dataclass(frozen=True)
class ClientTimings:
    """The times of a client; tests replace them.

    Attributes:
        retry_seconds: how long to retry a command while Redis is full; twice as long while Redis is
            unreachable, because a restarted Redis loads its data first.
        worker_info_seconds: how long worker info is cached.
        read_seconds: longest time of one blocking read of the reply stream.
        search_interval_seconds: time between two searches for lost chunks.
        lost_after_seconds: how long a chunk must be missing before it is lost.
        renewal_interval_seconds: time between two renewals of the jobs' records.
        count_interval_seconds: time between two sendings of the counters.
        commit_interval_seconds: time between two commits of ``encode_file``. A killed run must
            encode the rows of this time again.
        replica_seconds: how long a durable job waits until a replica has it.
    """

    retry_seconds: float = RETRY_SECONDS
    worker_info_seconds: float = MAX_AGE_SECONDS
    read_seconds: float = 0.25
    search_interval_seconds: float = 1.0
    lost_after_seconds: float = LOST_AFTER_SECONDS
    renewal_interval_seconds: float = time_to_live.JOB_SECONDS / 4
    commit_interval_seconds: float = 1.0
    count_interval_seconds: float = 1.0
    replica_seconds: float = 10.0


@dataclass(frozen=True)
class SessionContext:
    """What the threads of a session share.

    Attributes:
        url: address of Redis, for messages.
        redis: a connection.
        client_id: names the reply stream.
        registry: the open requests and jobs; it is closed when the client is.
        directory: the workers, as the client knows them.
        counter: counts the requests.
        limits: limits on the client's chunks.
        timings: the times of the client.
    """

    url: str
    redis: Redis
    client_id: str
    registry: Registry
    directory: WorkerDirectory
    counter: RequestCounter
    limits: Limits
    timings: ClientTimings

    def check_open(self) -> None:
        """Check that the client is open.

        Raises:
            ClientClosed: the client is closed.
        """
        if self.registry.is_closed:
            raise ClientClosed("the client is closed: make a new BertClient")

    def retry(self) -> Retry:
        """Return a helper that retries commands while Redis is unreachable or full."""

        def note(error: Exception) -> None:
            if not isinstance(error, ResponseError | ReadOnlyServer):  # Redis did not answer
                self.directory.note_failure(error)

        return Retry(
            self.url,
            full_seconds=self.timings.retry_seconds,
            unreachable_seconds=2 * self.timings.retry_seconds,
            on_retry=note,
        )
