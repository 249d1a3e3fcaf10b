"""The run of a batch, from its checkpoint to its end."""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from typing import IO, Any

from bertq.errors import BertqError
from bertq_gateway import errors
from bertq_gateway.batches import encoding, storage
from bertq_gateway.batches.encoding import BlockEncoder, LineAnswer, LineOutcome, RunInThread
from bertq_gateway.batches.lease import BatchLease
from bertq_gateway.batches.lines import FileCheck, LineReader, RequestLine
from bertq_gateway.batches.objects import BatchRecord, Ended, LineProblem, LineProblems
from bertq_gateway.batches.output import BatchOutput, ModelChanged
from bertq_gateway.batches.saving import BatchSaver
from bertq_gateway.batches.settings import BatchSettings, retry_pauses
from bertq_gateway.batches.storage import StorageLog
from bertq_gateway.batches.store import BatchStore
from bertq_gateway.errors import Refused
from bertq_gateway.models import Models
from bertq_gateway.state import State

#: Blocks that the workers have at the same time, so that none of them waits for the next one.
_BLOCKS_IN_FLIGHT = 4

#: Most bytes of the lines of a block; a longer line is a block by itself.
_MAX_BLOCK_BYTES = 8 * 1024**2

#: Seconds between two checks whether the batch is cancelled or has expired.
_CHECK_SECONDS = 1.0

#: Seconds without an answer after which another batch may run as well.
_STALLED_SECONDS = 300.0

#: Most bytes of output after which the quota is checked again.
_MAX_QUOTA_CHECK_BYTES = 64 * 1024**2

#: Lines of an expired batch that are written in one step.
_STEP_LINES = 1000


class _Stopped(Exception):
    """The batch ends before all lines are answered."""

    def __init__(self, ending: Ended, problems: Sequence[LineProblem] = ()) -> None:
        super().__init__(ending)
        self.ending = ending
        self.problems = list(problems)


