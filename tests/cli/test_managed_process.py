"""One process process running, with programs of a line or two."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bertq_cli.service.managed_process import (
    ManagedProcess,
    ProcessFailed,
    ProcessSpec,
    RestartPolicy,
)
from tests.waiting import eventually


async def at_once(_: int) -> bool:
    return True


def make(
    program: str,
    lines: list[str],
    *,
    policy: RestartPolicy | None = None,
    **more: Any,
) -> ManagedProcess:
    """Return a process that runs a Python program; its messages go to ``lines``."""
    values: dict[str, Any] = {
        "role": "worker",
        "name": "cpu0",
        "command": [sys.executable, "-S", "-E", "-c", program],
        "environ": os.environ,
        "is_ready": at_once,
        "describe": lambda _: "cpu0: ready",
        "is_shown": lambda line: "news" in line,
    }
    spec = ProcessSpec(**{**values, **more})
    return ManagedProcess(
        spec, lambda label, text: lines.append(f"{label} {text}"), policy or RestartPolicy()
    )


async def run_until(process: ManagedProcess, condition: Callable[[], bool]) -> None:
    """Supervise the process until the condition is true, then cancel; fail after 20 s."""
    task = asyncio.create_task(process.supervise())
    async with asyncio.timeout(20):
        while not condition():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_pauses_between_restarts_grow() -> None:
    policy = RestartPolicy(first_pause_seconds=0.1, max_pause_seconds=0.3)
    lines: list[str] = []
    process = make("import time; time.sleep(0.3); raise SystemExit(3)", lines, policy=policy)
    asyncio.run(run_until(process, lambda: len(lines) >= 9))
    again = [line.partition("ended ")[2] for line in lines if "ended" in line]
    assert again[:4] == [
        f"with status 3, starting again in {pause} s" for pause in ("0.1", "0.2", "0.3", "0.3")
    ]
    assert lines[::2] == ["worker cpu0: ready"] * len(lines[::2])


def test_a_process_that_was_ready_for_long_restarts_soon() -> None:
    policy = RestartPolicy(first_pause_seconds=0.05, stable_seconds=0.1)
    lines: list[str] = []
    process = make("import time; time.sleep(0.3)", lines, policy=policy)
    asyncio.run(run_until(process, lambda: len(lines) >= 7))
    assert all(line.endswith("again in 0.05 s") for line in lines[1::2])


async def never(_: int) -> bool:
    return False


@pytest.mark.parametrize(
    ("program", "more", "reason"),
    [
        ("print('the reason'); raise SystemExit(1)", {}, "the reason"),
        ("raise SystemExit(1)", {}, "ended with status 1"),
        ("import time; time.sleep(60)", {"start_timeout_seconds": 0.3}, "not ready in time"),
        (
            "print('a'); print('b'); raise SystemExit(1)",
            {"find_reason": lambda tail: tail[-1]},
            "b",
        ),
    ],
)
def test_a_process_that_was_never_ready_is_not_restarted(
    program: str, more: dict[str, Any], reason: str
) -> None:
    lines: list[str] = []
    process = make(program, lines, is_ready=never, **more)
    with pytest.raises(ProcessFailed) as caught:
        asyncio.run(process.supervise())
    assert str(caught.value) == f"worker cpu0 cannot start: {reason}"
    assert lines == []


def test_a_process_killed_at_its_start_has_more_tries() -> None:
    policy = RestartPolicy(first_pause_seconds=0.01, max_starts=3)
    lines: list[str] = []
    process = make("import os; os.kill(os.getpid(), 9)", lines, is_ready=never, policy=policy)
    with pytest.raises(ProcessFailed, match="cannot start: ended by SIGKILL"):
        asyncio.run(process.supervise())
    assert len(lines) == 2


def only_once() -> Callable[[int], Awaitable[bool]]:
    """Say of the first process that it is ready, and of no later one."""
    asked: list[int] = []

    async def is_ready(pid: int) -> bool:
        asked.append(pid)
        return len(asked) == 1

    return is_ready


def test_a_process_that_cannot_be_restarted() -> None:
    policy = RestartPolicy(first_pause_seconds=0.01, max_starts=3)
    lines: list[str] = []
    process = make(
        "import time; time.sleep(0.2); raise SystemExit(9)",
        lines,
        is_ready=only_once(),
        policy=policy,
    )
    with pytest.raises(ProcessFailed, match="cannot start: ended with status 9"):
        asyncio.run(process.supervise())
    assert sum("starting again" in line for line in lines) == 3  # once from being ready, two tries


def test_a_refusal_of_settings_is_final() -> None:
    policy = RestartPolicy(first_pause_seconds=0.01)
    lines: list[str] = []
    program = f"import time; time.sleep(0.2); raise SystemExit({os.EX_CONFIG})"
    process = make(program, lines, is_ready=only_once(), policy=policy)
    with pytest.raises(ProcessFailed, match=f"ended with status {os.EX_CONFIG}"):
        asyncio.run(process.supervise())
    assert sum("starting again" in line for line in lines) == 1


def taken() -> None:
    raise ProcessFailed("port 5555 is taken")


def test_a_missing_program_is_not_started() -> None:
    policy = RestartPolicy(first_pause_seconds=0.01)
    lines: list[str] = []
    with pytest.raises(ProcessFailed, match=r"^worker cpu0 cannot start: port 5555 is taken$"):
        asyncio.run(make("", lines, prepare=taken, policy=policy).supervise())
    assert lines == []
    # A process that has run before is retried: the port may be free again soon.
    free = iter([True, False, False, True])
    process = make(
        "import time; time.sleep(0.2)",
        lines,
        prepare=lambda: None if next(free, True) else taken(),
        policy=policy,
    )
    asyncio.run(run_until(process, lambda: lines.count("worker cpu0: ready") == 2))
    assert [line.partition(",")[0] for line in lines[1:4]] == [
        "worker cpu0: ended with status 0",
        "worker cpu0: port 5555 is taken",
        "worker cpu0: port 5555 is taken",
    ]


def test_a_killed_process_is_not_restarted() -> None:
    lines: list[str] = []
    process = make("import time; time.sleep(60)", lines)

    async def run() -> None:
        task = asyncio.create_task(process.supervise())
        await process.ready.wait()
        process.kill()
        await asyncio.wait_for(task, 20)

    asyncio.run(run())
    assert lines == ["worker cpu0: ready"]


def test_important_lines_are_shown() -> None:
    lines: list[str] = []
    program = (
        "import sys, time\n"
        "print('x' * 100_000); print('news'); print('old'); print(flush=True)\n"
        "sys.stdout.buffer.write(b'\\xff news\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    asyncio.run(run_until(make(program, lines), lambda: len(lines) >= 3))
    assert lines == ["worker cpu0: ready", "cpu0 news", "cpu0 � news"]


def test_standard_input_and_environment(tmp_path: Path) -> None:
    lines: list[str] = []
    program = "import os, sys, time; print('news', sys.stdin.read(), os.environ['X'], flush=True)"
    process = make(program + "; time.sleep(60)", lines, stdin=b"secret", environ={"X": "y"})
    asyncio.run(run_until(process, lambda: len(lines) >= 2))
    assert lines[1] == "cpu0 news secret y"


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    lines: list[str] = []
    program = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); "
        "print('news', os.getpid(), flush=True); time.sleep(60)"
    )
    process = make(program, lines, stop_timeout_seconds=0.3)
    asyncio.run(run_until(process, lambda: len(lines) >= 2))
    pid = lines[1].split()[-1]
    assert not Path(f"/proc/{pid}").exists()


def test_processes_that_it_started_and_that_keep_its_output_open_are_killed() -> None:
    lines: list[str] = []
    program = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '600']); "
        "print('news', child.pid, flush=True); time.sleep(60)"
    )
    process = make(program, lines, stop_timeout_seconds=0.3)
    asyncio.run(run_until(process, lambda: len(lines) >= 2))
    pid = int(lines[1].split()[-1])
    eventually(lambda: has_ended(pid))


@pytest.mark.parametrize("first", ["cancelled", "ended"])
def test_cancelling_again_waits_for_the_end_of_the_process(tmp_path: Path, first: str) -> None:
    ending, ended = tmp_path / "ending", tmp_path / "ended"
    program = (
        "import os, pathlib, signal, sys, time\n"
        "def end(*_):\n"
        f"    pathlib.Path({str(ending)!r}).touch()\n"
        "    time.sleep(1)\n"
        f"    pathlib.Path({str(ended)!r}).touch()\n"
        "    sys.exit()\n"
        "signal.signal(15, end)\n"
        "print('news', os.getpid(), flush=True)\n"
        "time.sleep(60)"
    )
    lines: list[str] = []
    process = make(program, lines)

    async def run() -> None:
        task = asyncio.create_task(process.supervise())
        async with asyncio.timeout(20):
            while len(lines) < 2:
                await asyncio.sleep(0.02)
            if first == "cancelled":
                task.cancel()
            else:
                os.kill(int(lines[1].split()[-1]), 15)
            while not ending.exists():
                await asyncio.sleep(0.02)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.05)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert ended.exists()

    asyncio.run(run())
    assert has_ended(int(lines[1].split()[-1]))


def has_ended(pid: int) -> bool:
    """Return whether no process has this id, or only one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
