"""Merging of waiting chunks, across requests and clients, into batches for one model."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np

from bertq_bert.errors import OutOfMemory
from bertq_workers.background.worker_thread import WorkerThread
from bertq_workers.batching.batch import (
    BatchBuilder,
    ComputedPiece,
    GraphRunner,
    Ids,
    Piece,
    QueuedChunk,
    RowsFuture,
    halves,
)
from bertq_workers.batching.running_batches import RunningBatches
from bertq_workers.celery_compat.shutdown import exit_process

log = logging.getLogger("bertq.worker")


class Batcher:
    """A queue of chunks, and one thread for each lane, which computes them on one device.

    A thread that submits small chunks takes the place of a free lane. A free lane takes the waiting
    chunks at once; it never waits for more. New chunks gather while it computes. Chunks of at most
    ``small_rows`` rows go first. If both sizes are waiting, a batch of small chunks alternates with
    a batch that begins with the oldest large chunk. A large chunk fills the rest of the budget and
    continues in the next batch. The rows of a batch are sorted by length; they equal those of
    ``Encoder.compute`` to 5e-6.

    With ``ahead``, the device gets a full batch while it computes another one. It does not wait
    while the rows of a batch are copied to their chunks and the next batch is merged.

    A suspicious chunk, which may end the process, is computed alone on the device; otherwise the
    chunks computed with it would become suspicious too. If small chunks are waiting after it, a
    batch of them is computed before the next suspicious one.
    """

    def __init__(
        self,
        device: GraphRunner,
        *,
        lanes: int = 1,
        ahead: int = 0,
        small_rows: int = 16,
        on_batch: Callable[[int, float, float], None] = lambda rows, share, seconds: None,
        probe: Callable[[], object] = lambda: None,
    ) -> None:
        """Start the lanes.

        Args:
            device: computes the batches.
            lanes: batches that may run at the same time.
            ahead: full batches that may be given to the device while it computes others.
            small_rows: maximum rows of a small chunk.
            on_batch: called with the rows, budget share and seconds of each batch.
            probe: computes a valid batch; called after a batch has failed. If it raises, the
                process ends.
        """
        self._device = device
        self._lanes = lanes
        self._ahead = ahead
        self._probe = probe
        self._small_rows = small_rows
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._small: deque[QueuedChunk] = deque()
        self._large: deque[QueuedChunk] = deque()
        self._large_passed_over = False
        self._suspicious: deque[QueuedChunk] = deque()
        self._small_passed_over = False  # by a suspicious chunk
        self._busy_lanes = 0
        self._is_exclusive = False  # whether a lane computes a suspicious chunk
        self._memory_lock = threading.Lock()
        self._is_memory_short = False
        self._running = RunningBatches(lanes)
        for number in range(self.max_batches):
            name = f"bertq-lane-{number}"
            WorkerThread(name, self._run_lane).start()

    def submit(self, ids: Ids, on_begin: Callable[[], None] | None = None) -> RowsFuture:
        """Queue sequences of checked token ids for computing; safe to call from any thread.

        Args:
            ids: the sequences.
            on_begin: given for a suspicious chunk, and called just before it is computed.

        Returns:
            A future of the rows, in the order of the sequences. If it is cancelled before the first
            row is computed, the chunk is skipped.
        """
        chunk = QueuedChunk(ids, self._device, on_begin)
        if not ids:
            chunk.future.set_result(chunk.rows)
            return chunk.future
        with self._changed:
            self._queue_for(chunk).append(chunk)
            self._notify_lane()
        return chunk.future

    def submit_small(self, ids: Ids) -> RowsFuture:
        """Queue the sequences of small chunks; compute them on this thread if a lane is free.

        The caller waits for the rows anyway, and two changes between threads are saved.

        Args:
            ids: the sequences, at least one.

        Returns:
            As ``submit``.
        """
        chunk = QueuedChunk(ids, self._device, None)
        with self._changed:
            self._small.append(chunk)
            # The rows of another, large chunk would delay those of this one.
            batches = [] if self._large or self._suspicious else self._choose_batches()
            if batches:
                self._busy_lanes += 1
            else:
                self._notify_lane()
        if batches:
            self._run(batches)
        return chunk.future

    @property
    def max_batches(self) -> int:
        """Number of batches that the device may have at the same time."""
        return self._lanes + self._ahead

    @property
    def has_waiting_small_chunks(self) -> bool:
        """Whether small chunks wait for a lane."""
        return bool(self._small)

    def oldest_batch_seconds(self) -> float:
        """Return the seconds for which the oldest batch has been running; 0 without a batch."""
        return self._running.oldest_seconds()

    def _notify_lane(self) -> None:
        """Wake a lane for a new chunk, if one may begin."""
        if self._busy_lanes < self._lanes or (self._ahead and self._is_batch_full()):
            self._changed.notify()

    def _queue_for(self, chunk: QueuedChunk) -> deque[QueuedChunk]:
        if chunk.on_begin is not None:
            return self._suspicious
        return self._small if len(chunk.ids) <= self._small_rows else self._large

    def _run_lane(self) -> None:
        while True:
            # No variable has the batches: their rows would stay in memory until the next ones.
            self._run(self._wait_for_batches())

    def _run(self, batches: list[list[Piece]]) -> None:
        """Compute batches on this thread, which counts as a busy lane until they are computed."""
        computed: list[ComputedPiece] = []
        try:
            _call_on_begin(batches[0][0].chunk)
            for pieces in batches:
                computed += self._compute(pieces)
        finally:
            with self._changed:
                self._busy_lanes -= 1
                if self._is_exclusive or self._suspicious:
                    self._is_exclusive = False
                    self._changed.notify_all()
                elif self._small or self._large:
                    self._changed.notify()
        for piece in computed:
            piece.deliver()

    def _wait_for_batches(self) -> list[list[Piece]]:
        """Wait for batches to compute, and return them."""
        with self._changed:
            while not (batches := self._choose_batches()):
                self._changed.wait()
            self._busy_lanes += 1
            return batches

    def _choose_batches(self) -> list[list[Piece]]:
        """Return the batches that a free lane shall compute now, if there are any."""
        while (self._suspicious or self._small or self._large) and self._may_begin():
            if self._begins_with_suspicious:
                batches = self._take_suspicious()
                self._is_exclusive = bool(batches)
            else:
                pieces = self._take_batch()
                batches = [pieces] if pieces else []
            if batches:
                return batches  # otherwise the chunks were cancelled
        return []

    def _may_begin(self) -> bool:
        """Return whether a lane may compute the next batch now."""
        if self._is_exclusive or self._is_memory_short:
            return False
        if self._begins_with_suspicious:
            return not self._busy_lanes  # wait for the running batches, and begin no other
        if self._busy_lanes < self._lanes:
            return True
        # Without a full batch, wait: more chunks may come until the device is free.
        return self._busy_lanes < self.max_batches and self._is_batch_full()

    def _take_suspicious(self) -> list[list[Piece]]:
        """Return all batches of the oldest suspicious chunk, or none if it was cancelled."""
        waiting = deque([self._suspicious.popleft()])
        batches = []
        while waiting:
            batch = BatchBuilder(self._device.budget)
            batch.fill(waiting)
            if batch.pieces:
                batches.append(batch.pieces)
        self._small_passed_over = self._small_passed_over or bool(batches)
        return batches

    @property
    def _begins_with_suspicious(self) -> bool:
        return bool(self._suspicious) and not (self._small_passed_over and self._small)

    @property
    def _begins_with_large(self) -> bool:
        return not self._small or (self._large_passed_over and not self._small_passed_over)

    def _is_batch_full(self) -> bool:
        """Return whether the next batch has the most rows or tokens that it may have."""
        budget, rows, tokens = self._device.budget, 0, 0
        chunks = chain(self._large, self._small) if self._begins_with_large else self._small
        for chunk in chunks:
            rows += len(chunk.ids) - chunk.taken
            tokens += chunk.tokens[-1] - chunk.tokens[chunk.taken]
            if not budget.fits(rows + 1, tokens + 1, 0):
                return True
        return False

    def _take_batch(self) -> list[Piece]:
        batch = BatchBuilder(self._device.budget)
        if self._begins_with_large:
            batch.fill(self._large)
            batch.fill(self._small)
            self._large_passed_over = False
        else:
            # Add no large chunk: it would delay the rows of the small ones.
            batch.fill(self._small)
            self._large_passed_over = bool(self._large)
        if batch.pieces:
            self._small_passed_over = False
        if self._small or self._large:
            self._changed.notify()  # another lane may be free
        return batch.pieces

    def _compute(self, pieces: list[Piece], *, is_alone: bool = False) -> list[ComputedPiece]:
        """Compute a batch; if it fails, compute its halves, so that only the faulty chunk fails.

        If memory is short, compute it without other batches, and also split the rows of a single
        chunk.

        Args:
            pieces: the batch.
            is_alone: whether the device computes no other batch.

        Returns:
            The pieces that were computed.
        """
        if all(piece.chunk.future.done() for piece in pieces):
            return []  # they have failed with another part
        try:
            return self._execute(pieces)
        except BaseException as error:
            is_memory_short = isinstance(error, OutOfMemory | MemoryError)
            rows = sum(len(piece.rows) for piece in pieces)
            if is_memory_short and not is_alone and self.max_batches > 1:
                with self._alone_on_device():
                    return self._compute(pieces, is_alone=True)
            if is_memory_short:
                log.warning("not enough memory for a batch of %d rows; computing its halves", rows)
            if len(pieces) == 1 and (not is_memory_short or rows == 1):
                if not is_memory_short:
                    self._check_device()
                pieces[0].chunk.fail(OutOfMemory(str(error)) if is_memory_short else error)
                return []
            return [
                computed
                for half in halves(pieces)
                for computed in self._compute(half, is_alone=is_alone)
            ]

    def _check_device(self) -> None:
        """End the process if the device cannot compute a valid batch.

        A worker whose GPU is lost would otherwise take all chunks from the queue and fail each.
        """
        try:
            with self._running.add():
                self._probe()
        except BaseException as error:
            exit_process(
                f"the graph computes no batch any more ({type(error).__name__}); other workers "
                "will receive its chunks"
            )

    @contextmanager
    def _alone_on_device(self) -> Iterator[None]:
        """Wait until the device computes no batch, and begin no other one meanwhile."""
        with self._memory_lock:
            with self._changed:
                self._is_memory_short = True
            self._running.wait_for_end()
            try:
                yield
            finally:
                with self._changed:
                    self._is_memory_short = False
                    self._changed.notify_all()

    def _execute(self, pieces: list[Piece]) -> list[ComputedPiece]:
        """Run a batch on the device."""
        lengths = np.concatenate([piece.lengths for piece in pieces])
        order = np.argsort(lengths, kind="stable")
        ids = [piece.chunk.ids[row] for piece in pieces for row in piece.rows.tolist()]
        sorted_ids = [ids[row] for row in order.tolist()]
        with self._running.add() as batch:
            block = self._device.run(sorted_ids)
            seconds = batch.seconds()
        share = self._device.budget.share(len(ids), int(lengths.sum()), int(lengths.max()))
        self._on_batch(len(ids), share, seconds)
        # For each row of the batch, in the order of the pieces, its place in the sorted block.
        places = np.argsort(order)
        computed, start = [], 0
        for piece in pieces:
            end = start + len(piece.rows)
            computed.append(ComputedPiece(piece, block, places[start:end]))
            start = end
        return computed


def _call_on_begin(chunk: QueuedChunk) -> None:
    if chunk.on_begin is not None:
        try:
            chunk.on_begin()
        except BaseException as error:
            chunk.fail(error)
