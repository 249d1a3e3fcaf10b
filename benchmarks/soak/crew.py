"""The workers: killed now and then, and started again at once."""

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, OrderedDict
from pathlib import Path

from benchmarks.soak import child

#: Seconds that a worker has to end after it was asked to.
_GRACE = 40.0
#: Seconds between the two signals of an impatient operator.
_BETWEEN = 0.3
#: Deaths in a row of a worker that nobody has killed, before it was ready.
_STILLBORN = 10
#: The latest chunks, of which it is known whether they are computed again: bounds memory.
_REMEMBERED = 200_000

_CHUNK = re.compile(rb"chunk (\S+): (?:(\d+) rows,|(delivered again)|(failed))")


class Chunks:
    """What workers say about chunks in their logs.

    Attributes:
        counts: of ``computed``, ``rows``, ``again`` (computed before), ``redelivered``, ``failed``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._latest: OrderedDict[int, None] = OrderedDict()

    def read(self, text: bytes) -> None:
        """Count whole lines."""
        for task_id, rows, redelivered, failed in _CHUNK.findall(text):
            if redelivered:
                self.counts["redelivered"] += 1
            elif failed:
                self.counts["failed"] += 1
            else:
                self.counts["computed"] += 1
                self.counts["rows"] += int(rows)
                self._remember(hash(task_id))

    def _remember(self, number: int) -> None:
        if number in self._latest:
            self.counts["again"] += 1
            return
        self._latest[number] = None
        if len(self._latest) > _REMEMBERED:
            self._latest.popitem(last=False)


class Worker:
    """One place for a worker, with the process that has it at the moment."""

    def __init__(self, url: str, queue: str, log: Path, options: list[str]) -> None:
        self.queue = queue
        self.ready = False
        self.stillborn = 0
        self._environ = child.environment(url)
        self._command = [
            sys.executable, "-m", "benchmarks.soak.worker", *options,
            "worker", "-l", "INFO", "--concurrency", "1", "-Q", queue,
        ]  # fmt: skip
        self._log = log.open("ab")
        self._reading = log.open("rb")
        self._partial_line = b""
        self._asked: float | None = None
        self._second: float | None = None
        self.process = self._start()

    @property
    def asked(self) -> bool:
        """Whether somebody has asked the process to end."""
        return self._asked is not None

    def kill(self, way: str) -> None:
        """End the process, now or after what it has taken: ``tend`` sees to the rest."""
        self._asked = time.monotonic()
        if way == "SIGINT twice":
            self.process.send_signal(signal.SIGINT)
            self._second = self._asked + _BETWEEN
        else:
            self.process.send_signal(signal.Signals[way])

    def tend(self) -> int | None:
        """Go on with what was begun; return the status of the process if it has ended."""
        now = time.monotonic()
        if self._second is not None and now > self._second:
            self._second = None
            self.process.send_signal(signal.SIGINT)
        if self._asked is not None and now > self._asked + _GRACE:
            self.process.kill()
        return self.process.poll()

    def again(self) -> None:
        """Start it again."""
        self.stillborn = 0 if self.ready or self.asked else self.stillborn + 1
        self.ready, self._asked, self._second = False, None, None
        self.process = self._start()

    def news(self) -> bytes:
        """Return the whole lines that it has written since the last call."""
        lines, newline, self._partial_line = (self._partial_line + self._reading.read()).rpartition(
            b"\n"
        )
        if b" ready." in lines:
            self.ready = True
        return lines + newline

    def stop(self, retry: float) -> int:
        """End it for good."""
        return child.end(self.process, retry)

    def close(self) -> None:
        """Close its log."""
        self._log.close()
        self._reading.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        return child.start(self._command, self._environ, self._log)


class Crew:
    """All workers.

    Attributes:
        killed: by the way.
        ended: exit statuses of those that nobody had asked to end.
        late: that had not ended some time after they were asked to.
        chunks: what they have computed.
        survivor: the one that nobody kills, if there is one.
    """

    def __init__(
        self, url: str, directory: Path, count: int, survivor: bool, options: list[str], seed: int
    ) -> None:
        self.killed: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.late = 0
        self.chunks = Chunks()
        self.survivor: Worker | None = None
        self._mortal: list[Worker] = []
        self._random = random.Random(f"crew {seed}")
        for number in range(count + survivor):
            queue = f"cpu{number}"
            made = Worker(url, queue, directory / f"worker-{queue}.log", options)
            if number < count:
                self._mortal.append(made)
            else:
                self.survivor = made

    @property
    def all(self) -> list[Worker]:
        """Every one."""
        return [*self._mortal, *([self.survivor] if self.survivor else [])]

    def kill(self, way: str) -> bool:
        """End a worker of chance that is ready; return False if there is none."""
        ready = [one for one in self._mortal if one.ready and not one.asked]
        if not ready:
            return False
        self._random.choice(ready).kill(way)
        self.killed[way] += 1
        return True

    def tend(self) -> None:
        """Start again who has ended, and read what they say.

        Raises:
            RuntimeError: one does not start at all.
        """
        for one in self.all:
            status = one.tend()
            self.chunks.read(one.news())
            if status is None:
                continue
            if not one.asked:
                self.ended[f"{one.queue}: {status}"] += 1
            one.again()
            if one.stillborn > _STILLBORN:
                raise RuntimeError(f"a worker does not start: see worker-{one.queue}.log")

    def stop(self, retry: float) -> None:
        """End all of them, with SIGTERM if there is patience."""
        if retry:
            for one in self.all:
                one.kill("SIGTERM")
        for one in self.all:
            self.late += bool(retry) and one.stop(retry) == -signal.SIGKILL
            one.stop(0)
            self.chunks.read(one.news())

    def close(self) -> None:
        """End all of them at once, and close their logs."""
        self.stop(0)
        for one in self.all:
            one.close()
