"""The thread that keeps the deadlines of a client's requests."""

from collections.abc import Callable

from bertq import redis_url
from bertq.errors import NoWorker, Timeout
from bertq_client import threads
from bertq_client.fleet import Fleet
from bertq_client.registry import Job, Registry


class Timekeeper:
    """Gives up requests that are overdue.

    It asks nobody: whatever Redis does, or does not do, a timeout is a timeout. What it says about
    the workers is what the other threads have seen last.
    """

    def __init__(
        self, url: str, registry: Registry, fleet: Fleet, cancel: Callable[[Job], None]
    ) -> None:
        self._where = redis_url.redact(url)
        self._registry = registry
        self._fleet = fleet
        self._cancel = cancel
        threads.start(self._run, "timekeeper")

    def _run(self) -> None:
        # Ends with the registry, and at once: there is nothing to wait for.
        while (job := self._registry.pop_overdue()) is not None:
            job.fail(self._reason(job))
            self._cancel(job)
            del job  # or it would keep its client alive until the next one

    def _reason(self, job: Job) -> Timeout:
        try:
            return self._explain(job)
        except Exception as error:
            # An advert of who knows what version; nothing may end this thread.
            return Timeout(f"no answer within {job.timeout:g} s ({error!r})")

    def _explain(self, job: Job) -> Timeout:
        waited = f"no answer within {job.timeout:g} s"
        if self._fleet.trouble is not None:
            return Timeout(f"{waited}: Redis at {self._where} {self._fleet.trouble}")
        workers = self._fleet.known(job.queue)
        if not workers:
            return NoWorker(
                f"{waited}: no worker takes from queue {job.queue} of {self._where}; "
                "start one with celery -A bertq worker"
            )
        done = len(job.assembly.plan) - len(job.assembly.missing) if job.assembly else 0
        total = len(job.assembly.plan) if job.assembly else 0
        return Timeout(f"{waited}: {done} of {total} chunks are in, {len(workers)} workers serve")