class BatchRun:
    """The run of one batch in this gateway.

    Args:
        record: the batch.
        store: the batches of its key.
        settings: the settings.
        state: the state of the gateway.
        models: clients that wait for workers.
        lease: the lease of the batch, which this gateway has.
        holder: the name of this gateway.
        run: runs a function on another thread; it is not interrupted.
        storage_log: logs that the disk is full.
    """

    def __init__(
        self,
        record: BatchRecord,
        store: BatchStore,
        settings: BatchSettings,
        state: State,
        models: Models,
        lease: BatchLease,
        holder: str,
        run: RunInThread,
        storage_log: StorageLog,
    ) -> None:
        self._record = record
        self._batch = record.batch
        self._store = store
        self._settings = settings
        self._state = state
        self._models = models
        self._lease = lease
        self._run = run
        self._saver = BatchSaver(record, store, lease, holder, run, storage_log)
        self._quota_check_bytes = 0  # size of the output at which to check the quota
        self._progress_at = time.monotonic()

    @property
    def is_stalled(self) -> bool:
        """Whether it waits for workers, for Redis or for the disk."""
        return time.monotonic() - self._progress_at >= _STALLED_SECONDS

    async def execute(self) -> None:
        """Run the batch to its end.

        Cancelling the call, or an error, leaves the batch at its last checkpoint.

        Raises:
            LeaseLost: another gateway runs the batch.
            OSError: the directory cannot be used.
        """
        await _race(self._execute(), self._lease.renew())

    async def _execute(self) -> None:
        await self._saver.take_over()
        if self._record.ending is None:
            output = await self._saver.open_output()
            try:
                await self._answer(output)
            finally:
                output.close()
        await self._saver.finish()
        self._state.metrics.batch_ended(self._batch.status)

    async def _answer(self, output: BatchOutput) -> None:
        """Answer all lines, or as many as possible, and save how the batch ends."""
        ending: Ended = "completed"
        try:
            await _race(self._process(output), self._watch())
        except _Stopped as stopped:
            ending = stopped.ending
            if stopped.problems:
                self._batch.errors = LineProblems(data=stopped.problems)
        if ending == "expired" and self._batch.in_progress_at is not None:
            await self._write_expired(output)
        await self._saver.begin_ending(ending, output)

    async def _watch(self) -> None:
        """Wait until the batch is cancelled or has expired.

        Raises:
            _Stopped: it is.
        """
        while True:
            if await self._run(self._store.cancelled_at, self._batch.id):
                raise _Stopped("cancelled")
            if time.time() >= self._batch.expires_at:
                raise _Stopped("expired")
            await asyncio.sleep(min(_CHECK_SECONDS, self._settings.poll_seconds))

    # -- answering

    async def _process(self, output: BatchOutput) -> None:
        """Check the input, and answer its lines.

        Raises:
            _Stopped: the input is invalid, the quota is exceeded, or a model has changed.
        """
        await self._check_quota()
        try:
            if self._batch.in_progress_at is None:
                await self._check_input()
            path = self._store.files.path(self._batch.input_file_id)
            file: IO[bytes] = await self._run(path.open, "rb")
        except FileNotFoundError:
            problem = LineProblem(code="file_not_found", message="the input file was deleted")
            raise _Stopped("failed", [problem]) from None
        with file:
            await self._answer_lines(file, output)

    async def _check_input(self) -> None:
        path = self._store.files.path(self._batch.input_file_id)
        check = FileCheck(path, self._state.config.max_body_bytes)
        steps = check.steps()
        while await self._run(next, steps, True) is None:
            pass
        if check.problems:
            raise _Stopped("failed", check.problems)
        self._batch.request_counts.total = check.count
        self._batch.status, self._batch.in_progress_at = "in_progress", storage.now()
        await self._saver.save()

    async def _answer_lines(self, file: IO[bytes], output: BatchOutput) -> None:
        """Answer the lines after the checkpoint, some blocks at the same time, and write in order.

        Raises:
            _Stopped: the quota is exceeded, or a model has changed.
        """
        encoder = BlockEncoder(
            self._state, self._models, self._run, self._record.checkpoint.fingerprints
        )
        blocks: Iterator[list[RequestLine]] | None = self._reader(file).blocks(
            self._settings.block_texts, _MAX_BLOCK_BYTES
        )
        tasks: deque[asyncio.Task[list[LineOutcome]]] = deque()
        try:
            while True:
                while blocks is not None and len(tasks) < _BLOCKS_IN_FLIGHT:
                    block = await self._run(next, blocks, None)
                    if block is None:
                        blocks = None
                    else:
                        tasks.append(asyncio.create_task(self._encode(encoder, block)))
                if not tasks:
                    return
                await self._write_outcomes(output, await tasks[0])
                tasks.popleft()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _reader(self, file: IO[bytes]) -> LineReader:
        file.seek(self._record.checkpoint.input_bytes)
        return LineReader(file, self._state.config.max_body_bytes, self._record.checkpoint.line)

    async def _encode(
        self, encoder: BlockEncoder, block: Sequence[RequestLine]
    ) -> list[LineOutcome]:
        """Return the outcomes of a block, waiting for workers and for Redis if necessary."""
        pauses_seconds = retry_pauses()
        while True:
            try:
                return await encoder.encode(block)
            except encoding.OUTAGES as error:
                if isinstance(error, BertqError):
                    errors.to_refused(error)  # logs the reason
            await asyncio.sleep(next(pauses_seconds))

    async def _write_outcomes(self, output: BatchOutput, outcomes: list[LineOutcome]) -> None:
        try:
            await self._saver.write(output.write, outcomes)
        except ModelChanged as error:
            message = f"the workers of {error} have another model than at the beginning"
            problem = LineProblem(code="model_changed", message=message)
            raise _Stopped("failed", [problem]) from None
        self._progress_at = time.monotonic()
        answers = [found for found in outcomes if isinstance(found, LineAnswer)]
        for found in answers:
            self._state.metrics.encoded(len(found.vectors), found.tokens_read, found.num_cut)
        self._state.metrics.batch_answered(len(answers), len(outcomes) - len(answers))
        await self._check_quota()
        if self._saver.age_seconds >= self._settings.commit_seconds:
            await self._saver.save(output)

    async def _check_quota(self) -> None:
        """Check the quota, the more often the less of it is left: other batches may run too.

        Raises:
            _Stopped: it is exceeded.
        """
        size = self._record.checkpoint.output_bytes + self._record.checkpoint.error_bytes
        if size < self._quota_check_bytes:
            return
        try:
            free_bytes = await self._run(self._store.files.check_quota)
            self._quota_check_bytes = size + min(free_bytes // 4, _MAX_QUOTA_CHECK_BYTES)
        except Refused as error:
            problem = LineProblem(code=str(error.code), message=str(error))
            raise _Stopped("failed", [problem]) from None

    async def _write_expired(self, output: BatchOutput) -> None:
        """Write an error for each line that has no answer."""
        path = self._store.files.path(self._batch.input_file_id)
        try:
            file: IO[bytes] = await self._run(path.open, "rb")
        except FileNotFoundError:
            return
        message = "the request was not answered before the batch expired"
        with file:
            lines = self._reader(file).requests()
            while block := await self._run(lambda: list(islice(lines, _STEP_LINES))):
                await self._saver.write(output.write_unanswered, block, "batch_expired", message)


async def _race(work: Coroutine[Any, Any, None], guard: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, or until ``guard`` raises an error."""
    tasks = [asyncio.create_task(work), asyncio.create_task(guard)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                return task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
