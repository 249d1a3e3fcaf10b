"""The file that grows: one process writes it, and nobody takes it for a whole one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertq.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: there nothing keeps a second process away
    fcntl = None  # type: ignore[assignment]


class PartialFile:
    """An open file with a lock, which ends with the process.

    Raises:
        OutputError: it cannot be opened, or another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            self._fd = _open(path)

    @property
    def size(self) -> int:
        """Bytes that are in it."""
        return os.fstat(self._fd).st_size

    def cut(self, size: int) -> None:
        """Have it end after so many bytes, and go on writing there."""
        os.ftruncate(self._fd, size)
        os.lseek(self._fd, size, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Write at the end."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def write_head(self, data: bytes) -> None:
        """Write over the beginning."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.write(data)
        os.lseek(self._fd, 0, os.SEEK_END)

    def sync(self) -> None:
        """Have what was written outlive a loss of power."""
        os.fsync(self._fd)

    def become(self, path: Path) -> None:
        """Take the place of the output."""
        if fcntl is None:
            self.close()  # Windows renames no open file
        self._path.replace(path)

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            os.close(self._fd)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the system into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def sync_directory(path: Path) -> None:
    """Have the names in a directory outlive a loss of power, where the system can do so."""
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
            # Whoever had the lock may have finished: then this is the output, under its new name.
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
