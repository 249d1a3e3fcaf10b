"""Saves the progress of a batch: its output, its record, and at the end its files."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bertq_gateway.batches import output as outputs
from bertq_gateway.batches import storage
from bertq_gateway.batches.encoding import RunInThread
from bertq_gateway.batches.files import PREFIX as FILE_PREFIX
from bertq_gateway.batches.lease import BatchLease, LeaseLost
from bertq_gateway.batches.objects import BatchRecord, Ended
from bertq_gateway.batches.output import BatchOutput
from bertq_gateway.batches.settings import retry_pauses
from bertq_gateway.batches.storage import StorageLog
from bertq_gateway.batches.store import BatchStore


class BatchSaver:
    """Writes everything about a batch, while this gateway has its lease.

    Args:
        record: the batch.
        store: the batches of its key.
        lease: the lease of the batch.
        holder: the name of this gateway.
        run: runs a function on another thread; it is not interrupted.
        storage_log: logs that the disk is full.
    """

    def __init__(
        self,
        record: BatchRecord,
        store: BatchStore,
        lease: BatchLease,
        holder: str,
        run: RunInThread,
        storage_log: StorageLog,
    ) -> None:
        self._record = record
        self._store = store
        self._lease = lease
        self._holder = holder
        self._run = run
        self._storage_log = storage_log
        self._directory = store.directory(record.batch.id)
        self._saved_at = time.monotonic()

    @property
    def age_seconds(self) -> float:
        """Seconds since the batch was saved."""
        return time.monotonic() - self._saved_at

    async def take_over(self) -> None:
        """Save that this gateway runs the batch.

        Raises:
            OSError: the directory cannot be used.
        """
        self._record.holder = self._holder
        await self.write(self._store.save, self._record)

    async def open_output(self) -> BatchOutput:
        """Return the output, at the checkpoint.

        Raises:
            LeaseLost: another gateway runs the batch.
            OSError: the directory cannot be used.
        """
        output: BatchOutput = await self.write(BatchOutput, self._directory, self._record)
        await self.save(output)
        if output.source is not None:
            await self._run(storage.remove_tree, output.source)
        return output

    async def save(self, output: BatchOutput | None = None) -> None:
        """Save the record, after the output that it describes.

        Raises:
            LeaseLost: another gateway runs the batch.
            OSError: the directory cannot be used.
        """
        if output is not None:
            await self.write(output.sync)
        await self.write(self._save_if_held)
        self._saved_at = time.monotonic()

    def _save_if_held(self) -> None:
        found = self._store.record(self._record.batch.id)
        if found is None or found.holder != self._holder:
            raise LeaseLost
        self._store.save(self._record)

    async def begin_ending(self, ending: Ended, output: BatchOutput) -> None:
        """Save how the batch ends; after that, only its files have to be made.

        Raises:
            LeaseLost, OSError: as for ``save``.
        """
        self._record.output_file_id = storage.new_id(FILE_PREFIX)
        self._record.error_file_id = storage.new_id(FILE_PREFIX)
        await self.write(output.sync)
        await self.write(self._save_ending, ending)

    def _save_ending(self, ending: Ended) -> None:
        record, batch = self._record, self._record.batch
        with self._store.lock():  # nobody cancels the batch
            if ending == "completed" and self._store.cancelled_at(batch.id):
                ending = "cancelled"
            if ending in ("completed", "expired"):
                batch.status, batch.finalizing_at = "finalizing", storage.now()
            record.ending = ending
            self._save_if_held()

    async def finish(self) -> None:
        """Make files of the output, and end the batch.

        Raises:
            LeaseLost, OSError: as for ``save``.
        """
        record, batch = self._record, self._record.batch
        checkpoint = record.checkpoint
        assert record.ending is not None
        if checkpoint.output_bytes:
            await self.write(self._publish, outputs.ANSWERS, record.output_file_id)
            batch.output_file_id = record.output_file_id
        if checkpoint.error_bytes:
            await self.write(self._publish, outputs.ERRORS, record.error_file_id)
            batch.error_file_id = record.error_file_id
        batch.cancelling_at = await self._run(self._store.cancelled_at, batch.id)
        batch.status = record.ending
        setattr(batch, f"{record.ending}_at", storage.now())
        await self.save()
        await self._run(outputs.remove_parts, self._directory)

    def _publish(self, name: str, file_id: str) -> None:
        """Make a file of a part of the output, unless a gateway did so before it died."""
        directory = self._directory / self._record.checkpoint.directory / name
        if directory.is_dir():
            self._store.files.publish(
                directory,
                file_id,
                f"{self._record.batch.id}_{name}.jsonl",
                "batch_output",
                self._record.output_expiry_seconds,
            )

    async def write(self, write: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that writes, while the lease is held; wait if the disk is full.

        Raises:
            OSError: the directory cannot be used.
        """
        pauses_seconds = retry_pauses()
        while True:
            await self._lease.wait_until_held()
            try:
                return await self._run(write, *arguments)
            except OSError as error:
                if not storage.is_disk_full(error):
                    raise
                self._storage_log.failed(error)
            await asyncio.sleep(next(pauses_seconds))
