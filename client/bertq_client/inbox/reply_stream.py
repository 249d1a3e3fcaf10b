"""Reads a reply stream: an entry for each finished chunk, some with the chunk's result."""

from typing import Any, NamedTuple

from redis import Redis

from bertq.protocol import keys

#: Most entries of one read, and most results of one fetch.
MAX_NOTICES, MAX_RESULTS = 256, 8


class Notice(NamedTuple):
    """An entry of a reply stream.

    Attributes:
        entry_id: id of the entry.
        task_id: id of the finished chunk; empty for an entry that only ends a read.
        result: the result, if it is small.
        has_key: whether the result has a key of its own.
    """

    entry_id: bytes
    task_id: str
    result: bytes | None
    has_key: bool


def read(redis: Redis, stream: str, after: bytes | str, seconds: float | None) -> Any:
    """Read entries of a stream: return the answer of XREAD, for ``parse``.

    Args:
        redis: a connection, or a pipeline, which returns the answer later.
        stream: key of the stream.
        after: id of an entry: only later ones are read.
        seconds: how long to wait for an entry; None to return at once.
    """
    # To Redis, 0 means forever.
    block = None if seconds is None else max(1, int(seconds * 1000))
    return redis.xread({stream: after}, count=MAX_NOTICES, block=block)


def parse(answer: Any) -> list[Notice]:
    """Return the entries in an answer to XREAD of one stream."""
    # RESP2 answers with a list of streams, RESP3 with a map.
    streams = answer.values() if isinstance(answer, dict) else [item[1] for item in answer]
    entries = [entry for stream in streams for entry in stream]
    # RESP3 puts the entries of a stream into another list.
    if entries and isinstance(entries[0], list):
        entries = entries[0]
    return [
        Notice(
            entry_id,
            fields.get(b"task", b"").decode("utf-8", "replace"),
            fields.get(b"result"),
            b"once" not in fields,
        )
        for entry_id, fields in entries
    ]


def fetch(redis: Redis, task_ids: list[str]) -> Any:
    """Return the stored results of chunks, None for each that is gone."""
    return redis.mget(list(map(keys.result, task_ids)))
