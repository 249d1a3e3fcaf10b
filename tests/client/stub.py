"""A worker without a model: real broker, real backend, rows that identify their sentences.

It runs Celery's own worker on a thread of the test process, with a task of the real name.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore
from kombu.transport.redis import Transport
from numpy.typing import NDArray
from redis import Redis

from bertq.errors import SentenceTooLong
from bertq.protocol import keys
from bertq.protocol.encoding import PRECISIONS
from bertq.protocol.queues import ENCODE_TASK
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.protocol.tokens import Token
from bertq.protocol.wire import ChunkResult
from bertq.state import jobs, worker_info
from bertq.state.worker_info import WorkerInfo
from tests.apps import create_app

DIM = 4

#: Maximum number of words of a sentence; longer ones are reported as truncated.
MAX_WORDS = 20


def row(text: str) -> NDArray[np.float32]:
    """The row of a sentence: its length and its first three characters."""
    codes = [ord(character) for character in text[:3].ljust(3)]
    return np.array([len(text), *codes], np.float32)


def rows(texts: list[str]) -> NDArray[np.float32]:
    """The rows of sentences, ``[n, 4]``."""
    return np.stack([row(text) for text in texts])


class Stub:
    """The requests of the stub worker, and its behaviour.

    A chunk with a sentence ``!fail`` raises; none is begun while ``gate`` is closed. Of a pair it
    makes the row of both sides with a blank between them. While ``is_sparse``, rows are compressed.
    """

    def __init__(self) -> None:
        self.chunks: list[int] = []
        self.options: list[dict[str, Any]] = []
        self.dropped: list[str] = []
        self.fingerprints = ["f"]
        self.asked = 0
        self.is_sparse = False
        self.gate = threading.Event()
        self.gate.set()

    def encode(
        self, request: Any, redis: Redis, texts: list[Any], options: dict[str, Any]
    ) -> ChunkResult:
        """The task's body."""
        self.options.append(options)
        self.asked += 1
        self.gate.wait(20)
        parts = keys.split_task_id(request.id)
        if parts is None or not jobs.read(redis, parts[0]).is_active:
            self.dropped.append(request.id)
            raise Ignore()
        self.chunks.append(len(texts))
        if "!fail" in texts:
            raise ZeroDivisionError("the stub was asked to fail")
        fingerprint = self.fingerprints[len(self.chunks) % len(self.fingerprints)]
        words = [text if isinstance(text, list) else text.split() for text in texts]
        cut = [number for number, tokens in enumerate(words) if len(tokens) > MAX_WORDS]
        if cut and options.get("truncate") == "error":
            raise SentenceTooLong(cut, MAX_WORDS)
        made = rows([" ".join(text) if isinstance(text, list) else text for text in texts])
        shown: list[list[Any]] | None = words if options.get("show_tokens") else None
        if options.get("output") == "tokens":
            shown = [[Token(len(word), word, 0, len(word)) for word in row] for row in words]
        elif options.get("output") == "text":
            shown = [[" ".join(row)] for row in words]
        lengths = list(map(len, words)) if options.get("count_tokens") else None
        kind = PRECISIONS[options.get("precision", "float32")]
        answer: AnyRows = made.astype(kind)
        if self.is_sparse:
            answer = SparseRows.from_dense(made.astype(kind))
        return ChunkResult(answer, fingerprint, shown, cut, MAX_WORDS, lengths)


def info(queues: list[str], max_batch_size: int = 256, row_size: int = DIM) -> WorkerInfo:
    """Return the worker info of a stub."""
    return WorkerInfo(
        node="stub@test", instance="1", queues=queues, device="cpu0", device_name="cpu",
        model="stub", fingerprint="f", max_seq_len=25, max_batch_size=max_batch_size,
        pooling_strategy="REDUCE_MEAN", pooling_layer=[-2], row_shape=[row_size], dtype="float32",
        pid=0, started=0.0, versions={},
    )  # fmt: skip


@contextmanager
def stub_worker(url: str, *, max_batch_size: int = 256, row_size: int = DIM) -> Iterator[Stub]:
    """Run a stub worker on the shared queues of the server at ``url``."""
    stub = Stub()
    app = create_app(url)
    app.conf.worker_hijack_root_logger = False  # it is pytest's here, and so is its level
    level = logging.getLevelName(logging.getLogger().level)

    # Not the backend's connection: the tests shorten its timeouts, which workers survive and the
    # stub does not.
    redis = Redis.from_url(url)

    @app.task(bind=True, name=ENCODE_TASK, shared=False)
    def encode(self: Any, texts: list[Any], options: dict[str, Any]) -> ChunkResult:
        return stub.encode(self.request, redis, texts, options)

    with redis:
        published = info(["bertq", "bertq.small"], max_batch_size, row_size)
        worker_info.publish(redis, published)
        redis.expire(keys.worker(published.node), 600)  # the stub does not renew its info
        # It ends after the BRPOP that it is in; the option polling_interval would delay messages.
        with (
            patch.object(Transport, "brpop_timeout", 0.05),
            start_worker(
                app, loglevel=level, pool="solo", perform_ping_check=False, shutdown_timeout=10.0
            ),
        ):
            try:
                yield stub
            finally:
                stub.gate.set()
        worker_info.withdraw(redis, info([]))
    app.close()
