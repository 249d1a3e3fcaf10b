"""The one task: a chunk of sentences in, its rows out."""

import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Task
from celery.exceptions import Ignore
from redis import RedisError

from bertq import jobs, keys
from bertq.backend import summarize
from bertq.broker import ENCODE_TASK
from bertq.celery import app
from bertq.errors import BadInputType, BadInputValue
from bertq.limits import CHUNK_CHARACTERS, SENTENCE_CHARACTERS, WORKER_CHUNK_ROWS
from bertq.wire import ChunkResult
from bertq_workers import logs, startup

if TYPE_CHECKING:
    from bertq_bert import Encoder

log = logging.getLogger("bertq.worker")

#: Characters of a chunk that a worker accepts: a full one, or a single long sentence.
MAX_CHARACTERS = max(CHUNK_CHARACTERS, SENTENCE_CHARACTERS)


class TokenizerError(Exception):
    """A chunk cannot be cut into wordpieces."""


class EncodeTask(Task):  # type: ignore[type-arg]  # generic in the stubs alone
    """A Celery task that holds the process's one encoder.

    Attributes:
        encoder: the loaded model; the worker's start puts it here before the first chunk.
    """

    encoder: "ClassVar[Encoder | None]" = None

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Log a chunk that failed, whether in the task's body, before it or after it."""
        log.error("chunk %s: failed, %s: %s", task_id, type(exc).__name__, summarize(exc))


# ``shared`` would put the task into every other Celery app of the process.
@app.task(bind=True, base=EncodeTask, name=ENCODE_TASK, shared=False)
def encode(self: EncodeTask, texts: Any) -> ChunkResult:
    """Encode one chunk.

    Args:
        self: the task, by Celery.
        texts: list of str.

    Returns:
        Rows ``[len(texts), *row_shape]``, float32.

    Raises:
        Ignore: nobody wants the chunk any more; Celery acknowledges and forgets it.
        BadInput: the message does not hold a chunk of sentences.
        TokenizerError: the text cannot be cut into wordpieces.
    """
    task_id = str(self.request.id)
    if not _is_wanted(self, task_id):
        log.info("chunk %s: dropped, its job is over", task_id)
        raise Ignore()
    started = time.perf_counter()
    result, tokens = _encode(self.encoder, texts)
    log.info(
        "chunk %s: %d rows, %d tokens, %.3f s",
        task_id, len(result.rows), tokens, time.perf_counter() - started,
    )  # fmt: skip
    return result


def _is_wanted(task: EncodeTask, task_id: str) -> bool:
    parts = keys.split_task_id(task_id)
    if parts is None:
        return False
    try:
        backend: Any = task.backend
        return jobs.is_wanted(backend.client, parts[0])
    except RedisError:
        # Redis is away for a moment: compute; the backend goes on trying to store the rows.
        return True


def _encode(encoder: "Encoder | None", texts: Any) -> tuple[ChunkResult, int]:
    check_chunk(texts)
    if encoder is None:
        raise RuntimeError("this worker has no model: start it with celery -A bertq worker")
    try:
        ids = encoder.tokenize(texts)
    except Exception as error:
        # The message of a tokenizer's error may quote the sentence.
        raise TokenizerError(f"the tokenizer refused the chunk ({type(error).__name__})") from None
    rows = encoder.compute(ids)
    return ChunkResult(rows, encoder.fingerprint), sum(map(len, ids))


def check_chunk(texts: Any) -> None:
    """Refuse what no client of bertq sends.

    Raises:
        BadInputType: not a list of str.
        BadInputValue: no sentence, or too many, or too long.
    """
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadInputType("a chunk must be a list of str")
    if not 0 < len(texts) <= WORKER_CHUNK_ROWS:
        raise BadInputValue(f"a chunk of {len(texts)} sentences: from 1 to {WORKER_CHUNK_ROWS} go")
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise BadInputValue(f"a chunk of {characters} characters: at most {MAX_CHARACTERS} go")


logs.quiet_celery()
startup.register(app)
