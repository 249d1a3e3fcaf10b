"""Coalescing: small requests that wait at the same moment share a chunk."""

from collections.abc import Iterator, Sequence

from bertq.protocol import queues
from bertq.protocol.limits import MAX_CHUNK_CHARACTERS
from bertq.state.worker_info import WorkerInfo
from bertq_client import inputs
from bertq_client.request import Request
from bertq_client.worker_directory import max_chunk_rows

#: Most sentences of a shared chunk. Each request waits for all of them, and workers must still
#: treat the chunk as a small one.
MAX_SHARED_ROWS = queues.PRIORITY_BATCH_SIZE


def coalesce(requests: Sequence[Request], workers: Sequence[WorkerInfo]) -> Iterator[list[Request]]:
    """Group requests for one queue, in their order, so that each group fits into one chunk.

    Args:
        requests: small requests, at least one, with the same encoding.
        workers: known workers of the queue.

    Returns:
        The groups, each with at least one request.
    """
    # Token vectors (NONE) are padded to the longest of their chunk: such requests stay alone.
    may_share = all(len(worker.row_shape) == 1 for worker in workers)
    max_rows = min(MAX_SHARED_ROWS, max_chunk_rows(workers)) if may_share else 0
    group: list[Request] = []
    group_rows = group_characters = 0
    for request in requests:
        rows, characters = len(request.texts), sum(map(inputs.characters, request.texts))
        if group and (
            group_rows + rows > max_rows or group_characters + characters > MAX_CHUNK_CHARACTERS
        ):
            yield group
            group, group_rows, group_characters = [], 0, 0
        group.append(request)
        group_rows, group_characters = group_rows + rows, group_characters + characters
    yield group
