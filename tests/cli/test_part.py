"""One process kept running, with programs of a line or two."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bertq_cli.service import managed_process
from bertq_cli.service.managed_process import ManagedProcess, ProcessFailed, ProcessSpec


async def at_once(_: int) -> bool:
    return True


def make(program: str, said: list[str], **more: Any) -> ManagedProcess:
    """A part that runs a Python program; what it says goes to ``said``."""
    values: dict[str, Any] = {
        "kind": "worker",
        "name": "cpu0",
        "command": [sys.executable, "-S", "-E", "-c", program],
        "environ": os.environ,
        "is_ready": at_once,
        "describe": lambda _: "cpu0: ready",
        "is_news": lambda line: "news" in line,
    }
    return ManagedProcess(
        ProcessSpec(**{**values, **more}), lambda what, text: said.append(f"{what} {text}")
    )


async def keep_until(kept: ManagedProcess, condition: Callable[[], bool]) -> None:
    """Keep the process until the condition holds, then cancel; fails after 20 s."""
    task = asyncio.create_task(kept.keep())
    async with asyncio.timeout(20):
        while not condition():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_pauses_between_restarts_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(managed_process, "LONGEST_PAUSE", 0.3)
    said: list[str] = []
    kept = make("import time; time.sleep(0.3); raise SystemExit(3)", said)
    asyncio.run(keep_until(kept, lambda: len(said) >= 9))
    again = [line.partition("ended ")[2] for line in said if "ended" in line]
    assert again[:4] == [
        f"with status 3, starting again in {pause} s" for pause in ("0.1", "0.2", "0.3", "0.3")
    ]
    assert said[::2] == ["worker cpu0: ready"] * len(said[::2])


def test_a_process_that_was_ready_for_long_restarts_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(managed_process, "STABLE", 0.1)
    said: list[str] = []
    kept = make("import time; time.sleep(0.3)", said)
    asyncio.run(keep_until(kept, lambda: len(said) >= 7))
    assert all(line.endswith("again in 0.05 s") for line in said[1::2])


async def never(_: int) -> bool:
    return False


@pytest.mark.parametrize(
    ("program", "more", "reason"),
    [
        ("print('the reason'); raise SystemExit(1)", {}, "the reason"),
        ("raise SystemExit(1)", {}, "ended with status 1"),
        ("import time; time.sleep(60)", {"start_within": 0.3}, "not ready in time"),
        ("print('a'); print('b'); raise SystemExit(1)", {"reason": lambda tail: tail[-1]}, "b"),
    ],
)
def test_a_process_that_was_never_ready_is_not_restarted(
    program: str, more: dict[str, Any], reason: str
) -> None:
    said: list[str] = []
    kept = make(program, said, is_ready=never, **more)
    with pytest.raises(ProcessFailed) as caught:
        asyncio.run(kept.keep())
    assert str(caught.value) == f"worker cpu0 cannot start: {reason}"
    assert said == []


def test_a_process_killed_at_its_start_has_more_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(managed_process, "STARTS", 3)
    said: list[str] = []
    kept = make("import os; os.kill(os.getpid(), 9)", said, is_ready=never)
    with pytest.raises(ProcessFailed, match="cannot start: ended by SIGKILL"):
        asyncio.run(kept.keep())
    assert len(said) == 2


def only_once() -> Callable[[int], Awaitable[bool]]:
    """Say of the first process that it is ready, and of no later one."""
    asked: list[int] = []

    async def is_ready(pid: int) -> bool:
        asked.append(pid)
        return len(asked) == 1

    return is_ready


def test_a_process_that_cannot_be_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(managed_process, "STARTS", 3)
    said: list[str] = []
    kept = make("import time; time.sleep(0.2); raise SystemExit(9)", said, is_ready=only_once())
    with pytest.raises(ProcessFailed, match="cannot start: ended with status 9"):
        asyncio.run(kept.keep())
    assert sum("starting again" in line for line in said) == 3  # once from being ready, two tries


def test_a_refusal_of_settings_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 0.01)
    said: list[str] = []
    program = f"import time; time.sleep(0.2); raise SystemExit({os.EX_CONFIG})"
    kept = make(program, said, is_ready=only_once())
    with pytest.raises(ProcessFailed, match=f"ended with status {os.EX_CONFIG}"):
        asyncio.run(kept.keep())
    assert sum("starting again" in line for line in said) == 1


def taken() -> None:
    raise ProcessFailed("port 5555 is taken")


def test_a_missing_program_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed_process, "FIRST_PAUSE", 0.01)
    said: list[str] = []
    with pytest.raises(ProcessFailed, match=r"^worker cpu0 cannot start: port 5555 is taken$"):
        asyncio.run(make("", said, prepare=taken).keep())
    assert said == []
    # Of what has run before, somebody else's use of the port may be over soon.
    free = iter([True, False, False, True])
    kept = make(
        "import time; time.sleep(0.2)", said, prepare=lambda: None if next(free, True) else taken()
    )
    asyncio.run(keep_until(kept, lambda: said.count("worker cpu0: ready") == 2))
    assert [line.partition(",")[0] for line in said[1:4]] == [
        "worker cpu0: ended with status 0",
        "worker cpu0: port 5555 is taken",
        "worker cpu0: port 5555 is taken",
    ]


def test_a_killed_process_is_not_restarted() -> None:
    said: list[str] = []
    kept = make("import time; time.sleep(60)", said)

    async def run() -> None:
        task = asyncio.create_task(kept.keep())
        await kept.ready.wait()
        kept.kill()
        await asyncio.wait_for(task, 20)

    asyncio.run(run())
    assert said == ["worker cpu0: ready"]


def test_important_lines_are_shown() -> None:
    said: list[str] = []
    program = (
        "import sys, time\n"
        "print('x' * 100_000); print('news'); print('old'); print(flush=True)\n"
        "sys.stdout.buffer.write(b'\\xff news\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    asyncio.run(keep_until(make(program, said), lambda: len(said) >= 3))
    assert said == ["worker cpu0: ready", "cpu0 news", "cpu0 � news"]


def test_standard_input_and_environment(tmp_path: Path) -> None:
    said: list[str] = []
    program = "import os, sys, time; print('news', sys.stdin.read(), os.environ['X'], flush=True)"
    kept = make(program + "; time.sleep(60)", said, stdin=b"secret", environ={"X": "y"})
    asyncio.run(keep_until(kept, lambda: len(said) >= 2))
    assert said[1] == "cpu0 news secret y"


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    said: list[str] = []
    program = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); "
        "print('news', os.getpid(), flush=True); time.sleep(60)"
    )
    kept = make(program, said, stop_within=0.3)
    asyncio.run(keep_until(kept, lambda: len(said) >= 2))
    pid = said[1].split()[-1]
    assert not Path(f"/proc/{pid}").exists()
