"""Coalescing: small requests that wait at the same moment share a chunk."""

from collections.abc import Iterator, Sequence

from bertq.protocol import queues
from bertq.protocol.limits import CHUNK_CHARACTERS
from bertq.state.worker_info import WorkerInfo
from bertq_client import inputs
from bertq_client.request import Request
from bertq_client.worker_directory import chunk_rows

#: Most sentences of a shared chunk. Each request waits for all of them, and workers must still
#: treat the chunk as a small one.
SHARED_ROWS = queues.PRIORITY_BATCH_SIZE


def share(requests: Sequence[Request], workers: Sequence[WorkerInfo]) -> Iterator[list[Request]]:
    """Group requests for one queue, in their order, so that each group fits into one chunk.

    Args:
        requests: small requests, at least one, with the same encoding.
        workers: known workers of the queue.

    Returns:
        The groups, each with at least one request.
    """
    # Token vectors (NONE) are padded to the longest of their chunk: such requests stay alone.
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
