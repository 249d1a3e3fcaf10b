"""The batches of one API key, each in a directory of its own."""

import time
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from bertq_gateway.batches import storage
from bertq_gateway.batches.files import FileStore
from bertq_gateway.batches.objects import ENDED, ENDPOINT, BatchObject, BatchRecord
from bertq_gateway.batches.settings import BatchSettings
from bertq_gateway.errors import Refused

PREFIX = "batch_"

_ID = storage.id_pattern(PREFIX)

#: Maximum number of batches of a key that have not ended.
MAX_OPEN_BATCHES = 100

#: Seconds that a batch is listed after it was created.
_LISTED_SECONDS = 60 * 24 * 3600

_RECORD = "batch.json"

#: A file whose existence cancels a batch: only the gateway that runs it writes its record.
_CANCEL_MARKER = "cancel"


class BatchStore:
    """The files and batches of one API key.

    Args:
        root: the directory of the key.
        settings: the limits.

    Attributes:
        files: the files.
    """

    def __init__(self, root: Path, settings: BatchSettings) -> None:
        self._root = root
        self._batches = root / "batches"
        self.files = FileStore(root, settings.max_file_bytes, settings.quota_bytes)

    def create(
        self,
        input_file_id: str,
        completion_window: str,
        window_seconds: int,
        output_expiry_seconds: int,
        metadata: dict[str, str] | None,
    ) -> BatchObject:
        """Create a batch and return it; a gateway will run it.

        Raises:
            Refused: the file cannot be used, or there are too many batches.
            OSError: it cannot be written.
        """
        self.files.find(input_file_id)
        with self.lock():  # nobody deletes the file
            self._check_new(input_file_id)
            created = storage.now()
            batch = BatchObject(
                id=storage.new_id(PREFIX),
                endpoint=ENDPOINT,
                input_file_id=input_file_id,
                completion_window=completion_window,
                status="validating",
                created_at=created,
                expires_at=created + window_seconds,
                metadata=metadata,
            )
            record = BatchRecord(batch=batch, output_expiry_seconds=output_expiry_seconds)
            directory = self.directory(batch.id)
            storage.make_directory(directory)
            try:
                self.save(record)
                storage.sync_directory(self._batches)
            except BaseException:
                storage.remove_tree(directory)
                raise
            return batch

    def find(self, batch_id: str) -> BatchObject:
        """Return a batch.

        Raises:
            Refused: there is no such batch.
        """
        record = self.record(batch_id) if _ID.fullmatch(batch_id) else None
        if record is None:
            raise Refused(404, "no such batch", "batch_not_found", "batch_id")
        return self._shown(record)

    def page(self, after: str | None, limit: int) -> tuple[list[BatchObject], bool]:
        """Return some batches, the latest first, and whether there are more."""
        found: list[BatchObject] = []
        for batch_id in reversed(self.ids()):
            if after is not None and batch_id >= after:
                continue
            record = self.record(batch_id)
            if record is None:
                continue
            if len(found) == limit:
                return found, True
            found.append(self._shown(record))
        return found, False

    def cancel(self, batch_id: str) -> BatchObject:
        """Cancel a batch and return it; the gateway that runs it ends it.

        Raises:
            Refused: there is no such batch, or it ends already.
            OSError: it cannot be written.
        """
        self.find(batch_id)
        with self.lock():  # it does not end now
            record = self.record(batch_id)
            ending = None if record is None else record.ending
            if ending in (None, "cancelled") and self.find(batch_id).status not in ENDED:
                self._marker(batch_id).touch(mode=0o600)
                return self.find(batch_id)
        raise Refused(
            400, f"the batch is {self.find(batch_id).status} already", "batch_ended", "batch_id"
        )

    def cancelled_at(self, batch_id: str) -> int | None:
        """Return when a batch was cancelled; None if it was not."""
        try:
            return int(self._marker(batch_id).stat().st_mtime)
        except FileNotFoundError:
            return None

    def delete_file(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            Refused: there is no such file, or a batch uses it.
        """
        self.files.find(file_id)
        with self.lock():  # nobody creates a batch of it
            self.files.find(file_id)
            if file_id in self.used_file_ids():
                raise Refused(
                    400, "a batch reads the file: cancel the batch first", "file_in_use", "file_id"
                )
            self.files.delete(file_id)

    def _check_new(self, input_file_id: str) -> None:
        if self.files.find(input_file_id).purpose != "batch":
            raise Refused(
                422, "the file is the output of a batch: upload one", param="input_file_id"
            )
        self.files.check_quota()
        if sum(record.batch.status not in ENDED for record in self.records()) >= MAX_OPEN_BATCHES:
            raise Refused(
                429, f"{MAX_OPEN_BATCHES} batches have not ended: wait for them", "too_many_batches"
            )

    # -- for the gateway that runs a batch

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the key's directory."""
        return storage.lock(self._root)

    def directory(self, batch_id: str) -> Path:
        """Return the directory of a batch."""
        return self._batches / batch_id

    def ids(self) -> list[str]:
        """Return the ids of all batches, the oldest first."""
        return storage.subdirectories(self._batches, _ID)

    def record(self, batch_id: str) -> BatchRecord | None:
        """Return the record of a batch; None if there is none that can be read."""
        try:
            return BatchRecord.model_validate_json(
                (self.directory(batch_id) / _RECORD).read_bytes()
            )
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def records(self) -> list[BatchRecord]:
        """Return the records of all batches, the oldest first."""
        found = map(self.record, self.ids())
        return [record for record in found if record is not None]

    def save(self, record: BatchRecord) -> None:
        """Write the record of a batch.

        Raises:
            OSError: it cannot be written.
        """
        storage.save(self.directory(record.batch.id) / _RECORD, record)

    def used_file_ids(self) -> set[str]:
        """Return the ids of the files that batches read."""
        batches = [record.batch for record in self.records()]
        return {batch.input_file_id for batch in batches if batch.status not in ENDED}

    def remove_expired(self) -> None:
        """Remove what has expired."""
        self.files.remove_expired(self.used_file_ids())
        for record in self.records():
            batch = record.batch
            if batch.status in ENDED and batch.created_at < time.time() - _LISTED_SECONDS:
                storage.remove_tree(self.directory(batch.id))
        for directory in map(self.directory, self.ids()):
            if not (directory / _RECORD).exists() and storage.is_abandoned(directory):
                storage.remove_tree(directory)  # its creation was interrupted

    def _marker(self, batch_id: str) -> Path:
        return self.directory(batch_id) / _CANCEL_MARKER

    def _shown(self, record: BatchRecord) -> BatchObject:
        """Return a batch as its owner sees it."""
        batch = record.batch
        if batch.status not in ENDED and (cancelled_at := self.cancelled_at(batch.id)):
            batch.status, batch.cancelling_at = "cancelling", cancelled_at
        return batch
