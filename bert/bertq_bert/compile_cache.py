"""Stores the functions that XLA compiles on disk, for the next start of a worker.

TensorFlow can write compiled functions to a directory, and read them at the next start. It checks
neither the contents nor the free space, it never removes a file, and a damaged file makes a batch
fail. So each process has a separate directory for TensorFlow, with copies of the stored files that
have the right digest. Files that TensorFlow adds are stored with their digests in their names.
Importing this module does not import TensorFlow.
"""

import atexit
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("bertq.worker")

#: Maximum bytes of the stored files of a directory. The least recently used are removed first.
MAX_BYTES = 2**30

_FLAGS = "TF_XLA_FLAGS"
_ENTRIES, _RUNS, _LOCK = "entries", "runs", "lock"
_DIGEST_SIZE = 64

#: Time after which a directory without a lock was left by a process that ended while it started.
_START_SECONDS = 600.0


class CompileCache:
    """The compiled functions of one process, and the stored functions.

    Errors of the disk are only logged: the functions are compiled again.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        """Create a directory for this process.

        Args:
            directory: the directory of the cache, which any number of processes may share.
            max_bytes: maximum bytes of the stored files.

        Raises:
            OSError: the process cannot write to the directory.
        """
        self._root = directory
        self._max_bytes = max_bytes
        runs = directory / _RUNS
        runs.mkdir(parents=True, exist_ok=True)
        _remove_ended(runs)
        self._run = Path(tempfile.mkdtemp(dir=runs))
        unlocked = self._run / f".{_LOCK}"
        self._lock = unlocked.open("w")  # locked until the process ends
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self._run / _LOCK)
        self._known: set[str] = set()
        self._entries: Path | None = None
        self._mutex = threading.Lock()

    def enable(self, environ: MutableMapping[str, str]) -> None:
        """Make TensorFlow use the cache until the process ends.

        Call this before the import of TensorFlow.

        Args:
            environ: the environment of the process; its ``TF_XLA_FLAGS`` are extended.
        """
        atexit.register(self.close)
        given = environ.get(_FLAGS, "")
        flags = (
            f"--tf_xla_persistent_cache_directory={self._run} "
            "--tf_xla_persistent_cache_device_types=CPU,GPU"
        )
        environ[_FLAGS] = f"{given} {flags}".strip()

    def load(self, **key: Any) -> int:
        """Copy the stored functions of a key to TensorFlow's directory, and return their number.

        Args:
            key: everything except the operations that a compiled function depends on: versions,
                device.
        """
        text = json.dumps(key, sort_keys=True)
        count = 0
        with self._mutex, log_errors(self._root):
            self._entries = self._root / _ENTRIES / hashlib.sha256(text.encode()).hexdigest()[:32]
            self._entries.mkdir(parents=True, exist_ok=True)
            for stored in sorted(self._entries.iterdir()):
                digest, _, name = stored.name.partition(".")
                if len(digest) != _DIGEST_SIZE or not name:
                    continue
                if _digest(stored) != digest:
                    log.warning("removed %s from the compile cache: it is damaged", stored)
                    stored.unlink()
                    continue
                shutil.copyfile(stored, self._run / name)
                os.utime(stored)
                self._known.add(name)
                count += 1
            log.info("the compile cache %s has %d functions for this worker", self._root, count)
        return count

    def store(self) -> None:
        """Store the functions that TensorFlow has added since the last call."""
        with self._mutex, log_errors(self._root):
            if self._entries is None:
                return
            for made in sorted(self._run.glob("*.pb")):
                if made.name in self._known:
                    continue
                self._known.add(made.name)
                stored = self._entries / f"{_digest(made)}.{made.name}"
                scratch = self._entries / f".{self._run.name}"
                try:
                    shutil.copyfile(made, scratch)
                    scratch.replace(stored)
                    for other in self._entries.glob(f"*.{made.name}"):
                        if other != stored:  # another process has compiled the same function
                            other.unlink(missing_ok=True)
                finally:
                    scratch.unlink(missing_ok=True)
            self._remove_oldest()

    def close(self) -> None:
        """Remove the directory of this process."""
        shutil.rmtree(self._run, ignore_errors=True)
        self._lock.close()

    def _remove_oldest(self) -> None:
        found = []
        for stored in (self._root / _ENTRIES).glob("*/*"):
            with suppress(FileNotFoundError):  # another process has removed it
                status = stored.stat()
                found.append((status.st_mtime, status.st_size, stored))
        total = sum(size for _, size, _ in found)
        for _, size, stored in sorted(found):
            if total <= self._max_bytes:
                return
            stored.unlink(missing_ok=True)
            total -= size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_ended(runs: Path) -> None:
    """Remove the directories of processes that have ended without removing them."""
    for run in runs.iterdir():
        with suppress(OSError):  # the process is running, or another one has removed the directory
            lock = run / _LOCK
            if lock.exists():
                with lock.open() as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(run, ignore_errors=True)
            elif time.time() - run.stat().st_mtime > _START_SECONDS:
                shutil.rmtree(run, ignore_errors=True)


@contextmanager
def log_errors(root: Path) -> Iterator[None]:
    """Log an error of the disk instead of raising it."""
    try:
        yield
    except OSError as error:
        log.warning(
            "the compile cache %s cannot be used (%s); functions are compiled again at each start",
            root, error.strerror or error,
        )  # fmt: skip
