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


class StreamReader:
    """Reads a reply stream on a connection that it holds between two reads.

    redis-py's commands would need most of the time of reading a notice.

    Args:
        redis: the client whose connections are used.
        stream: key of the stream.

    Attributes:
        is_requested: whether entries are requested that were not read.
    """

    def __init__(self, redis: Redis, stream: str) -> None:
        self._pool: Any = redis.connection_pool
        self._stream = stream
        self._connection: Any = None
        self.is_requested = False

    def request(self, after: bytes | str, seconds: float | None) -> None:
        """Ask Redis for entries, without waiting for the answer, unless that was done before.

        Args:
            after: id of an entry: only later ones are read.
            seconds: how long Redis waits for an entry; None to return at once.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        if self.is_requested:
            return
        try:
            if self._connection is not None and self._connection.is_stale:
                self.close()
            connection = self._connection = self._connection or self._pool.get_connection()
            connection.send_command(*read_command(self._stream, after, seconds))
            self.is_requested = True
        except BaseException:
            self.close()
            raise

    def read(self, after: bytes | str, seconds: float | None) -> list[Notice]:
        """Read entries of the stream: those of the last ``request``, or else as ``request``.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        self.request(after, seconds)
        try:
            answer = self._connection.read_response()
            self.is_requested = False
            return parse(answer)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        if self._connection is not None:
            self._connection.disconnect()
        self.release()

    def release(self) -> None:
        """Return the connection, which may be closed before the next request.

        Nothing may be requested, unless the connection is closed.
        """
        connection, self._connection = self._connection, None
        self.is_requested = False
        if connection is not None:
            self._pool.release(connection)


def read_command(stream: str, after: bytes | str, seconds: float | None) -> tuple[Any, ...]:
    """Return the command that reads the entries of a stream.

    Args:
        stream: key of the stream.
        after, seconds: as for ``StreamReader.request``.
    """
    # To Redis, 0 means forever.
    block = () if seconds is None else ("BLOCK", max(1, int(seconds * 1000)))
    return ("XREAD", "COUNT", MAX_NOTICES, *block, "STREAMS", stream, after)


def parse(answer: Any) -> list[Notice]:
    """Return the entries in an answer to ``read_command``."""
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
