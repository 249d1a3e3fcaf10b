"""Worker info: the description that each live worker publishes in Redis."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import ResponseError

from bertq.protocol import keys, scripts, time_to_live
from bertq.redis.connection import run_script
from bertq.redis.primary import ReadOnlyServer

#: The wire format of workers that do not say which ones they read.
_FIRST_WIRE_VERSION = 3


@dataclass(frozen=True)
class WorkerStats:
    """The work of a worker since it was ready.

    Attributes:
        chunks: number of chunks answered with rows.
        sentences: number of rows in these answers.
        tokens: number of wordpieces read for these rows, ``[CLS]`` and ``[SEP]`` included.
        failures: number of chunks answered with an error, except those of ``rejected``.
        batches: number of runs of the model.
        busy_seconds: total time of these runs, over all lanes.
        sentences_per_second: rate over the last minute, or since the start if that is shorter.
        busy: fraction of the same time in which the model ran, 0 to 1.
        batch_rows: average number of sentences in a batch, over the same time.
        memory: current main memory of the process, in bytes.
        redelivered: number of chunks begun again, because their worker had died or given them back,
            or because their client had missed them.
        batch_seconds: seconds that the oldest unfinished batch has been computed; 0 if there is no
            such batch.
        rejected: number of chunks answered with an error because of their caller's mistake, such as
            an unknown prompt; 0 from an older worker.
        truncated: number of sentences that were truncated; 0 from an older worker.
        held_chunks: number of chunks taken and not answered yet; 0 from an older worker.
        max_sentences_per_second: rate while the model runs in all lanes, over the last minute with
            work; 0 before that, and from an older worker.
        chunk_sentences, small_chunk_sentences: average number of sentences in a chunk of large and
            of small requests, likewise.
    """

    chunks: int = 0
    sentences: int = 0
    tokens: int = 0
    failures: int = 0
    batches: int = 0
    busy_seconds: float = 0.0
    sentences_per_second: float = 0.0
    busy: float = 0.0
    batch_rows: float = 0.0
    memory: int = 0
    redelivered: int = 0
    batch_seconds: float = 0.0
    rejected: int = 0
    truncated: int = 0
    held_chunks: int = 0
    max_sentences_per_second: float = 0.0
    chunk_sentences: float = 0.0
    small_chunk_sentences: float = 0.0


@dataclass(frozen=True)
class WorkerInfo:
    """A worker: its queues, its device, its model and the meaning of its rows.

    Attributes:
        node: Celery's name of the worker.
        instance: id of this run of the worker.
        queues: the queues that the worker takes from.
        device: ``gpu0``, ``cpu0`` or ``default``.
        device_name: the real device; ``cpu`` if a GPU was requested and none was found.
        model: name of the model's directory.
        fingerprint: hash over everything that changes a row.
        max_seq_len: maximum number of wordpieces read from a sentence.
        max_batch_size: maximum number of sentences in one run of the graph.
        pooling_strategy: name of the strategy.
        pooling_layer: pooled layers, -1 the last.
        row_shape: shape of a sentence's row; None stands for the longest sentence of the request.
        dtype: type that the graph computes in.
        pid: process id, on the host of ``node``.
        started: Unix time at which the worker was ready.
        versions: versions of bertq, celery, tensorflow and python.
        work: the worker's work so far.
        model_name: name by which clients request the model; None for the model without a name.
        description: how the model turns a text into a row, in words; "" from an older worker.
        task: ``"embed"`` (vectors), ``"score"`` (one number for each label) or ``"sparse"`` (one
            number for each token of the vocabulary).
        normalized: whether vectors have length 1 by default.
        prompts: names of the model's prompts.
        default_prompt: name of the prompt for requests that give none.
        similarity: how the model's authors compare two vectors, such as ``"cosine"``,
            if they say so.
        labels: names of the labels, for the task ``"score"``.
        wire: wire formats that the worker reads; ``[3]`` from an older worker.
        activation: activation of the scores, for the task ``"score"``: ``"identity"`` for logits,
            ``"sigmoid"``, ``"softmax"``, ...; None from an older worker.
    """

    node: str
    instance: str
    queues: list[str]
    device: str
    device_name: str
    model: str
    fingerprint: str
    max_seq_len: int
    max_batch_size: int
    pooling_strategy: str
    pooling_layer: list[int]
    row_shape: list[int | None]
    dtype: str
    pid: int
    started: float
    versions: dict[str, str] = field(default_factory=dict)
    work: WorkerStats = field(default_factory=WorkerStats)
    model_name: str | None = None
    description: str = ""
    task: str = "embed"
    normalized: bool = False
    prompts: list[str] = field(default_factory=list)
    default_prompt: str | None = None
    similarity: str | None = None
    labels: list[str] = field(default_factory=list)
    activation: str | None = None
    wire: list[int] = field(default_factory=lambda: [_FIRST_WIRE_VERSION])

    @property
    def row_bytes(self) -> int:
        """Size of one float32 row in bytes; of the longest possible row if its length varies."""
        size = 4
        for length in self.row_shape:
            size *= self.max_seq_len if length is None else length
        return size

    @property
    def public_name(self) -> str:
        """The name of the model for callers: the one that they request, or its directory's."""
        return self.model_name or self.model

    @property
    def returned(self) -> str:
        """What the model returns for texts, in words."""
        return {"score": "scores", "sparse": "sparse rows"}.get(self.task, "vectors")

    @property
    def meaning(self) -> str:
        """A description of the model's rows, in words: pooling, length and dtype."""
        if self.description:
            return f"{self.description}, {self.dtype}"
        layers = ",".join(map(str, self.pooling_layer))
        return f"{self.pooling_strategy} of {layers}, max_seq_len {self.max_seq_len}, {self.dtype}"


