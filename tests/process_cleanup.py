"""End the processes of a test run that was ended by a signal.

Fixtures end their processes, but they do not run when pytest is killed. Therefore another process
waits for the end of pytest, and then ends all processes that the run has started, directly or not.

It finds them by a mark that every process inherits: an unusual limit of POSIX message queues, which
nothing here uses. An environment variable is no such mark, because Redis overwrites its environment
with its process title. Linux only.
"""

import os
import random
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_LIMIT = "Max msgqueue size"

#: Seconds for processes to end after SIGTERM, before they are killed.
_GRACE_SECONDS = 5.0


def end_processes_with_this_one() -> None:
    """Mark this process, and have all that inherit the mark end after it."""
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
    largest = 800_000 if hard == resource.RLIM_INFINITY else hard
    mark = random.SystemRandom().randint(0, largest)
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (mark, hard))
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-S", "-E", __file__, str(os.getpid()), str(mark)],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)],
        setsid=True,
    )


def marked_processes(mark: int) -> list[int]:
    """Return the ids of the other processes that have a mark."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            limits = (directory / "limits").read_text().splitlines()
            (limit,) = (line for line in limits if line.startswith(_LIMIT))
            # The command line is no such sign: it is empty in the middle of an exec, too.
            has_ended = (directory / "stat").read_text().rpartition(")")[2].split()[0] in "XZ"
            if limit.removeprefix(_LIMIT).split()[0] == str(mark) and not has_ended:
                found.append(int(directory.name))
    return [pid for pid in found if pid != os.getpid()]


def main(parent: int, mark: int) -> None:
    """Wait for the end of ``parent``, and then end all marked processes."""
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(parent)], [], [])
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _GRACE_SECONDS
        while (pids := marked_processes(mark)) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
