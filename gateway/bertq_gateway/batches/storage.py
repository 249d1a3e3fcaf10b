"""Ids, atomic writes, and errors of a full disk, for files and batches."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from bertq_gateway.errors import Refused

#: Seconds that a file is stored, unless its owner sets another time; OpenAI's default.
DEFAULT_EXPIRY_SECONDS = 30 * 24 * 3600

#: Bounds of this time, as in OpenAI's API.
MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = 3600, DEFAULT_EXPIRY_SECONDS

#: The name of a file's data in the directory of the file.
CONTENT = "content"

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def new_id(prefix: str) -> str:
    """Return a new id. The order of ids is that of their creation, and nobody can guess one."""
    return f"{prefix}{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"


def is_id(text: str, prefix: str) -> bool:
    """Return whether a text is an id; no other text may become a part of a path."""
    return re.fullmatch(f"{re.escape(prefix)}[0-9a-f]{{32}}", text) is not None


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


def names(directory: Path) -> list[str]:
    """Return the names in a directory in ascending order; none if there is no directory."""
    try:
        return sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []


def remove_tree(directory: Path) -> None:
    """Remove a directory with everything in it, as far as possible."""
    shutil.rmtree(directory, ignore_errors=True)


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that the disk, or the quota of the user, is full."""
    return error.errno in _DISK_FULL


@contextmanager
def refuse_if_full() -> Iterator[None]:
    """Refuse the request if the disk is full.

    Raises:
        Refused: it is full.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise Refused(
            507, "the gateway's disk is full: delete files, or try again later", "storage_full"
        ) from None
