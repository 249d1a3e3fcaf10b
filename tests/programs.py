"""Programs that tests run as processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import clean_environ


@contextmanager
def running(url: str, log: Path, *command: str, **variables: str) -> Iterator[None]:
    """Run a Python program that uses the Redis at ``url`` and writes its output to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=log.parent,
            env=clean_environ() | {"BERTQ_REDIS_URL": url, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(60)
