"""One supervised process of a service."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from bertq.errors import BertqError
from bertq_cli.service import child

#: Seconds between the end of a process and its restart: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Seconds for which a process must have been ready before the pause is reset.
STABLE = 60.0
#: Consecutive starts that may fail, if the process was ready before or was killed.
STARTS = 5

_POLL = 0.2
_LINE = 8192
_TAIL = 15


class ProcessFailed(BertqError):
    """A process that the command needs does not start."""


@dataclass(frozen=True)
class ProcessSpec:
    """The description of a process.

    Attributes:
        kind, name: how messages to the user refer to it: ``worker``, ``cpu0``.
        command: program and arguments; no secrets, as every user of the machine can see them.
        environ: its environment.
        prepare: called before each start; raises ProcessFailed if it cannot succeed.
        is_ready: returns whether the process with this id is ready.
        describe: returns the message that it is ready, given the seconds that it took.
        is_news: whether to show a line of its output to the user, once it is ready.
        reason: returns why it did not start, from the last lines of its output.
        stdin: its standard input.
        on_orphaned: the signal that it gets when this program is killed.
        start_within, stop_within: seconds until the start counts as failed, or until it is killed.
        quiet_start: whether to hide all output before it is ready.
    """

    kind: str
    name: str
    command: list[str]
    environ: Mapping[str, str]
    is_ready: Callable[[int], Awaitable[bool]]
    describe: Callable[[float], str]
    is_news: Callable[[str], bool]
    reason: Callable[[list[str]], str] = "\n".join
    prepare: Callable[[], None] = lambda: None
    stdin: bytes = b""
    on_orphaned: signal.Signals = signal.SIGKILL
    start_within: float = 300.0
    stop_within: float = 30.0
    quiet_start: bool = False


@dataclass
class ManagedProcess:
    """A process that is restarted when it ends, until it is cancelled or given up."""

    recipe: ProcessSpec
    say: Callable[[str, str], None]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    _was_ready: bool = False
    _retired: bool = False

    async def keep(self) -> None:
        """Run the process, and restart it after a pause each time it ends, until ``kill``.

        Raises:
            ProcessFailed: it ended before it was ever ready, or too many restarts failed.
        """
        pause, failures = FIRST_PAUSE, 0
        while True:
            try:
                ending, ready_for = await self._live()
                failures = 0
                if ready_for > STABLE:
                    pause = FIRST_PAUSE
            except _NotReady as failure:
                ending = failure.reason
                failures += 1
                if failure.final or failures >= STARTS:
                    what = " ".join(dict.fromkeys((self.recipe.kind, self.recipe.name)))
                    raise ProcessFailed(f"{what} cannot start: {ending}") from None
            if self._retired:
                return
            again = f"{ending}, starting again in {pause:g} s"
            self.say(self.recipe.kind, f"{self.recipe.name}: {again}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def kill(self) -> None:
        """Kill the process, and do not restart it."""
        self._retired = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        recipe = self.recipe
        self._tail.clear()
        shim = [sys.executable, "-S", "-E", child.__file__]
        self._process = process = await asyncio.create_subprocess_exec(
            *shim, str(os.getpid()), str(int(recipe.on_orphaned)), *recipe.command,
            env=recipe.environ,
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
            await self._stop(process)
            await reading

    async def _live(self) -> tuple[str, float]:
        """Run the process once; return how it ended, and the seconds for which it was ready.

        Raises:
            _NotReady: it was not ready in time, or ended before.
        """
        try:
            self.recipe.prepare()
        except ProcessFailed as error:
            raise _NotReady(str(error), final=not self._was_ready) from None
        async with self._running() as process:
            ready = await self._comes_up(process)
            since = time.monotonic()
            if ready:
                await process.wait()
            status = process.returncode  # None: it was not ready in time
        if ready:
            return _ending(status), time.monotonic() - since
        # A process that ended on its own before it was ever ready would fail again, and so would a
        # worker that refuses its settings. A killed process may succeed: memory may have run out.
        killed = status is not None and status < 0
        final = status == os.EX_CONFIG or not (self._was_ready or killed)
        raise _NotReady(self.recipe.reason(list(self._tail)) or _ending(status), final)

    async def _comes_up(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until it is ready; return False if it ends before that, or takes too long."""
        began = time.monotonic()
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done() and time.monotonic() - began < self.recipe.start_within:
                if await self.recipe.is_ready(process.pid) and not ended.done():
                    self._was_ready = True
                    self.ready.set()
                    self.say(self.recipe.kind, self.recipe.describe(time.monotonic() - began))
                    return True
                await asyncio.wait([ended], timeout=_POLL)
            return False
        finally:
            ended.cancel()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(self.recipe.stdin)
            await process.stdin.drain()
        process.stdin.close()
        pending = b""
        while block := await process.stdout.read(_LINE):
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                self._hear(line)
            pending = pending[:_LINE]  # for a line without an end, only the start
        self._hear(pending)

    def _hear(self, output: bytes) -> None:
        line = output[:_LINE].decode(errors="replace").rstrip()
        if not line:
            return
        self._tail.append(line)
        quiet = self.recipe.quiet_start and not self.ready.is_set()
        if not quiet and self.recipe.is_news(line):
            self.say(self.recipe.name, line)

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.recipe.stop_within)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class _NotReady(Exception):
    """A process ended, or took too long, before it was ready."""

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


def _ending(status: int | None) -> str:
    if status is None:
        return "not ready in time"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
