"""A note in ``unacked`` of messages that a worker has taken.

The script that writes it also reads the records of the messages' jobs.
"""

import time
from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

from bertq.protocol import scripts, time_to_live
from bertq.redis.connection import run_script, script_command
from bertq.state import jobs

_NOTE = scripts.load("note_messages")


class Note(NamedTuple):
    """The arguments of the script.

    Attributes:
        names: its keys.
        arguments: its other arguments.
        tags: tags of the messages whose records it reads.
    """

    names: list[str]
    arguments: list[str | float]
    tags: list[str]

    @classmethod
    def of(
        cls, entries: Mapping[str, str], unacked: str, index: str, *, reads_records: bool
    ) -> "Note":
        """Return the note of some messages.

        Args:
            entries: the messages, in the form of ``unacked``, by their tags.
            unacked: key of the messages.
            index: key of the index.
            reads_records: whether to read the records of jobs.
        """
        # The tag of a chunk's message is the id of its task.
        places = {tag: jobs.record_of(tag) for tag in entries if reads_records}
        records = {tag: place for tag, place in places.items() if place is not None}
        return cls(
            names=[index, unacked, *(name for name, *_ in records.values())],
            arguments=[
                time.time(),
                time_to_live.QUEUE_SECONDS,
                len(entries),
                *chain.from_iterable(entries.items()),
                *chain.from_iterable(fields for _, *fields in records.values()),
            ],
            tags=list(records),
        )

    @property
    def command(self) -> tuple[str | float, ...]:
        """The command for a server that knows the script."""
        return script_command(_NOTE, self.names, *self.arguments)

    def write(self, redis: Any) -> dict[str, jobs.JobRecord]:
        """Run the script; return as ``records``."""
        return self.records(run_script(redis, _NOTE, self.names, *self.arguments))

    def records(self, answers: list[list[bytes | None] | None]) -> dict[str, jobs.JobRecord]:
        """Return the records by tag, from the answer to ``command``."""
        found = zip(self.tags, answers, strict=True)
        return {tag: jobs.parse(fields) for tag, fields in found if fields is not None}
