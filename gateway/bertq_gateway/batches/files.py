"""The files of one API key, each in a directory of its own."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from pydantic import Field, ValidationError

from bertq_gateway.batches import storage
from bertq_gateway.batches.objects import Identified
from bertq_gateway.batches.storage import CONTENT
from bertq_gateway.errors import Refused

PREFIX = "file-"

_ID = storage.id_pattern(PREFIX)

#: Maximum number of files of a key.
MAX_FILES = 10_000

#: Bytes of an upload after which the quota is checked again: several uploads may run.
_QUOTA_CHECK_BYTES = 16 * 1024**2

_RECORD = "object.json"

Purpose = Literal["batch", "batch_output"]


class FileObject(Identified):
    """A file, as in OpenAI's API."""

    object: Literal["file"] = "file"
    bytes: int = Field(description="Its size.")
    created_at: int
    expires_at: int = Field(description="When it is deleted.")
    filename: str
    purpose: Purpose = Field(description="batch: uploaded; batch_output: made by a batch.")
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileStore:
    """The files of one API key.

    Args:
        root: the directory of the key.
        max_file_bytes: maximum size of an upload.
        quota_bytes: maximum size of all files.
    """

    def __init__(self, root: Path, max_file_bytes: int, quota_bytes: int) -> None:
        self._root = root
        self._files = root / "files"
        self._uploads = root / "uploads"
        self._max_file_bytes = max_file_bytes
        self._quota_bytes = quota_bytes

    # -- reading

    def find(self, file_id: str) -> FileObject:
        """Return a file.

        Raises:
            Refused: there is no such file, or it has expired.
        """
        found = self._read(file_id) if _ID.fullmatch(file_id) else None
        if found is None:
            raise _no_such_file()
        return found

    def stat_content(self, file_id: str) -> os.stat_result:
        """Return the status of a file's data, which can be read.

        Raises:
            Refused: there is no such file, or it has expired.
            OSError: it cannot be read.
        """
        self.find(file_id)
        try:
            with self.path(file_id).open("rb") as file:
                return os.fstat(file.fileno())
        except FileNotFoundError:  # it was deleted just now
            raise _no_such_file() from None

    def path(self, file_id: str) -> Path:
        """Return the path of a file's data; the id must be that of a file."""
        return self._files / file_id / CONTENT

    def page(
        self, after: str | None, limit: int, purpose: str | None, is_ascending: bool
    ) -> tuple[list[FileObject], bool]:
        """Return some files in the order of their creation, and whether there are more."""
        ids = self._ids()
        if not is_ascending:
            ids.reverse()
        if after is not None:
            ids = [name for name in ids if (name > after if is_ascending else name < after)]
        found: list[FileObject] = []
        for file_id in ids:
            file = self._read(file_id)
            if file is None or purpose not in (None, file.purpose):
                continue
            if len(found) == limit:
                return found, True
            found.append(file)
        return found, False

    def _read(self, file_id: str) -> FileObject | None:
        try:
            found = FileObject.model_validate_json((self._files / file_id / _RECORD).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        return found if found.expires_at > time.time() else None

    def _ids(self) -> list[str]:
        return storage.subdirectories(self._files, _ID)

    def check_quota(self, more_bytes: int = 0) -> int:
        """Check that there may be more files, and return how many bytes they may have.

        Args:
            more_bytes: bytes that will be written.

        Raises:
            Refused: the quota is exceeded.
        """
        patterns = (f"*/*/{CONTENT}", f"*/*/*/*/{CONTENT}")  # of files, and of running batches
        found = [path for pattern in patterns for path in self._root.glob(pattern)]
        size = more_bytes + sum(map(_size, found))
        if size > self._quota_bytes:
            raise Refused(
                413,
                f"all files together would have {size} bytes, and may have {self._quota_bytes}: "
                "delete files",
                "quota_exceeded",
            )
        if len(self._ids()) >= MAX_FILES:
            raise Refused(413, f"there are {MAX_FILES} files: delete some", "quota_exceeded")
        return self._quota_bytes - size

    # -- writing

    def begin_upload(self) -> "Upload":
        """Return a file to write to.

        Raises:
            Refused: the quota is exceeded.
            OSError: it cannot be created.
        """
        self.check_quota()
        directory = self._uploads / secrets.token_hex(16)
        storage.make_directory(directory)
        try:
            return Upload(self, directory, self._max_file_bytes)
        except BaseException:
            storage.remove_tree(directory)
            raise

    def publish(
        self,
        directory: Path,
        file_id: str,
        filename: str,
        purpose: Purpose,
        expiry_seconds: int,
    ) -> FileObject:
        """Make a file of a directory with its data.

        Raises:
            OSError: it cannot be written.
        """
        created = storage.now()
        file = FileObject(
            id=file_id,
            bytes=_size(directory / CONTENT),
            created_at=created,
            expires_at=created + expiry_seconds,
            filename=filename,
            purpose=purpose,
        )
        storage.save(directory / _RECORD, file)
        storage.make_directory(self._files, exist_ok=True)
        directory.rename(self._files / file_id)
        storage.sync_directory(self._files)
        return file

    def delete(self, file_id: str) -> None:
        """Delete a file; the id must be that of a file."""
        # A reader sees the complete file or none.
        storage.make_directory(self._uploads, exist_ok=True)
        directory = self._uploads / secrets.token_hex(16)
        with suppress(FileNotFoundError):
            (self._files / file_id).rename(directory)
            storage.sync_directory(self._files)
        storage.remove_tree(directory)

    def remove_expired(self, used_ids: set[str]) -> None:
        """Remove expired files, but for those that batches use, and abandoned uploads."""
        for file_id in set(self._ids()) - used_ids:
            if self._read(file_id) is None:
                self.delete(file_id)
        for name in storage.subdirectories(self._uploads, storage.UPLOAD):
            directory = self._uploads / name
            if storage.is_abandoned(directory, directory / CONTENT):
                storage.remove_tree(directory)


class Upload:
    """A file that is being uploaded. Close it with ``finish`` or ``discard``.

    Args:
        store: the files that it will be one of.
        directory: its directory.
        max_bytes: maximum size.

    Attributes:
        size: bytes that were written.
    """

    def __init__(self, store: FileStore, directory: Path, max_bytes: int) -> None:
        self.size = 0
        self._store = store
        self._directory = directory
        self._max_bytes = max_bytes
        self._checked_at = 0
        self._file: IO[bytes] = (directory / CONTENT).open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append data.

        Raises:
            Refused: the file is too large, or the quota is exceeded.
            OSError: it cannot be written.
        """
        self.size += len(data)
        if self.size > self._max_bytes:
            raise too_large(self._max_bytes)
        if self.size >= self._checked_at + _QUOTA_CHECK_BYTES:
            self._store.check_quota(len(data))
            self._checked_at = self.size
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self, filename: str, expiry_seconds: int) -> FileObject:
        """Complete the file and return it.

        Raises:
            Refused: the quota is exceeded.
            OSError: it cannot be written.
        """
        self._store.check_quota()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._store.publish(
            self._directory, storage.new_id(PREFIX), filename, "batch", expiry_seconds
        )

    def discard(self) -> None:
        """Remove what was written, unless the file is complete."""
        self._file.close()
        storage.remove_tree(self._directory)


def too_large(max_bytes: int) -> Refused:
    """Return the error for a file that is longer than allowed."""
    return Refused(
        413,
        f"the file is longer than {max_bytes} bytes, the gateway's --batch-max-file",
        "file_too_large",
        "file",
    )


def _no_such_file() -> Refused:
    return Refused(404, "no such file", "file_not_found", "file_id")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
