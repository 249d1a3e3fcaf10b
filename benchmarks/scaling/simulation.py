"""A discrete-event simulation of a service: two queues, workers, and a policy for their number.

As in bertq: requests of up to 16 sentences have a queue of their own, larger ones are split into
chunks of 256; a worker takes from both queues in turns, one chunk of a large request, or all small
ones that fit into a batch. Workers are alike, and one batch runs at a time in each.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.scaling.load import Arrival
from benchmarks.scaling.policies import POLL_SECONDS, Policy, Seen
from bertq.protocol.limits import MAX_CHUNK_ROWS
from bertq.protocol.queues import PRIORITY_BATCH_SIZE

#: Chunks that clients let wait on a queue; others wait in their clients, where no scaler sees them.
MAX_VISIBLE_CHUNKS = 1024

#: Time over which a scaler averages how busy workers are.
_BUSY_SECONDS = 60.0


@dataclass(frozen=True)
class Costs:
    """Times of a worker.

    Attributes:
        row_seconds: to compute a sentence.
        chunk_seconds: additional time of a batch.
        request_seconds: to send a request and to fetch its answer.
        start_seconds: from the decision for a worker until it takes chunks.
    """

    row_seconds: float
    chunk_seconds: float = 0.0
    request_seconds: float = 0.0
    start_seconds: float = 0.0


@dataclass
class Outcome:
    """The outcome of a simulation.

    Attributes:
        latencies: seconds from each request to its answer, by kind, with the size.
        paid_seconds, busy_seconds: time for which workers existed, and computed.
        most_workers: highest number of workers.
        waiting: number of requests without an answer.
    """

    latencies: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    paid_seconds: float = 0.0
    busy_seconds: float = 0.0
    most_workers: int = 0
    waiting: int = 0

    @property
    def idle_share(self) -> float:
        """Share of the workers' time in which they did not compute, starts included."""
        return 1 - self.busy_seconds / self.paid_seconds


@dataclass(eq=False)
class _Request:
    arrival: Arrival
    chunks: int


@dataclass(eq=False)
class _Worker:
    is_ready: bool = False
    is_busy: bool = False
    must_end: bool = False
    was_small: bool = False


@dataclass(frozen=True)
class _Batch:
    worker: _Worker
    requests: list[_Request]


class Simulation:
    """A service and its load; call ``run`` once."""

    def __init__(self, arrivals: Sequence[Arrival], policy: Policy, costs: Costs) -> None:
        self._arrivals = arrivals
        self._policy = policy
        self._costs = costs
        self._large: deque[tuple[_Request, int]] = deque()
        self._small: deque[tuple[_Request, int]] = deque()
        self._waiting_rows = 0
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._events: list[tuple[float, int, object]] = []
        self._order = itertools.count()
        self._busy_log: deque[tuple[float, float]] = deque()
        self._outcome = Outcome()
        self._now = 0.0

    def run(self, first_workers: int | None = None) -> Outcome:
        """Simulate until all requests are answered.

        Args:
            first_workers: workers that are ready at the beginning; by default the policy's least.
        """
        for _ in range(first_workers or self._policy.low):
            worker = _Worker(is_ready=True)
            self._workers.append(worker)
            self._idle.append(worker)
        for arrival in self._arrivals:
            self._at(arrival.at_seconds, arrival)
        self._at(POLL_SECONDS, "poll")
        self._outcome.waiting = len(self._arrivals)
        while self._outcome.waiting:
            at, _, event = heapq.heappop(self._events)
            self._outcome.paid_seconds += (at - self._now) * len(self._workers)
            self._now = at
            self._outcome.most_workers = max(self._outcome.most_workers, len(self._workers))
            self._handle(event)
            self._start_batches()
        return self._outcome

    def _at(self, seconds: float, event: object) -> None:
        heapq.heappush(self._events, (seconds, next(self._order), event))

    def _handle(self, event: object) -> None:
        if isinstance(event, Arrival):
            self._add(event)
        elif isinstance(event, _Worker):
            if event in self._workers:  # otherwise it was ended before it was ready
                event.is_ready = True
                self._release(event)
        elif event == "poll":
            self._scale()
            self._at(self._now + POLL_SECONDS, "poll")
        elif isinstance(event, _Batch):
            event.worker.is_busy = False
            for request in event.requests:
                self._finish_chunk(request)
            self._release(event.worker)

    def _add(self, arrival: Arrival) -> None:
        request = _Request(arrival, math.ceil(arrival.sentences / MAX_CHUNK_ROWS))
        self._waiting_rows += arrival.sentences
        if arrival.sentences <= PRIORITY_BATCH_SIZE:
            self._small.append((request, arrival.sentences))
            return
        left = arrival.sentences
        for _ in range(request.chunks):
            self._large.append((request, min(left, MAX_CHUNK_ROWS)))
            left -= MAX_CHUNK_ROWS

    def _finish_chunk(self, request: _Request) -> None:
        request.chunks -= 1
        if not request.chunks:
            arrival = request.arrival
            seconds = self._now - arrival.at_seconds + self._costs.request_seconds
            self._outcome.latencies.setdefault(arrival.kind, []).append(
                (arrival.sentences, seconds)
            )
            self._outcome.waiting -= 1

    def _release(self, worker: _Worker) -> None:
        if worker.must_end:
            self._workers.remove(worker)
        else:
            self._idle.append(worker)

    def _start_batches(self) -> None:
        while self._idle and (self._large or self._small):
            worker = self._idle.pop()
            takes_small = bool(self._small) and not (worker.was_small and self._large)
            worker.was_small, worker.is_busy = takes_small, True
            rows, batch = 0, _Batch(worker, [])
            if takes_small:
                while self._small and rows + self._small[0][1] <= MAX_CHUNK_ROWS:
                    request, size = self._small.popleft()
                    rows += size
                    batch.requests.append(request)
            else:
                request, rows = self._large.popleft()
                batch.requests.append(request)
            self._waiting_rows -= rows
            seconds = self._costs.chunk_seconds + rows * self._costs.row_seconds
            self._outcome.busy_seconds += seconds
            self._busy_log.append((self._now, seconds))
            self._at(self._now + seconds, batch)

    def _scale(self) -> None:
        current = len(self._workers)
        wanted = self._policy.choose(self._now, current, self._see())
        for _ in range(wanted - current):
            worker = _Worker()
            self._workers.append(worker)
            self._at(self._now + self._costs.start_seconds, worker)
        # Kubernetes ends pods that are not ready first; the others drain.
        surplus = sorted(self._workers, key=lambda it: (it.is_ready, it.is_busy))
        for worker in surplus[: max(0, current - wanted)]:
            if worker.is_busy:
                worker.must_end = True  # after its batch
                continue
            self._workers.remove(worker)
            if worker.is_ready:
                self._idle.remove(worker)

    def _see(self) -> Seen:
        while self._busy_log and self._busy_log[0][0] < self._now - _BUSY_SECONDS:
            self._busy_log.popleft()
        large = min(len(self._large), MAX_VISIBLE_CHUNKS)
        rows = self._waiting_rows - MAX_CHUNK_ROWS * (len(self._large) - large)
        return Seen(
            (large, len(self._small)),
            max(0, rows) * self._costs.row_seconds,
            sum(seconds for _, seconds in self._busy_log) / _BUSY_SECONDS,
        )
