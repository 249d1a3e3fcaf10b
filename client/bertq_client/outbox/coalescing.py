"""Small requests that wait at the same moment: who shares a chunk with whom."""

from collections.abc import Iterator, Sequence

from bertq.protocol import queues
from bertq.protocol.limits import CHUNK_CHARACTERS
from bertq.state.worker_info import WorkerInfo
from bertq_client import inputs
from bertq_client.request import Request
from bertq_client.worker_directory import chunk_rows

#: Sentences that share a chunk, at most: for each of them the wait is that for all, and to a worker
#: their chunk is still a small one.
SHARED_ROWS = queues.PRIORITY_BATCH_SIZE


def share(requests: Sequence[Request], workers: Sequence[WorkerInfo]) -> Iterator[list[Request]]:
    """Put requests for one queue together, in their order, so that each group is one chunk.

    Args:
        requests: small ones, at least one, which ask for the same encoding.
        workers: those that are known to take from the queue.

    Returns:
        The groups, each of at least one request.
    """
    # Token vectors (NONE) may be as long as the longest sentence of their chunk.
    divisible = all(len(worker.row_shape) == 1 for worker in workers)
    rows = min(SHARED_ROWS, chunk_rows(workers)) if divisible else 0
    group: list[Request] = []
    size = length = 0
    for request in requests:
        more, longer = len(request.texts), sum(map(inputs.characters, request.texts))
        if group and (size + more > rows or length + longer > CHUNK_CHARACTERS):
            yield group
            group, size, length = [], 0, 0
        group.append(request)
        size, length = size + more, length + longer
    yield group
