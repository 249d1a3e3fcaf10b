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


def prepare(redis: Redis) -> None:
    """Let a client parse answers to XREAD as ``read`` needs them, faster than redis-py."""
    redis.set_response_callback("XREAD", _parse)


def read(redis: Redis, stream: str, after: bytes | str, seconds: float | None) -> Any:
    """Read entries of a stream.

    Args:
        redis: a prepared client, or its pipeline, which returns the notices later.
        stream: key of the stream.
        after: id of an entry: only later ones are read.
        seconds: how long to wait for an entry; None to return at once.

    Returns:
        A list of ``Notice``.
    """
    # To Redis, 0 means forever.
    block = [] if seconds is None else ["BLOCK", max(1, int(seconds * 1000))]
    execute: Any = redis.execute_command
    return execute("XREAD", "COUNT", MAX_NOTICES, *block, "STREAMS", stream, after)


def _parse(answer: Any, **_: Any) -> list[Notice]:
    """Return the entries in an answer to XREAD of one stream."""
    # RESP2 answers with a list of streams, RESP3 with a map.
    streams = answer.values() if isinstance(answer, dict) else [item[1] for item in answer or ()]
    return [_notice(entry_id, values) for stream in streams for entry_id, values in stream]


def _notice(entry_id: bytes, values: list[bytes]) -> Notice:
    fields = dict(zip(values[::2], values[1::2], strict=True))
    task_id = fields.get(b"task", b"").decode("utf-8", "replace")
    return Notice(entry_id, task_id, fields.get(b"result"), b"once" not in fields)


def fetch(redis: Redis, task_ids: list[str]) -> Any:
    """Return the stored results of chunks, None for each that is gone."""
    return redis.mget(list(map(keys.result, task_ids)))
