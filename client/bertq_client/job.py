"""What is sent, recorded and answered as one: a request, or several small ones together."""

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
    """A chunk that is sent and not answered.

    Attributes:
        ordinal: its place among all chunks that the client has sent.
        epoch: of the Redis that it was sent to.
        times: how often it was sent.
        missed: when it was first found neither waiting nor held nor answered, on the monotonic
            clock; None while there is no such sign.
    """

    ordinal: int
    epoch: str | None
    times: int = 1
    missed: float | None = None


class Job:
    """The requests that share chunks, and their growing answer.

    Attributes:
        id: of the job; its chunks are ``<id>-0``, ``<id>-1``, ...
        requests: those that it was made of, in the order of their rows.
        texts: their sentences, one after the other.
        waiting: those that nobody has answered or given up yet; the registry keeps it.
        assembly: the answer so far; set before the first chunk is sent.
        recorded: whether the job's record is in Redis.
        pending: the chunks that are sent and not answered; the registry keeps it.
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
        """Whether it is made of more than one request."""
        return len(self.requests) > 1

    @property
    def queue(self) -> str:
        """Where its chunks go."""
        return self.requests[0].queue

    @property
    def encoding(self) -> Encoding:
        """How its sentences are encoded."""
        return self.requests[0].encoding

    @property
    def submitted(self) -> float:
        """When the first of its requests was made, on the monotonic clock."""
        return self.requests[0].submitted

    def answers(self) -> Iterator[tuple[Request, Answer]]:
        """Return the requests and, for each, an answer that is its own.

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
                part = part.copy()  # a view would keep the rows of all the others in memory
            yield request, Answer(part, own, cuts, length, fingerprint, total)
