"""The thread that enforces the timeouts of a client's requests."""

from collections.abc import Callable

from bertq.errors import NoWorker, Timeout
from bertq.redis import redis_url
from bertq_client import threads
from bertq_client.registry import Registry
from bertq_client.request import Request
from bertq_client.worker_directory import WorkerDirectory


class Deadlines:
    """The thread that fails overdue requests.

    It does not ask Redis, so a timeout is punctual even when Redis does not answer. Its errors
    describe the workers as other threads last saw them.
    """

    def __init__(
        self,
        url: str,
        registry: Registry,
        directory: WorkerDirectory,
        cancel: Callable[[Request], None],
    ) -> None:
        self._where = redis_url.redact(url)
        self._registry = registry
        self._directory = directory
        self._cancel = cancel
        threads.start(self._run, "timekeeper")

    def _run(self) -> None:
        # Ends as soon as the registry is closed: it waits for nothing else.
        while (request := self._registry.take_overdue()) is not None:
            request.fail(self._reason(request))
            self._cancel(request)
            del request  # otherwise it keeps its client alive until the next one

    def _reason(self, request: Request) -> Timeout:
        try:
            return self._explain(request)
        except Exception as error:
            # Worker info may come from any version, and no error may end this thread.
            return Timeout(f"no answer within {request.timeout:g} s ({error!r})")

    def _explain(self, request: Request) -> Timeout:
        waited = f"no answer within {request.timeout:g} s"
        if self._directory.failure is not None:
            return Timeout(f"{waited}: Redis at {self._where} {self._directory.failure}")
        workers = self._directory.known(request.queue)
        if not workers:
            return NoWorker(
                f"{waited}: no worker takes from queue {request.queue} of {self._where}; "
                "start one with celery -A bertq worker"
            )
        job = request.job
        assembly = job.assembly if job is not None else None
        total = len(assembly.plan) if assembly is not None else 0
        done = total - len(assembly.missing) if assembly is not None else 0
        return Timeout(f"{waited}: {done} of {total} chunks are in, {len(workers)} workers serve")
