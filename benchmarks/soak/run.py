"""The soak itself: does what is planned, watches, and waits for the end."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import RedisError

from benchmarks.soak import child, plan
from benchmarks.soak.crew import Crew
from benchmarks.soak.crowd import QUITTER, Crowd
from benchmarks.soak.store import Store, bindings, left_over

_TICK = 0.05
_SAY = 30.0
#: Samples of memory in a run, at least a second apart.
_SAMPLES = 600
#: Seconds that Redis has to get rid of everything after the last answer: a killed worker's chunks
#: come back after the visibility timeout.
_EMPTY = 60.0
#: Seconds for what could not be done in time.
_MORE = 30.0
#: Seconds that workers have to end after SIGTERM.
_END = 40.0


@dataclass(frozen=True)
class Options:
    """What is done, and for how long.

    Attributes:
        seconds: of sending.
        seed: of everything that is random.
        kills, restarts, wipes, client_kills: how many, as ``plan.events`` has them.
        workers: that are killed.
        survivor: whether there is one more that is not.
        batch_ms: time that a worker takes for 256 rows.
        dim: numbers in a row.
        retry: seconds that answers are waited for at the end.
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
    retry: float


@dataclass
class Findings:
    """What came out.

    Attributes:
        seconds: of sending.
        broken: why the run was cut short, if it was.
        ledgers: of the clients, by kind.
        chunks: counters of ``crew.Chunks``.
        killed, restarts, ended: counters by signal, and by status.
        client_kills: of the client that gives up easily.
        late: workers that did not end when they were asked to.
        left: what is in Redis that should not be, long after the last answer.
        left_by_workers: the same after the workers have stopped.
        bindings: of queues, which kombu keeps for ever.
        complaints: tracebacks that clients have printed.
        memory: by process, when and how many bytes.
    """

    seconds: float = 0.0
    broken: str = ""
    ledgers: dict[str, dict[str, Any]] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    client_kills: int = 0
    late: int = 0
    left: dict[str, str] = field(default_factory=dict)
    left_by_workers: dict[str, str] = field(default_factory=dict)
    bindings: int = 0
    complaints: int = 0
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)


class Soak:
    """Everything that runs; ``with`` ends it."""

    def __init__(self, options: Options, directory: Path) -> None:
        self._options = options
        self._memory: dict[str, list[tuple[float, int]]] = {}
        self._sampled = self._said = 0.0
        self._stack = ExitStack()
        with ExitStack() as stack:  # what is started ends when the rest cannot be
            log = stack.enter_context((directory / "redis.log").open("ab"))
            self._store = Store(directory, log)
            stack.callback(self._store.stop)
            self._store.start()
            url = self._store.url
            workers = ["--batch-ms", str(options.batch_ms), "--dim", str(options.dim)]
            self._crew = Crew(
                url, directory, options.workers, options.survivor, workers, options.seed
            )
            stack.callback(self._crew.close)
            self._crowd = Crowd(url, directory, options.seed, options.dim, options.retry)
            stack.callback(self._crowd.close)
            self._stack = stack.pop_all()
        self._began = time.monotonic()

    def __enter__(self) -> "Soak":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> Findings:
        """Do what is planned; return what came of it."""
        options = self._options
        events = plan.events(
            options.seconds, options.seed, options.kills, options.restarts, options.wipes,
            options.client_kills,
        )  # fmt: skip
        self._began = time.monotonic()
        broken = ""
        try:
            self._play(events)
        except RuntimeError as error:
            broken = str(error)
        seconds = self._now()
        say(f"{seconds:5.0f} s  nothing more is sent or killed: waiting for what is under way")
        self._finish()
        left = self._wait_until_empty()
        self._crew.stop(_END)
        late = {name: what for name, what in self._left().items() if name not in left}
        return Findings(
            seconds, broken, self._crowd.ledgers(), dict(self._crew.chunks.counts),
            dict(self._crew.killed), dict(self._store.restarts), dict(self._crew.ended),
            self._crowd.replaced, self._crew.late, left, late, self._bindings(),
            self._crowd.complaints(), self._memory,
        )  # fmt: skip

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _play(self, events: Sequence[plan.Event]) -> None:
        due = list(events)
        last = self._options.seconds
        while self._now() < last or (due and self._now() < last + _MORE):
            self._crew.tend()
            self._crowd.tend()
            # What cannot be done yet, for want of a worker that is ready, holds up nothing else.
            due = [one for one in due if one.moment > self._now() or not self._do(one)]
            self._watch()
            time.sleep(_TICK)

    def _do(self, event: plan.Event) -> bool:
        if event.kind == "kill":
            return self._crew.kill(event.way)
        if event.kind == "client":
            self._crowd.kill()
        else:
            self._store.restart(event.way, wipe=event.kind == "wipe")
        return True

    def _watch(self) -> None:
        now, options = self._now(), self._options
        if now - self._sampled >= max(1.0, options.seconds / _SAMPLES):
            self._sampled = now
            pids = {"Redis": self._store.pid}
            if self._crew.survivor is not None:
                pids["the worker that is not killed"] = self._crew.survivor.process.pid
            for kind, guest in self._crowd.guests.items():
                if kind != QUITTER:
                    pids[f"client, {kind}"] = guest.process.pid
            for name, pid in pids.items():
                self._memory.setdefault(name, []).append((now, child.resident(pid)))
        if now - self._said >= _SAY:
            self._said = now
            say(f"{now:5.0f} s  {self._progress()}")

    def _progress(self) -> str:
        ledgers = self._crowd.ledgers().values()
        total = {
            name: sum(one.get(name, 0) for one in ledgers)
            for name in ("answered", "under_way", "wrong", "doubled")
        }
        errors = sum(sum(one.get("errors", {}).values()) for one in ledgers)
        return (
            f"{total['answered']:,} rows, {total['under_way']} requests under way, "
            f"{sum(self._crew.killed.values())} workers killed, "
            f"{sum(self._store.restarts.values())} times Redis, wrong {total['wrong']}, "
            f"doubled {total['doubled']}, errors {errors}"
        )

    def _finish(self) -> None:
        for guest in self._crowd.guests.values():
            guest.finish()
        give_up = time.monotonic() + self._options.retry + 30
        while time.monotonic() < give_up:
            self._mend()
            if all(guest.process.poll() is not None for guest in self._crowd.guests.values()):
                break
            time.sleep(_TICK)
        self._crowd.finish()

    def _mend(self) -> None:
        with suppress(RuntimeError):  # a worker does not start: requests are lost, which is told
            self._crew.tend()

    def _wait_until_empty(self) -> dict[str, str]:
        """Return what is still in Redis when there was time enough for it to go."""
        give_up = time.monotonic() + _EMPTY
        while (left := self._left()) and time.monotonic() < give_up:
            self._mend()
            time.sleep(_TICK)
        return left

    def _left(self) -> dict[str, str]:
        try:
            return left_over(self._store.url)
        except (RedisError, OSError) as error:
            return {"Redis": f"cannot be asked: {type(error).__name__}"}

    def _bindings(self) -> int:
        try:
            return bindings(self._store.url)
        except (RedisError, OSError):
            return 0


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)
