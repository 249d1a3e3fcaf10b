"""The workers, which are killed now and then and restarted at once."""

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, OrderedDict
from pathlib import Path

from benchmarks.soak import processes

#: Seconds that a worker has to end after a signal.
_END_SECONDS = 40.0
#: Seconds between two SIGINT, as from an operator who presses Ctrl-C twice.
_SECOND_SIGNAL_SECONDS = 0.3
#: Consecutive starts of a worker that may fail.
_MAX_FAILED_STARTS = 10
#: Latest chunks that are remembered, to count those that are computed again.
_MAX_CHUNKS = 200_000

_CHUNK = re.compile(rb"chunk (\S+): (?:(\d+) rows,|(delivered again)|(failed))")


class ChunkCounts:
    """Counts chunks in the logs of workers.

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
                self._note_chunk(hash(task_id))

    def _note_chunk(self, number: int) -> None:
        if number in self._latest:
            self.counts["again"] += 1
            return
        self._latest[number] = None
        if len(self._latest) > _MAX_CHUNKS:
            self._latest.popitem(last=False)


class Worker:
    """A worker of one queue, and its current process."""

    def __init__(self, url: str, queue: str, log: Path, options: list[str]) -> None:
        self.queue = queue
        self.is_ready = False
        self.failed_starts = 0
        self._environ = processes.clean_environment(url)
        self._command = [
            sys.executable, "-m", "benchmarks.soak.worker", *options,
            "worker", "-l", "INFO", "--concurrency", "1", "-Q", queue,
        ]  # fmt: skip
        self._log = log.open("ab")
        self._log_reader = log.open("rb")
        self._partial_line = b""
        self._end_requested_at: float | None = None
        self._second_signal_at: float | None = None
        self.process = self._start()

    @property
    def is_ending(self) -> bool:
        """Whether the process got a signal to end."""
        return self._end_requested_at is not None

    def kill(self, signal_name: str) -> None:
        """Send a signal to end the process; ``check`` continues from there."""
        self._end_requested_at = time.monotonic()
        if signal_name == "SIGINT twice":
            self.process.send_signal(signal.SIGINT)
            self._second_signal_at = self._end_requested_at + _SECOND_SIGNAL_SECONDS
        else:
            self.process.send_signal(signal.Signals[signal_name])

    def check(self) -> int | None:
        """Send further signals that are due; return the status if the process has ended."""
        now = time.monotonic()
        if self._second_signal_at is not None and now > self._second_signal_at:
            self._second_signal_at = None
            self.process.send_signal(signal.SIGINT)
        if self._end_requested_at is not None and now > self._end_requested_at + _END_SECONDS:
            self.process.kill()
        return self.process.poll()

    def restart(self) -> None:
        """Start the process again."""
        self.failed_starts = 0 if self.is_ready or self.is_ending else self.failed_starts + 1
        self.is_ready, self._end_requested_at, self._second_signal_at = False, None, None
        self.process = self._start()

    def read_new_lines(self) -> bytes:
        """Return the complete lines that were logged since the last call."""
        text = self._partial_line + self._log_reader.read()
        lines, newline, self._partial_line = text.rpartition(b"\n")
        if b" ready." in lines:
            self.is_ready = True
        return lines + newline

    def stop(self, timeout_seconds: float) -> int:
        """End the process and return its status."""
        return processes.end_process(self.process, timeout_seconds)

    def close(self) -> None:
        """Close the log."""
        self._log.close()
        self._log_reader.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        return processes.start_process(self._command, self._environ, self._log)


class WorkerGroup:
    """All workers.

    Attributes:
        killed: number of killed workers by signal.
        ended: exit statuses of workers that ended without a signal.
        num_late: workers that did not end in time after a signal.
        chunks: counts of their chunks.
        survivor: a worker that is never killed, if there is one.
    """

    def __init__(
        self, url: str, directory: Path, count: int, survivor: bool, options: list[str], seed: int
    ) -> None:
        self.killed: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.num_late = 0
        self.chunks = ChunkCounts()
        self.survivor: Worker | None = None
        self._killable: list[Worker] = []
        self._random = random.Random(f"crew {seed}")
        for number in range(count + survivor):
            queue = f"cpu{number}"
            worker = Worker(url, queue, directory / f"worker-{queue}.log", options)
            if number < count:
                self._killable.append(worker)
            else:
                self.survivor = worker

    @property
    def all(self) -> list[Worker]:
        """All workers."""
        return [*self._killable, *([self.survivor] if self.survivor else [])]

    def kill(self, signal_name: str) -> bool:
        """End a random worker that is ready; return False if there is none."""
        ready = [worker for worker in self._killable if worker.is_ready and not worker.is_ending]
        if not ready:
            return False
        self._random.choice(ready).kill(signal_name)
        self.killed[signal_name] += 1
        return True

    def check(self) -> None:
        """Restart workers that have ended, and read their logs.

        Raises:
            RuntimeError: a worker does not start.
        """
        for worker in self.all:
            status = worker.check()
            self.chunks.read(worker.read_new_lines())
            if status is None:
                continue
            if not worker.is_ending:
                self.ended[f"{worker.queue}: {status}"] += 1
            worker.restart()
            if worker.failed_starts > _MAX_FAILED_STARTS:
                raise RuntimeError(f"a worker does not start: see worker-{worker.queue}.log")

    def stop(self, timeout_seconds: float) -> None:
        """End all workers, by SIGTERM if there is a timeout and else by SIGKILL."""
        if timeout_seconds:
            for worker in self.all:
                worker.kill("SIGTERM")
        for worker in self.all:
            status = worker.stop(timeout_seconds)
            self.num_late += bool(timeout_seconds) and status == -signal.SIGKILL
            self.chunks.read(worker.read_new_lines())

    def close(self) -> None:
        """Kill all workers, and close their logs."""
        self.stop(0)
        for worker in self.all:
            worker.close()
