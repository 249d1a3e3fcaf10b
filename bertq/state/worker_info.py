"""What workers say of themselves, in Redis, for as long as they live."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from bertq.protocol import keys
from bertq.redis.connection import run_script


@dataclass(frozen=True)
class WorkerStats:
    """What a worker has done since it was ready.

    Attributes:
        chunks: chunks that were answered with rows.
        sentences: the rows of those.
        tokens: the wordpieces that were read for them, ``[CLS]`` and ``[SEP]`` included.
        failures: chunks that were answered with an error.
        batches: times that the model ran.
        busy_seconds: time that it ran, over all lanes.
        sentences_per_second: over the last minute, or since the start where that is less.
        busy: share of the same time that the model ran, 0 to 1.
        batch_rows: sentences of a batch, on average over the same time.
        memory: bytes of main memory that its process has now.
        redelivered: chunks that were begun again: their worker had died, or had given them back,
            or their client had missed them.
        batch_seconds: for how long the oldest batch has been computed that is not done; 0 if there
            is none.
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


@dataclass(frozen=True)
class WorkerInfo:
    """One worker: what it takes, on what it runs, and what its rows mean.

    Attributes:
        node: Celery's name of the worker.
        instance: an id of this run of the worker.
        queues: the queues that it takes from.
        device: ``gpu0``, ``cpu0`` or ``default``.
        device_name: what that really is, ``cpu`` where a GPU was asked for and there is none.
        model: what it is: the name of its directory.
        fingerprint: hash over everything that changes a row.
        max_seq_len: wordpieces that are read of a sentence.
        max_batch_size: sentences that the graph takes at once.
        pooling_strategy: name of the strategy.
        pooling_layer: layers, -1 the last.
        row_shape: shape of a sentence's row; None stands for the longest of the request.
        dtype: type that the graph computes in.
        pid: process id, on the host of ``node``.
        started: Unix time at which it was ready.
        versions: of bertq, celery, tensorflow and python.
        work: what it has done so far.
        model_name: what clients ask for the model by; None for the model without a name.
        description: what the model does with a text, in words; "" from an older worker.
        task: ``"embed"`` (vectors), ``"score"`` (one number for each label) or ``"sparse"`` (one
            number for each token of the vocabulary).
        normalized: whether vectors have length 1 by default.
        prompts: names of the model's prompts.
        default_prompt: name of the prompt that a request without one gets.
        similarity: how the model's authors compare two vectors, as ``"cosine"``, if they say so.
        labels: names of the labels, of the task ``"score"``.
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

    @property
    def row_bytes(self) -> int:
        """Size of one float32 row; of the longest possible one where its length varies."""
        size = 4
        for length in self.row_shape:
            size *= self.max_seq_len if length is None else length
        return size

    @property
    def meaning(self) -> str:
        """What the model makes of a sentence, in words: pooling, length and dtype."""
        if self.description:
            return f"{self.description}, {self.dtype}"
        layers = ",".join(map(str, self.pooling_layer))
        return f"{self.pooling_strategy} of {layers}, max_seq_len {self.max_seq_len}, {self.dtype}"


# A worker that was killed left its name behind, and may be back by now.
_FORGET = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
"""


def publish(redis: Redis, advert: WorkerInfo) -> None:
    """Write, or renew, a worker's advert."""
    with redis.pipeline() as pipe:
        pipe.set(keys.worker(advert.node), json.dumps(asdict(advert)), ex=keys.WORKER_TTL)
        pipe.zadd(keys.WORKERS, {advert.node: time.time()})
        pipe.expire(keys.WORKERS, keys.WORKERS_TTL)
        pipe.execute()


def withdraw(redis: Redis, advert: WorkerInfo) -> None:
    """Remove a worker's advert, unless another run of the same name has replaced it."""
    stored = _parse(redis.get(keys.worker(advert.node)))
    if stored is None or stored.instance == advert.instance:
        with redis.pipeline() as pipe:
            pipe.delete(keys.worker(advert.node))
            pipe.zrem(keys.WORKERS, advert.node)
            pipe.execute()


def read(redis: Redis) -> list[WorkerInfo]:
    """Return the adverts of the workers that are alive, by node name."""
    members: Any = redis.zrange(keys.WORKERS, 0, -1)
    nodes = sorted(member.decode(errors="replace") for member in members)
    if not nodes:
        return []
    documents: Any = redis.mget([keys.worker(node) for node in nodes])
    gone = [node for node, text in zip(nodes, documents, strict=True) if text is None]
    # A Redis that takes no writes can still be asked.
    with suppress(ResponseError):
        for node in gone:
            run_script(redis, _FORGET, [keys.WORKERS, keys.worker(node)], node)
    return [advert for text in documents if (advert := _parse(text)) is not None]


def _parse(text: Any) -> WorkerInfo | None:
    # An advert of another version of bertq may have more fields, or lack some.
    if text is None:
        return None
    try:
        document = json.loads(text)
        work = WorkerStats(**_known(WorkerStats, document["work"]))
        advert = WorkerInfo(**{**_known(WorkerInfo, document), "work": work})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return advert if _is_sound(advert) else None


def _is_sound(advert: WorkerInfo) -> bool:
    """Return whether every field has its type: any program may have written this advert."""
    numbers = (advert.max_seq_len, advert.max_batch_size, advert.pid, advert.started)
    work = asdict(advert.work).values()
    texts = (
        advert.node, advert.instance, advert.device, advert.device_name, advert.model,
        advert.fingerprint, advert.pooling_strategy, advert.dtype,
        advert.description, advert.task,
    )  # fmt: skip
    optional = (advert.model_name, advert.default_prompt, advert.similarity)
    return (
        all(isinstance(number, int | float) for number in (*numbers, *work))
        and all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in optional)
        and _is_list(advert.queues, str)
        and _is_list(advert.pooling_layer, int)
        and _is_list(advert.row_shape, int | None)
        and isinstance(advert.normalized, bool)
        and _is_list(advert.prompts, str)
        and _is_list(advert.labels, str)
        and isinstance(advert.versions, dict)
    )


def _is_list(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _known(kind: type[WorkerStats] | type[WorkerInfo], document: Any) -> dict[str, Any]:
    return {spec.name: document[spec.name] for spec in fields(kind) if spec.name in document}