_FORGET = scripts.load("forget_worker")

#: Maximum number of workers that are listed, those seen last.
_MAX_WORKERS = 10_000


@dataclass(frozen=True)
class WorkerList:
    """A list of workers in Redis.

    Attributes:
        nodes: key of the sorted set of their names.
        info: returns the key of a worker's info.
    """

    nodes: str
    info: Callable[[str], str]


#: The workers that take chunks, those that only finish the chunks that they have, and those that
#: wait until their model gets its queues.
SERVING = WorkerList(keys.WORKERS, keys.worker)
DRAINING = WorkerList(keys.DRAINING, keys.draining)
STANDBY = WorkerList(keys.STANDBY, keys.standby)


def publish(redis: Redis, worker: WorkerInfo, where: WorkerList = SERVING) -> None:
    """Write or renew a worker's info."""
    with redis.pipeline() as pipe:
        pipe.set(
            where.info(worker.node), json.dumps(asdict(worker)), ex=time_to_live.WORKER_SECONDS
        )
        pipe.zadd(where.nodes, {worker.node: time.time()})
        # A worker with a new name each time, as in a container, leaves its name if it is killed.
        pipe.zremrangebyrank(where.nodes, 0, -_MAX_WORKERS - 1)
        pipe.expire(where.nodes, time_to_live.WORKERS_SECONDS)
        pipe.execute()


def withdraw(redis: Redis, worker: WorkerInfo, where: WorkerList = SERVING) -> None:
    """Remove a worker's info, unless another run with the same name has replaced it."""
    stored = _parse(redis.get(where.info(worker.node)))
    if stored is None or stored.instance == worker.instance:
        with redis.pipeline() as pipe:
            pipe.delete(where.info(worker.node))
            pipe.zrem(where.nodes, worker.node)
            pipe.execute()


def read(redis: Redis, where: WorkerList = SERVING) -> list[WorkerInfo]:
    """Return the info of the live workers of a list, by node name."""
    members: Any = redis.zrange(where.nodes, 0, -1)
    nodes = sorted(member.decode(errors="replace") for member in members)
    if not nodes:
        return []
    documents: Any = redis.mget([where.info(node) for node in nodes])
    expired = [node for node, text in zip(nodes, documents, strict=True) if text is None]
    # A Redis that takes no writes can still be read.
    with suppress(ResponseError, ReadOnlyServer):
        for node in expired:
            run_script(redis, _FORGET, [where.nodes, where.info(node)], node)
    return [worker for text in documents if (worker := _parse(text)) is not None]


def seconds_left(
    redis: Redis, workers: Sequence[WorkerInfo], where: WorkerList = SERVING
) -> list[float]:
    """Return the seconds until the info of each worker expires; negative if it has gone."""
    with redis.pipeline(transaction=False) as pipe:
        for worker in workers:
            pipe.pttl(where.info(worker.node))
        return [milliseconds / 1000 for milliseconds in pipe.execute()]


def _parse(text: Any) -> WorkerInfo | None:
    """Return the info in a document; None if it has expired or a field has another type.

    The info of a worker of another version may have additional fields, or lack those that have a
    default.
    """
    if text is None:
        return None
    try:
        return msgspec.convert(json.loads(text), WorkerInfo)
    except (ValueError, RecursionError):
        return None
