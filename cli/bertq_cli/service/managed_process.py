"""One supervised process of a service."""

import asyncio
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bertq.errors import BertqError
from bertq_cli.service import child

_POLL_SECONDS = 0.2
_MAX_LINE_BYTES = 8192
_TAIL_LINES = 15


class ProcessFailed(BertqError):
    """A process that the command needs does not start."""


@dataclass(frozen=True)
class RestartPolicy:
    """When a process is restarted after it has ended.

    Attributes:
        first_pause_seconds: pause before the first restart; each further pause is twice as long.
        max_pause_seconds: the longest pause.
        stable_seconds: time for which a process must have been ready to reset the pause.
        max_starts: consecutive starts that may fail, if it was ready before or was killed.
    """

    first_pause_seconds: float = 1.0
    max_pause_seconds: float = 30.0
    stable_seconds: float = 60.0
    max_starts: int = 5


@dataclass(frozen=True)
class ProcessSpec:
    """The description of a process.

    Attributes:
        role, name: how messages to the user refer to it: ``worker``, ``cpu0``.
        command: program and arguments; no secrets, as every user of the machine can see them.
        environ: its environment.
        prepare: called before each start; raises ProcessFailed if it cannot succeed.
        is_ready: returns whether the process with this id is ready.
        describe: returns the message that it is ready, given the seconds that it took.
        is_shown: whether to show a line of its output to the user, once it is ready.
        find_step: returns the step of its start that a line of its output reports, if any.
        find_reason: returns why it did not start, from the last lines of its output.
        stdin: its standard input.
        orphan_signal: the signal that it gets when this program is killed.
        start_timeout_seconds, stop_timeout_seconds: seconds until the start counts as failed, or
            until it is killed.
        quiet_start: whether to hide all output before it is ready.
    """

    role: str
    name: str
    command: list[str]
    environ: Mapping[str, str]
    is_ready: Callable[[int], Awaitable[bool]]
    describe: Callable[[float], str]
    is_shown: Callable[[str], bool]
    find_step: Callable[[str], str | None] = lambda _: None
    find_reason: Callable[[list[str]], str] = "\n".join
    prepare: Callable[[], None] = lambda: None
    stdin: bytes = b""
    orphan_signal: signal.Signals = signal.SIGKILL
    start_timeout_seconds: float = 300.0
    stop_timeout_seconds: float = 30.0
    quiet_start: bool = False


@dataclass
class ManagedProcess:
    """A process that is restarted when it ends, until it is cancelled or given up.

    Attributes:
        spec: its description.
        report: gets the messages about it: a label and a text.
        policy: when it is restarted.
        ready: set while it is ready.
        step: the current step of its start.
    """

    spec: ProcessSpec
    report: Callable[[str, str], None]
    policy: RestartPolicy = RestartPolicy()
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    step: str = "starting"
    _process: asyncio.subprocess.Process | None = None
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    _was_ready: bool = False
    _is_killed: bool = False

    async def supervise(self) -> None:
        """Run the process, and restart it after a pause each time it ends, until ``kill``.

        Raises:
            ProcessFailed: it ended before it was ever ready, or too many restarts failed.
        """
        policy = self.policy
        pause, failures = policy.first_pause_seconds, 0
        while True:
            try:
                reason, ready_for = await self._run_once()
                failures = 0
                if ready_for > policy.stable_seconds:
                    pause = policy.first_pause_seconds
            except _NotReady as failure:
                reason = failure.reason
                failures += 1
                if failure.is_final or failures >= policy.max_starts:
                    label = " ".join(dict.fromkeys((self.spec.role, self.spec.name)))
                    raise ProcessFailed(f"{label} cannot start: {reason}") from None
            if self._is_killed:
                return
            message = f"{reason}, starting again in {pause:g} s"
            self.report(self.spec.role, f"{self.spec.name}: {message}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, policy.max_pause_seconds)

    def kill(self) -> None:
        """Kill the process, and do not restart it."""
        self._is_killed = True
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        spec = self.spec
        self._tail.clear()
        self.step = "starting"
        self._process = process = await asyncio.create_subprocess_exec(
            *child.launcher(spec.orphan_signal), *spec.command,
            env=spec.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches every process of a terminal's session; only this program shall get it.
            start_new_session=True,
        )  # fmt: skip
        reading = asyncio.create_task(self._read(process))
        try:
            yield process
        finally:
            self.ready.clear()
            await _complete(self._stop(process, reading))

    async def _run_once(self) -> tuple[str, float]:
        """Run the process once; return how it ended, and the seconds for which it was ready.

        Raises:
            _NotReady: it was not ready in time, or ended before.
        """
        try:
            self.spec.prepare()
        except ProcessFailed as error:
            raise _NotReady(str(error), is_final=not self._was_ready) from None
        async with self._running() as process:
            ready = await self._wait_until_ready(process)
            since = time.monotonic()
            if ready:
                await process.wait()
            status = process.returncode  # None: it was not ready in time
        if ready:
            return _describe_end(status), time.monotonic() - since
        # A process that ended on its own before it was ever ready would fail again, and so would a
        # worker that refuses its settings. A killed process may succeed: memory may have run out.
        killed = status is not None and status < 0
        is_final = status == os.EX_CONFIG or not (self._was_ready or killed)
        raise _NotReady(self.spec.find_reason(list(self._tail)) or _describe_end(status), is_final)

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until it is ready; return False if it ends before that, or takes too long."""
        started = time.monotonic()
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done() and time.monotonic() - started < self.spec.start_timeout_seconds:
                if await self.spec.is_ready(process.pid) and not ended.done():
                    self._was_ready = True
                    self.ready.set()
                    self.report(self.spec.role, self.spec.describe(time.monotonic() - started))
                    return True
                await asyncio.wait([ended], timeout=_POLL_SECONDS)
            return False
        finally:
            ended.cancel()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(self.spec.stdin)
            await process.stdin.drain()
        process.stdin.close()
        pending = b""
        while block := await process.stdout.read(_MAX_LINE_BYTES):
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                self._handle_line(line)
            pending = pending[:_MAX_LINE_BYTES]  # for a line without an end, only the start
        self._handle_line(pending)

    def _handle_line(self, output: bytes) -> None:
        line = output[:_MAX_LINE_BYTES].decode(errors="replace").rstrip()
        if not line:
            return
        self._tail.append(line)
        self.step = self.spec.find_step(line) or self.step
        quiet = self.spec.quiet_start and not self.ready.is_set()
        if not quiet and self.spec.is_shown(line):
            self.report(self.spec.name, line)

    async def _stop(self, process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_timeout_seconds)
        except TimeoutError:
            _kill_group(process)
            await process.wait()
        await reading


async def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, even if this task is cancelled while it waits.

    Raises:
        CancelledError: this task was cancelled; ``work`` has ended.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a process and those that it has started: ``wait`` waits until all close its output."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _NotReady(Exception):
    """A process ended, or took too long, before it was ready."""

    def __init__(self, reason: str, is_final: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


def _describe_end(status: int | None) -> str:
    if status is None:
        return "not ready in time"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
