"""One process of a service, kept running."""

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

#: Seconds between a death and the next start: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Seconds that a process must have been ready for its deaths to be forgotten.
STABLE = 60.0
#: Starts in a row that may fail of a process that has been ready before, or was killed.
STARTS = 5

_POLL = 0.2
_LINE = 8192
_TAIL = 15


class ProcessFailed(BertqError):
    """A process that the command needs does not come up."""


@dataclass(frozen=True)
class ProcessSpec:
    """What a process is.

    Attributes:
        kind, name: what the user is told of it: ``worker``, ``cpu0``.
        command: program and arguments; no secret, every user of the machine can see them.
        environ: its environment.
        prepare: called before each start; raises ProcessFailed where it cannot succeed.
        is_ready: whether the process of this id does its work yet.
        describe: how to tell that it is ready.
        is_news: whether a line of its output is for the user, once it is ready.
        reason: why it did not start, from the last lines of its output.
        stdin: what it reads from standard input.
        on_orphaned: the signal that it gets when this program is killed.
        start_within, stop_within: seconds until it counts as failed, or is killed.
        quiet_start: whether nothing that it prints before it is ready is for the user.
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
    """A process that is started again when it dies, until it is cancelled or given up."""

    recipe: ProcessSpec
    say: Callable[[str, str], None]
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    _was_ready: bool = False
    _retired: bool = False

    async def keep(self) -> None:
        """Run the process, and start it again after a pause whenever it ends; until ``kill``.

        Raises:
            ProcessFailed: it ended before it was ever ready, or failed to come back too often.
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
        """End the process at once, and for good."""
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
            # Ctrl-C reaches every process of a terminal's session: it is for this program alone.
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
            _NotReady: it never was.
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
            status = process.returncode  # None: it has not become ready in time
        if ready:
            return _ending(status), time.monotonic() - since
        # What ends by itself before it was ever ready will do no better the next time, nor does
        # a worker that refuses its settings; what was killed, for its memory perhaps, may.
        killed = status is not None and status < 0
        final = status == os.EX_CONFIG or not (self._was_ready or killed)
        raise _NotReady(self.recipe.reason(list(self._tail)) or _ending(status), final)

    async def _comes_up(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until it is ready; return False if it ends, or takes too long, before that."""
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
            pending = pending[:_LINE]  # of a line without end the start is enough
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
    """A process has ended, or taken too long, before it was ready."""

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
