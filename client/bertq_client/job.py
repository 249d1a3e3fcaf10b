"""A job: one request, or several small ones that are sent and answered together."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bertq.protocol import versions
from bertq.protocol.encoding import Encoding
from bertq_client.inbox.assembly import Assembly
from bertq_client.inputs import Text
from bertq_client.request import Request, RequestAnswer


@dataclass
class Sending:
    """The latest sending of a chunk that is not answered.

    Attributes:
        position: its place in the order in which the client has sent chunks.
        epoch: epoch of Redis when the chunk was sent.
        count: how many times the chunk was sent.
    """

    position: int
    epoch: str | None
    count: int = 1


class Job:
    """Requests that share chunks, and their growing answer.

    Attributes:
        id: id of the job; its chunks are ``<id>-0``, ``<id>-1``, ...
        requests: the requests of the job, in the order of their rows.
        texts: the sentences of all requests, concatenated.
        open_requests: the requests that are not answered, by number; the registry maintains it.
        assembly: the answer so far; set before the first chunk is sent.
        is_recorded: whether the job's record is in Redis, and no caller reads the answer itself.
        may_be_recorded: the same, but also True if the answer of Redis was lost.
        pending: the chunks that are sent and not answered; the registry maintains it.
        wire: wire format of its messages, chosen when the chunks are planned.
        sent_at: by the number of a chunk: Unix time at which it was first sent, or was about to be.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.id = secrets.token_hex(16)
        self.requests = tuple(requests)
        self.texts: tuple[Text, ...] = (
            tuple(chain.from_iterable(request.texts for request in requests))
            if self.is_shared
            else requests[0].texts
        )
        self.open_requests: dict[int, Request] = {}
        self.assembly: Assembly | None = None
        self.is_recorded = False
        self.may_be_recorded = False
        self.pending: dict[int, Sending] = {}
        self.wire = versions.WIRE_VERSION
        self.sent_at: dict[int, float] = {}

    @property
    def is_shared(self) -> bool:
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
    def traceparent(self) -> str | None:
        """Context of the span of its first traced request."""
        return next((request.traceparent for request in self.requests if request.traceparent), None)

    @property
    def submitted_at(self) -> float:
        """Monotonic time at which its first request was made."""
        return self.requests[0].submitted_at

    def answers(self) -> Iterator[tuple[Request, RequestAnswer]]:
        """Return each request with a separate answer.

        Raises:
            LookupError: chunks are missing.
        """
        assert self.assembly is not None
        rows, tokens = self.assembly.rows(), self.assembly.tokens
        cut, max_seq_len = self.assembly.cut, self.assembly.max_seq_len
        lengths, fingerprint = self.assembly.lengths, self.assembly.fingerprint
        if not self.is_shared:
            yield (
                self.requests[0],
                RequestAnswer(rows, tokens, cut, max_seq_len, fingerprint, lengths),
            )
            return
        end = 0
        for request in self.requests:
            first, end = end, end + len(request.texts)
            request_tokens = tokens[first:end] if tokens is not None else None
            request_lengths = None if lengths is None else lengths[first:end]
            cut_rows = [row - first for row in cut if first <= row < end]
            part = rows[first:end]
            if isinstance(part, np.ndarray):
                part = part.copy()  # a view would keep the rows of all requests in memory
            yield (
                request,
                RequestAnswer(
                    part, request_tokens, cut_rows, max_seq_len, fingerprint, request_lengths
                ),
            )
