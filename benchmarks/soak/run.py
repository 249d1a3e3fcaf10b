"""The soak test: injects faults, takes samples, and waits for the end."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import RedisError

from benchmarks.soak import plan, processes
from benchmarks.soak.clients import CANCELLER, ClientGroup
from benchmarks.soak.redis_server import RedisServer, count_bindings, find_leftovers
from benchmarks.soak.replicated import ReplicatedRedis
from benchmarks.soak.workers import WorkerGroup

_TICK_SECONDS = 0.05
_REPORT_SECONDS = 30.0
#: Samples of memory in a run, at least a second apart.
_MAX_SAMPLES = 600
#: Seconds that Redis has to get rid of everything after the last answer: a killed worker's chunks
#: come back after the visibility timeout.
_EMPTY_SECONDS = 60.0
#: Additional seconds for faults that are late.
_EXTRA_SECONDS = 30.0
#: Seconds that workers have to end after SIGTERM.
_STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        seconds: of sending.
        seed: of everything that is random.
        kills, restarts, wipes, client_kills: how many, as ``plan.events`` has them.
        workers: that are killed.
        survivor: whether there is one more that is not.
        batch_ms: time that a worker takes for 256 rows.
        dim: numbers in a row.
        answer_timeout_seconds: seconds that answers are waited for at the end.
        failover_seconds: time between two failovers; 0 for one server, without replicas.
    """

    seconds: float
    seed: int
    kills: int
    restarts: int
    wipes: int
    client_kills: int
    workers: int
    survivor: bool
    batch_ms: float
    dim: int
    answer_timeout_seconds: float
    failover_seconds: float = 0.0

    @property
    def failovers(self) -> int:
        """The number of failovers."""
        return int(self.seconds / self.failover_seconds) if self.failover_seconds else 0


@dataclass
class SoakResult:
    """The results of a run.

    Attributes:
        seconds: of sending.
        failure: why the run was cut short, if it was.
        counts_by_kind: of the clients, by kind.
        chunks: counters of ``workers.ChunkCounts``.
        killed_workers, restarts: counters by signal.
        ended_workers: workers that ended without a signal, by exit status.
        client_kills: killed cancellers.
        late_workers: workers that did not end in time after a signal.
        leftovers: keys in Redis that should have been removed after the last answer.
        leftovers_after_workers: the same after the workers have stopped.
        bindings: number of kombu's bindings of queues.
        tracebacks: number that clients have printed.
        memory: by process, when and how many bytes.
    """

    seconds: float = 0.0
    failure: str = ""
    counts_by_kind: dict[str, dict[str, Any]] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    killed_workers: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    ended_workers: dict[str, int] = field(default_factory=dict)
    client_kills: int = 0
    late_workers: int = 0
    leftovers: dict[str, str] = field(default_factory=dict)
    leftovers_after_workers: dict[str, str] = field(default_factory=dict)
    bindings: int = 0
    tracebacks: int = 0
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)


