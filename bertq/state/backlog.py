"""The waiting work of a queue in seconds, for scalers of workers."""

from collections.abc import Iterable
from statistics import fmean

from bertq.protocol import queues
from bertq.protocol.limits import MAX_CHUNK_ROWS
from bertq.state.worker_info import WorkerInfo


def waiting_seconds(queue: str, chunks: int, workers: Iterable[WorkerInfo]) -> float | None:
    """Return the seconds that the workers of a queue need for its waiting chunks.

    Workers report how many sentences a second they compute, and how many a chunk has, in the last
    minute in which they had work. Those that have not computed yet count as the average of the
    others.

    Args:
        queue: name of the queue.
        chunks: number of waiting chunks.
        workers: live workers.

    Returns:
        None if chunks wait and no worker of the queue has computed anything yet.
    """
    if not chunks:
        return 0.0
    work = [worker.work for worker in workers if queue in worker.queues]
    rates = [each.max_sentences_per_second for each in work if each.max_sentences_per_second > 0]
    if not rates:
        return None
    if queues.is_small(queue):
        sizes, default = [each.small_chunk_sentences for each in work], 1.0
    else:
        sizes, default = [each.chunk_sentences for each in work], float(MAX_CHUNK_ROWS)
    known = [size for size in sizes if size > 0]
    sentences = chunks * (fmean(known) if known else default)
    return sentences / (fmean(rates) * len(work))
