"""A job: one request, or several small ones that are sent and answered together."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bertq.protocol.encoding import Encoding
from bertq_client.inbox.assembly import Assembly
from bertq_client.inputs import Text
from bertq_client.request import Answer, Request


@dataclass
class Sent:
    """A chunk that was sent and is not answered.

    Attributes:
        ordinal: its number among all chunks that the client has sent.
        epoch: epoch of Redis when the chunk was sent.
        times: how many times it was sent.
        missed: monotonic time at which it was first found neither queued nor unacknowledged nor
            answered; None while it is not missing.
    """

    ordinal: int
    epoch: str | None
    times: int = 1
    missed: float | None = None


class Job:
    """Requests that share chunks, and their growing answer.

    Attributes:
        id: id of the job; its chunks are ``<id>-0``, ``<id>-1``, ...
        requests: the requests of the job, in the order of their rows.
        texts: the sentences of all requests, concatenated.
        waiting: the requests that are still open; the registry maintains it.
        assembly: the answer so far; set before the first chunk is sent.
        recorded: whether the job's record is in Redis.
        pending: the chunks that are sent and not answered; the registry maintains it.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.id = uuid.uuid4().hex
        self.requests = tuple(requests)
        self.texts: tuple[Text, ...] = (
            tuple(chain.from_iterable(request.texts for request in requests))
            if self.shared
            else requests[0].texts
        )
        self.waiting: dict[int, Request] = {}
        self.assembly: Assembly | None = None
        self.recorded = False
        self.pending: dict[int, Sent] = {}

    @property
    def shared(self) -> bool:
        """Whether the job has more than one request."""
        return len(self.requests) > 1

    @property
    def queue(self) -> str:
        """The queue of its chunks."""
        return self.requests[0].queue

    @property
    def encoding(self) -> Encoding:
        """The encoding options of its sentences."""
        return self.requests[0].encoding

    @property
    def submitted(self) -> float:
        """Monotonic time at which its first request was made."""
        return self.requests[0].submitted

    def answers(self) -> Iterator[tuple[Request, Answer]]:
        """Return each request with a separate answer.

        Raises:
            LookupError: chunks are missing.
        """
        assert self.assembly is not None
        rows, tokens = self.assembly.rows(), self.assembly.tokens
        cut, length = self.assembly.cut, self.assembly.max_seq_len
        read, fingerprint = self.assembly.lengths, self.assembly.fingerprint
        if not self.shared:
            total = None if read is None else int(read.sum())
            yield self.requests[0], Answer(rows, tokens, len(cut), length, fingerprint, total)
            return
        end = 0
        for request in self.requests:
            first, end = end, end + len(request.texts)
            own = tokens[first:end] if tokens is not None else None
            total = None if read is None else int(read[first:end].sum())
            cuts = sum(first <= n < end for n in cut)
            part = rows[first:end]
            if isinstance(part, np.ndarray):
                part = part.copy()  # a view would keep the rows of all requests in memory
            yield request, Answer(part, own, cuts, length, fingerprint, total)
