"""A worker on a thread of the test process, with the tiny models of ``tests/data/models``.

Its rows are those of a real worker. One worker serves several models, each on its own queues, so
that a module of tests needs no process for each of them.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery.contrib.testing.worker import start_worker
from redis import Redis

from bertq.errors import SentenceTooLong
from bertq.protocol import keys, queues
from bertq.protocol.encoding import Encoding
from bertq.protocol.queues import ENCODE_TASK
from bertq.protocol.sparse import AnyRows, SparseRows
from bertq.protocol.wire import ChunkResult
from bertq.state import worker_info
from bertq.state.worker_info import WorkerInfo
from bertq_bert import Encoder, load_encoder
from bertq_bert.quantization import check_request, finish_rows
from bertq_workers.batching import tokens
from tests.apps import create_app

MODELS = Path(__file__).parent / "data" / "models"

#: Seconds for which the worker info is valid; nothing renews it.
_INFO_TTL_SECONDS = 3600


class TinyService:
    """The models of the service, and the number of texts of each chunk that it was sent.

    Attributes:
        encoders: the models by their names.
        chunks: for each chunk, the name of its model and the number of its texts.
    """

    def __init__(self, redis: Redis, encoders: Mapping[str | None, Encoder]) -> None:
        self._redis = redis
        self.encoders = dict(encoders)
        self.chunks: list[tuple[str | None, int]] = []

    def publish(self, name: str | None) -> None:
        """Publish the worker info of a model."""
        info = describe(self.encoders[name], name)
        worker_info.publish(self._redis, info)
        self._redis.expire(keys.worker(info.node), _INFO_TTL_SECONDS)

    def withdraw(self, name: str | None) -> None:
        """Remove the worker info of a model, as if no worker had it."""
        worker_info.withdraw(self._redis, describe(self.encoders[name], name))

    def encode(self, queue: str, texts: list[Any], options: dict[str, Any]) -> ChunkResult:
        """Encode a chunk, as a worker does."""
        name = queues.model_of(queue)
        self.chunks.append((name, len(texts)))
        encoder, encoding = self.encoders[name], Encoding.from_wire(options)
        if encoding.output != "rows":
            return tokens.answer(encoder, texts, encoding)
        check_request(
            encoder,
            normalize=encoding.normalize,
            dimensions=encoding.dimensions,
            precision=encoding.precision,
        )
        prompt = encoder.prompt_text(
            prompt_name=encoding.prompt_name, prompt=encoding.prompt, input_type=encoding.input_type
        )
        ids, cut = encoder.tokenize(
            texts,
            is_tokenized=encoding.is_tokenized,
            truncate="left" if encoding.truncate == "left" else "right",
            pairs=encoding.pairs,
            prompt="" if encoding.is_tokenized else prompt,
        )
        if cut and encoding.truncate == "error":
            raise SentenceTooLong(cut, encoder.max_seq_len)
        normalize = encoder.normalized if encoding.normalize is None else encoding.normalize
        dense = finish_rows(
            encoder.compute(ids),
            normalize=normalize,
            dimensions=encoding.dimensions,
            precision=encoding.precision,
            int8_ranges=encoder.int8_ranges,
        )
        rows: AnyRows = SparseRows.from_dense(dense) if encoder.task == "sparse" else dense
        shown = encoder.tokens(ids) if encoding.show_tokens else None
        lengths = list(map(len, ids)) if encoding.count_tokens else None
        return ChunkResult(rows, encoder.fingerprint, shown, cut, encoder.max_seq_len, lengths)


def describe(encoder: Encoder, name: str | None) -> WorkerInfo:
    """Return the worker info of a model."""
    names = queues.of_model(name)
    return WorkerInfo(
        node=f"{name or 'tiny'}@test", instance="1", queues=[names.shared, names.small],
        device="cpu0", device_name="cpu", model=encoder.name, fingerprint=encoder.fingerprint,
        max_seq_len=encoder.max_seq_len, max_batch_size=encoder.max_batch_size,
        pooling_strategy=encoder.pooling_strategy, pooling_layer=list(encoder.pooling_layers),
        row_shape=list(encoder.row_shape), dtype=encoder.dtype, pid=0, started=0.0,
        model_name=name, description=encoder.description, task=encoder.task,
        normalized=encoder.normalized, prompts=list(encoder.prompts),
        default_prompt=encoder.default_prompt, similarity=encoder.similarity,
        labels=list(encoder.labels), activation=encoder.activation,
    )  # fmt: skip


@contextmanager
def tiny_service(
    url: str, models: Mapping[str | None, str] | Mapping[str | None, str | Encoder]
) -> Iterator[TinyService]:
    """Run a service on the server at ``url``.

    Args:
        url: address of Redis.
        models: for each name of a model, its directory in ``tests/data/models``, or an encoder.
    """
    encoders = {
        name: load_encoder(MODELS / made) if isinstance(made, str) else made
        for name, made in models.items()
    }
    app = create_app(url)
    app.conf.worker_hijack_root_logger = False  # it is pytest's here, and so is its level
    level = logging.getLevelName(logging.getLogger().level)
    with Redis.from_url(url) as redis:
        service = TinyService(redis, encoders)

        @app.task(bind=True, name=ENCODE_TASK, shared=False)
        def encode(self: Any, texts: list[Any], options: dict[str, Any]) -> ChunkResult:
            return service.encode(self.request.delivery_info["routing_key"], texts, options)

        names = [queues.of_model(name) for name in encoders]
        for name in encoders:
            service.publish(name)
        with start_worker(
            app,
            loglevel=level,
            pool="solo",
            perform_ping_check=False,
            shutdown_timeout=10.0,
            queues=[queue for name in names for queue in (name.shared, name.small)],
        ):
            yield service
    app.close()