class SoakRun:
    """All processes of a run; ``with`` ends them."""

    def __init__(self, options: Options, directory: Path) -> None:
        self._options = options
        self._memory: dict[str, list[tuple[float, int]]] = {}
        self._sampled = self._reported = 0.0
        self._stack = ExitStack()
        with ExitStack() as stack:  # ends the processes if a later one cannot start
            log = stack.enter_context((directory / "redis.log").open("ab"))
            self._redis: RedisServer | ReplicatedRedis = (
                ReplicatedRedis(directory) if options.failovers else RedisServer(directory, log)
            )
            stack.callback(self._redis.stop)
            self._redis.start()
            url = self._redis.url
            workers = ["--batch-ms", str(options.batch_ms), "--dim", str(options.dim)]
            self._workers = WorkerGroup(
                url, directory, options.workers, options.survivor, workers, options.seed
            )
            stack.callback(self._workers.close)
            self._clients = ClientGroup(
                url, directory, options.seed, options.dim, options.answer_timeout_seconds
            )
            stack.callback(self._clients.close)
            self._stack = stack.pop_all()
        self._started = time.monotonic()

    def __enter__(self) -> "SoakRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> SoakResult:
        """Run the test and return its results."""
        options = self._options
        events = plan.plan_events(
            options.seconds, options.seed, options.kills, options.restarts, options.wipes,
            options.client_kills, options.failovers,
        )  # fmt: skip
        self._started = time.monotonic()
        failure = ""
        try:
            self._send_and_kill(events)
        except RuntimeError as error:
            failure = str(error)
        seconds = self._elapsed()
        report(f"{seconds:5.0f} s  waiting for pending requests")
        self._wait_for_clients()
        leftovers = self._wait_until_empty()
        self._workers.stop(_STOP_SECONDS)
        later = {key: size for key, size in self._find_leftovers().items() if key not in leftovers}
        return SoakResult(
            seconds, failure, self._clients.counts_by_kind(), dict(self._workers.chunks.counts),
            dict(self._workers.killed), dict(self._redis.restarts), dict(self._workers.ended),
            self._clients.num_replaced, self._workers.num_late, leftovers, later, self._bindings(),
            self._clients.count_tracebacks(), self._memory,
        )  # fmt: skip

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _send_and_kill(self, events: Sequence[plan.Event]) -> None:
        pending = list(events)
        last = self._options.seconds
        while self._elapsed() < last or (pending and self._elapsed() < last + _EXTRA_SECONDS):
            self._workers.check()
            self._clients.check()
            if isinstance(self._redis, ReplicatedRedis):
                self._redis.check()
            # An event that needs a ready worker waits; later events do not wait for it.
            pending = [
                event
                for event in pending
                if event.at_seconds > self._elapsed() or not self._execute(event)
            ]
            self._sample_and_report()
            time.sleep(_TICK_SECONDS)

    def _execute(self, event: plan.Event) -> bool:
        if event.action == "kill":
            return self._workers.kill(event.signal_name)
        if event.action == "client":
            self._clients.kill()
        elif isinstance(self._redis, ReplicatedRedis):
            return self._redis.fail(event.signal_name)
        else:
            self._redis.restart(event.signal_name, without_data=event.action == "wipe")
        return True

    def _sample_and_report(self) -> None:
        now, options = self._elapsed(), self._options
        if now - self._sampled >= max(1.0, options.seconds / _MAX_SAMPLES):
            self._sampled = now
            pids = {} if options.failovers else {"Redis": self._redis.pid}
            if self._workers.survivor is not None:
                pids["the worker that is not killed"] = self._workers.survivor.process.pid
            for kind, client in self._clients.clients.items():
                if kind != CANCELLER:
                    pids[f"client, {kind}"] = client.process.pid
            for name, pid in pids.items():
                self._memory.setdefault(name, []).append((now, processes.resident_bytes(pid)))
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            report(f"{now:5.0f} s  {self._progress()}")

    def _progress(self) -> str:
        counts_by_kind = self._clients.counts_by_kind().values()
        total = {
            name: sum(counts.get(name, 0) for counts in counts_by_kind)
            for name in ("answered", "pending", "wrong", "doubled")
        }
        errors = sum(sum(counts.get("errors", {}).values()) for counts in counts_by_kind)
        return (
            f"{total['answered']:,} rows, {total['pending']} requests pending, "
            f"{sum(self._workers.killed.values())} workers killed, "
            f"{sum(self._redis.restarts.values())} times Redis, wrong {total['wrong']}, "
            f"doubled {total['doubled']}, errors {errors}"
        )

    def _wait_for_clients(self) -> None:
        for client in self._clients.clients.values():
            client.finish()
        deadline = time.monotonic() + self._options.answer_timeout_seconds + 30
        while time.monotonic() < deadline:
            self._restart_workers()
            if all(client.process.poll() is not None for client in self._clients.clients.values()):
                break
            time.sleep(_TICK_SECONDS)
        self._clients.finish()

    def _restart_workers(self) -> None:
        with suppress(RuntimeError):  # a worker does not start: the report shows the lost requests
            self._workers.check()

    def _wait_until_empty(self) -> dict[str, str]:
        """Wait until Redis is empty; return what is left after a timeout."""
        deadline = time.monotonic() + _EMPTY_SECONDS
        while (leftovers := self._find_leftovers()) and time.monotonic() < deadline:
            self._restart_workers()
            time.sleep(_TICK_SECONDS)
        return leftovers

    def _find_leftovers(self) -> dict[str, str]:
        try:
            return find_leftovers(self._redis.url)
        except (RedisError, OSError) as error:
            return {"Redis": f"cannot be reached: {type(error).__name__}"}

    def _bindings(self) -> int:
        try:
            return count_bindings(self._redis.url)
        except (RedisError, OSError):
            return 0


def report(text: str) -> None:
    """Print a line about the progress."""
    print(text, file=sys.stderr, flush=True)
