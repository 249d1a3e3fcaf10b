"""End a process at each step of a run in turn, resume, and compare with a run without faults.

``python -m tests.bulk.crashes URL DIRECTORY SUFFIX`` prints the number of steps. It is a separate
program because it forks, so it must not have threads.
"""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertq import BertClient
from bertq_client.context import ClientTimings
from bertq_client.files import manifest, partial_file

LINES = ["", *(f"sentence {number}" for number in range(90)), "", "", "last", ""]


class Steps:
    """``os`` for a run: at the N-th call that changes the disk the process ends.

    Args:
        end: N, or None to only count.
    """

    def __init__(self, end: int | None) -> None:
        self.end = end
        self.taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def step(self, half: Callable[[], object] = lambda: None) -> None:
        """End here if this is step N, in the middle of it."""
        self.taken += 1
        if self.taken == self.end:
            half()
            os._exit(7)

    def write(self, descriptor: int, data: memoryview) -> int:
        self.step(lambda: os.write(descriptor, data[: len(data) // 2]))
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.step()
        os.fsync(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:
        self.step()
        os.ftruncate(descriptor, size)


def arrange(steps: Steps) -> None:
    """Make runs of this process use ``steps``."""
    partial_file.os = manifest.os = steps  # type: ignore[attr-defined, assignment]
    replace, unlink = Path.replace, Path.unlink

    def counted_replace(self: Path, target: Any) -> Path:
        steps.step()
        return replace(self, target)

    def counted_unlink(self: Path, missing_ok: bool = False) -> None:
        steps.step()
        unlink(self, missing_ok)

    Path.replace, Path.unlink = counted_replace, counted_unlink  # type: ignore[assignment, method-assign]


def child(url: str, source: Path, output: Path, end: int | None, **options: Any) -> int:
    """Run in a forked process; return its exit status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        steps = Steps(end)
        arrange(steps)
        timings = ClientTimings(commit_interval_seconds=0)
        with BertClient(redis_url=url, timeout=20, _timings=timings) as client:
            made = client.encode_file(source, output, blank="zero", batch_size=20, **options)
        assert made.rows == len(LINES)
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"end {end}: {error!r}\n")
        os._exit(1)


def check(output: Path, whole: bytes, why: object) -> None:
    """Check that only the output and its manifest exist, with the expected content."""
    assert output.read_bytes() == whole, why
    left = {path.name for path in output.parent.glob(f"{output.name}*")}
    assert left == {output.name, f"{output.name}.json"}, (why, left)
    for path in output.parent.glob(f"{output.name}*"):
        path.unlink()


def main(url: str, directory: Path, suffix: str) -> None:
    """Go through all steps."""
    source, output = directory / "c.txt", directory / f"v{suffix}"
    source.write_text("".join(f"{line}\n" for line in LINES))
    assert child(url, source, output, None) == 0
    whole = output.read_bytes()
    check(output, whole, "without faults")
    count = 0
    while True:
        count += 1
        status = child(url, source, output, count)
        if status == 0:
            check(output, whole, count)
            break
        assert status == 7, (count, status)
        assert not output.exists() or output.read_bytes() == whole, count
        assert child(url, source, output, None, resume=True) == 0, count
        check(output, whole, count)
    chosen = random.Random(7)
    for _ in range(20):
        # Several runs that are ended, of which the first replaces an existing file.
        output.write_bytes(b"old")
        ends = [chosen.randrange(1, 20) for _ in range(3)]
        options: dict[str, Any] = {"overwrite": True}
        for end in ends:
            if child(url, source, output, end, **options) == 0:
                break
            assert output.read_bytes() in (b"old", whole), ends
            has_begun = output.with_name(f"{output.name}.json").exists()
            options = {"resume": True} if has_begun else {"overwrite": True}
        if output.read_bytes() == b"old":
            assert child(url, source, output, None, **options) == 0, ends
        elif output.with_name(f"{output.name}.part").exists():
            assert child(url, source, output, None, resume=True) == 0, ends
        check(output, whole, ends)
    sys.stdout.write(f"steps {count - 1}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
