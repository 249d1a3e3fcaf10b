"""The partial file of an output, written by one process, and not readable as a complete file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertq.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: no lock against a second process
    fcntl = None  # type: ignore[assignment]


class PartialFile:
    """An open file with a lock, which is released when the process ends.

    Raises:
        OutputError: the file cannot be opened, or another process has locked it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explain_errors(path):
            self._fd = _open(path)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        """Truncate the file to ``size`` bytes, and continue writing there."""
        os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Write at the current position."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def write_header(self, data: bytes) -> None:
        """Overwrite the beginning, then return to the end."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.write(data)
        os.lseek(self._fd, 0, os.SEEK_END)

    def sync(self) -> None:
        """Flush the file to disk, so that it survives a power loss."""
        os.fsync(self._fd)

    def rename(self, path: Path) -> None:
        """Rename the file to ``path``, replacing any file there."""
        if fcntl is None:
            self.close()  # Windows cannot rename an open file
        self._path.replace(path)

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink()

    def close(self) -> None:
        """Close the file, which releases the lock."""
        with suppress(OSError):
            os.close(self._fd)


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into an ``OutputError`` that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to disk, if the system supports it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    while True:
        binary: int = getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | binary, 0o666)
        try:
            _lock(descriptor, path)
            # Another process may have finished and renamed the file before this one got the lock.
            # In that case this is the output, and the loop opens a new file.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"{path} is being written by another process") from None
    except OSError:
        return  # a file system without locks
