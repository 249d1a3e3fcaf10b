"""Ids, atomic writes, locks, and errors of the directory of files and batches."""

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from bertq_gateway.errors import Refused

log = logging.getLogger("bertq.gateway")

#: Seconds that a file is stored, unless its owner sets another time; OpenAI's default.
DEFAULT_EXPIRY_SECONDS = 30 * 24 * 3600

#: Bounds of this time, as in OpenAI's API.
MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = 3600, DEFAULT_EXPIRY_SECONDS

#: The name of a file's data in the directory of the file.
CONTENT = "content"

#: The names of directories of uploads.
UPLOAD = re.compile("[0-9a-f]{32}")

#: Seconds without a write after which an upload, or a batch without a record, is removed.
_ABANDONED_SECONDS = 3600

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

#: Errors of file systems that have no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_LOCK = ".lock"

#: Bytes that are written to check whether an outage of the disk is over.
_PROBE_BYTES = 4 * 1024**2


def new_id(prefix: str) -> str:
    """Return a new id. The order of ids is that of their creation, and nobody can guess one."""
    return f"{prefix}{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"


def id_pattern(prefix: str) -> re.Pattern[str]:
    """Return the pattern of ids; no other text may become a part of a path."""
    return re.compile(f"{re.escape(prefix)}[0-9a-f]{{32}}")


def now() -> int:
    """Return the current time in Unix seconds, as in OpenAI's objects."""
    return int(time.time())


def save(path: Path, document: BaseModel) -> None:
    """Write a document atomically: a reader sees the complete old or new one.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(document.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make sure that the names in a directory outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not every file system can do it
            raise
    finally:
        os.close(descriptor)


def subdirectories(directory: Path, pattern: re.Pattern[str]) -> list[str]:
    """Return the names of subdirectories in ascending order; none if there is no directory.

    Other programs may leave files in it, such as ``.DS_Store`` or ``.nfs0001``.

    Args:
        directory: the directory.
        pattern: pattern of the names.
    """
    try:
        with os.scandir(directory) as entries:
            return sorted(
                entry.name for entry in entries if pattern.fullmatch(entry.name) and entry.is_dir()
            )
    except FileNotFoundError:
        return []


def make_directory(directory: Path, *, exist_ok: bool = False) -> None:
    """Create a directory, and those above it, for this user only."""
    if not directory.parent.is_dir():
        make_directory(directory.parent, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=exist_ok)


def remove_tree(directory: Path) -> None:
    """Remove a directory with everything in it, as far as possible."""
    shutil.rmtree(directory, ignore_errors=True)


def is_abandoned(*paths: Path) -> bool:
    """Return whether none of these has been changed for an hour; they may not exist."""
    return max(map(_modified, paths)) < time.time() - _ABANDONED_SECONDS


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that the disk, or the quota of the user, is full."""
    return error.errno in _DISK_FULL


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Wait until no other thread or gateway has the lock of a directory, and hold it."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


class StorageLog:
    """Logs the outages of a directory: a line at the start of one, and a line at its end.

    Args:
        directory: the directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_outage = False
        self._has_failed = False  # since the last check

    def failed(self, error: OSError) -> Refused:
        """Note that the directory cannot be used, and return the error for callers."""
        reason = error.strerror or type(error).__name__
        if not self._is_outage:
            place = f" ({error.filename})" if error.filename else ""
            log.error("--batch-dir %s cannot be used: %s%s", self._directory, reason, place)
        self._is_outage = self._has_failed = True
        if is_disk_full(error):
            return Refused(
                507, "the gateway's disk is full: delete files, or try again later", "storage_full"
            )
        return Refused(
            503,
            f"the gateway cannot use its directory for files and batches: {reason}",
            "storage_unavailable",
        )

    def check(self) -> None:
        """Check whether an outage is over: nothing fails any more, and data can be written."""
        has_failed, self._has_failed = self._has_failed, False
        if has_failed or not self._is_outage:
            return
        probe = self._directory / f".{secrets.token_hex(8)}"
        try:
            with probe.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            return
        finally:
            with suppress(OSError):
                probe.unlink()
        self._is_outage = False
        log.warning("--batch-dir %s can be used again", self._directory)
