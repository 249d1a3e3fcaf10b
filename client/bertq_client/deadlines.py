"""The thread that enforces the timeouts of a client's requests."""

from collections.abc import Callable

from bertq.errors import NoWorker, Timeout
from bertq.redis import redis_url
from bertq_client import threads
from bertq_client.context import SessionContext
from bertq_client.request import Request


class Deadlines:
    """The thread that fails overdue requests.

    It does not ask Redis, so a timeout is punctual even when Redis does not answer. Its errors
    describe the workers as other threads last saw them.
    """

    def __init__(self, context: SessionContext, cancel: Callable[[Request], None]) -> None:
        self._address = redis_url.redact(context.url)
        self._registry = context.registry
        self._directory = context.directory
        self._cancel = cancel
        threads.start(self._run, "deadlines")

    def _run(self) -> None:
        # Ends as soon as the registry is closed: it waits for nothing else.
        while (request := self._registry.take_overdue()) is not None:
            request.fail(self._timeout_error(request))
            self._cancel(request)
            del request  # otherwise it keeps its client alive until the next one

    def _timeout_error(self, request: Request) -> Timeout:
        try:
            return self._explain_timeout(request)
        except Exception as error:
            # Worker info may come from any version, and no error may end this thread.
            return Timeout(f"no answer within {request.timeout:g} s ({error!r})")

    def _explain_timeout(self, request: Request) -> Timeout:
        waited = f"no answer within {request.timeout:g} s"
        if self._directory.failure is not None:
            return Timeout(f"{waited}: {self._directory.failure}")
        workers = self._directory.known(request.queue)
        if not workers:
            return NoWorker(
                f"{waited}: no worker takes from queue {request.queue} of {self._address}"
                f"{self._directory.describe_models()}; start one with celery -A bertq worker"
            )
        job = request.job
        assembly = job.assembly if job is not None else None
        total = len(assembly.plan) if assembly is not None else 0
        done = total - len(assembly.missing) if assembly is not None else 0
        return Timeout(
            f"{waited}: {done} of {total} chunks are answered, and {len(workers)} workers take "
            f"from queue {request.queue}"
        )
