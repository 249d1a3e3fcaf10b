"""Supervisor of a complete service on one machine: Redis, workers, dashboard and gateway."""

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from redis import RedisError

from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq.state import worker_info
from bertq.system import extras
from bertq_cli.service import port_checks, worker_lines
from bertq_cli.service.embedded_redis import Server, check_port
from bertq_cli.service.managed_process import ManagedProcess, ProcessSpec
from bertq_cli.signals import handle_in_loop

Report = Callable[[str, str], None]
Body = Callable[[], Awaitable[None]]

_PROGRESS_SECONDS = 1.0

_FLOWER_ADDRESS = re.compile(r"Visit me at (?P<origin>https?://[^/\s]+)(?P<path>\S*)")


@dataclass
class Service:
    """The description of a service.

    Attributes:
        url: address of the Redis for all processes.
        queues: the device of each worker: ``cpu0``, ``cpu1``; several may share one.
        threads: CPU threads of each worker.
        variables: settings of the workers, ``BERTQ_*``; they override those of this process.
        model_name: the name by which clients request the model; None for a model without a name.
        server: the embedded Redis, or None if the service uses another one.
        flower_port, http_port: ports of the dashboard and of the HTTP gateway on the loopback
            interface, or None to run without them.
        batch_dir: where the gateway stores files and batches, or None for its variable.
        metrics_port: port of the first worker's metrics, or None for no metrics; each further
            worker has the next port.
        log_level: the level from which lines of workers are shown.
        show_progress: called every second during the start, with the steps of the processes, and
            with an empty text at its end.
        options: more options of ``celery -A bertq worker``.

    Raises:
        SettingsError: Celery, which runs the workers, is not installed.
    """

    url: str = field(repr=False)
    queues: list[str]
    threads: list[int]
    variables: Mapping[str, str]
    model_name: str | None = None
    server: Server | None = None
    flower_port: int | None = None
    http_port: int | None = None
    batch_dir: Path | None = None
    metrics_port: int | None = None
    log_level: str = "WARNING"
    show_progress: Callable[[str], None] = lambda _: None
    options: tuple[str, ...] = ()
    _processes: list[ManagedProcess] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        extras.require("a worker", "worker", "celery", "kombu", "packaging")

    async def run(self, report: Report, body: Body) -> None:
        """Start all processes, run ``body`` once all are ready, and then end all processes.

        Processes that end before that are restarted.

        Raises:
            ProcessFailed: a process cannot be started or restarted.
        """
        try:
            if self.server is None:
                report("redis", f"{redis_url.redact(self.url)}, as given")
                await self._supervise(self._specs(), report, body)
            else:
                # Nested, so that the workers end before the server: they withdraw their info from
                # it.
                rest = partial(self._supervise, self._specs(), report, body)
                await self._supervise([self.server.spec()], report, rest)
        except BaseExceptionGroup as group:
            raise _first_error(group) from None

    def kill(self) -> None:
        """Kill all processes."""
        for process in self._processes:
            process.kill()

    async def _supervise(self, specs: list[ProcessSpec], report: Report, body: Body) -> None:
        """Supervise processes, and run ``body`` once all of them are ready."""
        processes = [ManagedProcess(spec, report) for spec in specs]
        self._processes += processes
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(process.supervise()) for process in processes]
            showing = group.create_task(self._show_steps(processes))
            for process in processes:
                await process.ready.wait()
            showing.cancel()
            await body()
            for task in tasks:
                task.cancel()

    async def _show_steps(self, processes: list[ManagedProcess]) -> None:
        """Show the steps of the processes that are not ready, every second."""
        started = time.monotonic()
        try:
            while True:
                steps = [
                    f"{process.spec.name}: {process.step}"
                    for process in processes
                    if not process.ready.is_set()
                ]
                self.show_progress(f"{time.monotonic() - started:.0f} s, {'; '.join(steps)}")
                await asyncio.sleep(_PROGRESS_SECONDS)
        finally:
            self.show_progress("")

    def _specs(self) -> list[ProcessSpec]:
        found = [
            self._worker(number, queue, threads)
            for number, (queue, threads) in enumerate(zip(self.queues, self.threads, strict=True))
        ]
        if self.flower_port is not None:
            found.append(self._flower(self.flower_port))
        if self.http_port is not None:
            found.append(self._http(self.http_port))
        return found

    def _environ(self) -> dict[str, str]:
        # The calling program may have configured Celery for itself.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CELERY_")}
        return {**inherited, "BERTQ_REDIS_URL": self.url}

    def _worker(self, number: int, queue: str, threads: int) -> ProcessSpec:
        """Return the specification of a worker; the first worker has number 0."""
        command = [sys.executable, "-m", "celery", "-q", "-A", "bertq", "worker"]
        command += ["-l", self.log_level, "--concurrency", "1", "-Q", queue, *self.options]
        name = queue
        ordinal = self.queues[:number].count(queue) + 1  # position among the workers of its device
        metrics = str(self.metrics_port + number) if self.metrics_port else ""
        if ordinal > 1:
            # The first worker names itself. The name of a model contains no dot.
            name = f"{queue}.{ordinal}"
            command += ["-n", f"{name}-{self.model_name}@%h" if self.model_name else f"{name}@%h"]
        found: list[worker_info.WorkerInfo] = []

        def is_published(pid: int) -> bool:
            # The process id identifies the worker, because the user may have named the node.
            try:
                with connect(self.url) as redis:
                    found[:] = [
                        worker
                        for worker in worker_info.read(redis)
                        if worker.pid == pid and worker.node.endswith(f"@{socket.gethostname()}")
                    ]
            except (RedisError, OSError):
                return False
            return bool(found)

        def describe(seconds: float) -> str:
            (worker,) = found
            return (
                f"{name}: ready after {seconds:.1f} s, {worker.model} on {worker.device_name}, "
                f"{threads} {'thread' if threads == 1 else 'threads'}, pid {worker.pid}"
                + (metrics and f", metrics at port {metrics}")
                + f"; {worker.meaning}"
            )

        return ProcessSpec(
            role="worker",
            name=name,
            command=command,
            environ={
                **self._environ(),
                **self.variables,
                "BERTQ_THREADS": str(threads),
                # Always set, so that workers do not inherit the variable of this process.
                "BERTQ_MODEL_NAME": self.model_name or "",
                "BERTQ_METRICS_PORT": metrics,
                "BERTQ_LOG_LOADING": "1",
                # Celery prints a long warning if a worker runs as root, as in containers.
                "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
            },
            is_ready=lambda pid: asyncio.to_thread(is_published, pid),
            describe=describe,
            is_shown=lambda line: worker_lines.is_shown(line, self.log_level),
            find_step=worker_lines.find_step,
            find_reason=worker_lines.find_refusal,
        )

    def _flower(self, port: int) -> ProcessSpec:
        # The user may have set a prefix or TLS, in FLOWER_* variables or in flowerconfig.py. Flower
        # prints the resulting address before it answers requests.
        command = [sys.executable, "-m", "celery", "-A", "bertq", "flower"]
        address = f"http://127.0.0.1:{port}"

        def is_shown(line: str) -> bool:
            nonlocal address
            if found := _FLOWER_ADDRESS.search(line):
                path = found["path"].strip("/")
                address = f"{found['origin']}/{path}" if path else found["origin"]
            return "ERROR" in line or "CRITICAL" in line

        return ProcessSpec(
            role="flower",
            name="flower",
            command=[*command, "--address=127.0.0.1", f"--port={port}", "--unix_socket="],
            environ=self._environ(),
            is_ready=lambda _: asyncio.to_thread(port_checks.is_web_server, port),
            prepare=lambda: check_port("127.0.0.1", port, "--flower"),
            describe=lambda _: address,
            is_shown=is_shown,
            start_timeout_seconds=60.0,
            stop_timeout_seconds=5.0,
        )

    def _http(self, port: int) -> ProcessSpec:
        command = [sys.executable, "-m", "bertq_cli", "http", "--host", "127.0.0.1"]
        if self.batch_dir is not None:
            command += ["--batch-dir", str(self.batch_dir)]
        environ = self._environ()
        uses_tls = bool(environ.get("BERTQ_HTTP_CERTFILE"))
        address = f"http{'s' if uses_tls else ''}://127.0.0.1:{port}"
        check = partial(port_checks.answers, port, "/healthz", b"ok", uses_tls=uses_tls)
        return ProcessSpec(
            role="http",
            name="http",
            command=[*command, "--port", str(port)],
            environ=environ,
            is_ready=lambda _: asyncio.to_thread(check),
            prepare=lambda: check_port("127.0.0.1", port, "--http-port"),
            describe=lambda _: f"{address}, its manual at /docs",
            # uvicorn's lines, and those of bertq.
            is_shown=lambda line: line.startswith(("ERROR", "CRITICAL", "Error:")),
            find_reason=lambda tail: tail[-1].removeprefix("Error: ") if tail else "",
            start_timeout_seconds=60.0,
        )


async def run_until_stopped(service: Service, report: Report, body: Body) -> int:
    """Run a service until ``body`` ends or a signal stops the program.

    The first SIGINT, SIGTERM or SIGHUP ends all processes in order; another one kills them.

    Returns:
        The number of the signal; 0 if ``body`` ended without one.
    """
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(service.run(report, body))
    caught: list[int] = []

    def stop(number: int) -> None:
        caught.append(number)
        if len(caught) > 1:
            service.kill()
            return
        running.cancel()
        report("stopping", f"{signal.Signals(number).name}; another one ends it at once")

    with handle_in_loop(loop, stop):
        try:
            await running
        except asyncio.CancelledError:
            if not caught:
                raise
    return caught[0] if caught else 0


def _first_error(group: BaseExceptionGroup) -> BaseException:
    """Return the first error of nested exception groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
