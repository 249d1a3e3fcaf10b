"""Notices whose results are processed, but still in Redis."""

import time
from typing import Any, NamedTuple

from bertq.protocol import keys
from bertq_client.inbox.reply_stream import Notice

#: Bounds on processed results in Redis, which are removed together: seconds, notices, bytes.
MAX_SECONDS, MAX_NOTICES, _MAX_BYTES = 0.1, 128, 4 * 1024 * 1024


class ProcessedNotice(NamedTuple):
    """A notice whose result is processed.

    Attributes:
        entry_id: id of the notice in the stream.
        key: key of the result, if it has one.
        answered_job_id: id of the chunk's job, if the job is now answered.
    """

    entry_id: bytes
    key: str | None
    answered_job_id: str | None


class ProcessedNotices:
    """The processed notices of a client.

    The gatherer's thread removes them; any thread may add one. There is no lock, because a signal
    handler may run during a call: each access to the list is atomic in the interpreter.
    """

    def __init__(self) -> None:
        self._notices: list[ProcessedNotice] = []
        self._bytes = 0  # an estimate: two threads may add at once
        self._removal_due_at = 0.0  # monotonic time

    def __len__(self) -> int:
        return len(self._notices)

    def add(self, notice: Notice, answered_job_id: str | None, size: int) -> bool:
        """Add a notice with a result of some bytes; return whether the gatherer must learn of it.

        It is removed only after its rows are copied: if the connection is lost, the same notices
        are read again.
        """
        key = keys.result(notice.task_id) if notice.has_key else None
        self._notices.append(ProcessedNotice(notice.entry_id, key, answered_job_id))
        self._bytes += size
        is_first = len(self._notices) == 1
        if is_first:
            self._removal_due_at = time.monotonic() + MAX_SECONDS
        return is_first or self._is_full

    @property
    def last_id(self) -> bytes | str:
        """The id after which the stream has notices that are not processed.

        Usually no processed notice is left, and it is the beginning of the stream: after a last id,
        the notices of a new server whose clock is behind the old one's would be missed.
        """
        last = self._notices[-1:]
        return last[0].entry_id if last else "0-0"

    @property
    def _is_full(self) -> bool:
        return len(self._notices) >= MAX_NOTICES or self._bytes >= _MAX_BYTES

    def seconds_left(self) -> float | None:
        """Return the seconds until notices must be removed; None without notices."""
        if not self._notices:
            return None
        return 0.0 if self._is_full else max(0.0, self._removal_due_at - time.monotonic())

    def add_removal(self, pipe: Any, stream: str) -> int:
        """Add the commands that remove the notices from a stream; return how many these are."""
        notices = self._notices[:]
        if notices:
            pipe.xdel(stream, *(notice.entry_id for notice in notices))
        names = [notice.key for notice in notices if notice.key is not None]
        names += [
            keys.job(notice.answered_job_id)
            for notice in notices
            if notice.answered_job_id is not None
        ]
        if names:
            pipe.unlink(*names)
        return len(notices)

    def forget(self, count: int) -> None:
        """Forget the oldest notices, which are removed."""
        self._bytes = 0
        self._removal_due_at = time.monotonic() + MAX_SECONDS
        del self._notices[:count]
