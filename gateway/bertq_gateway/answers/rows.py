"""Rows for the texts of one HTTP request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from fastapi import Request

from bertq import EncodeFuture, SparseRows
from bertq.protocol.encoding import Options
from bertq.protocol.sparse import AnyRows
from bertq.state.worker_info import WorkerInfo
from bertq_client import BertClient
from bertq_gateway.answers import answer
from bertq_gateway.errors import Refused
from bertq_gateway.models import Models
from bertq_gateway.state import State

#: What models of each task return, in words.
_RETURNED = {"embed": "vectors", "score": "scores", "sparse": "sparse rows"}


@dataclass(frozen=True)
class Found:
    """The model of a request.

    Attributes:
        name: name of the model over HTTP.
        worker: a worker that has it.
        client: the client for it.
    """

    name: str
    worker: WorkerInfo
    client: BertClient


@dataclass(frozen=True)
class EncodedRows:
    """The answer to a request.

    Attributes:
        rows: a row for each text; with ``show_tokens``, a pair of these and the tokens.
        future: the request to the workers.
    """

    rows: Any
    future: EncodeFuture

    @property
    def tokens_read(self) -> int:
        """Number of tokens that were read, special tokens included."""
        return self.future.tokens_read or 0


async def find(request: Request, model: str | None, task: str) -> Found:
    """Return the model of a request.

    Args:
        request: the request.
        model: name or alias of the model; None for the only one of the task.
        task: ``"embed"``, ``"score"`` or ``"sparse"``.

    Raises:
        NoWorker: no worker is alive.
        Refused: there is no such model, or it has another task.
    """
    return await find_model(State.of(request).models, model, task)


async def find_model(models: Models, model: str | None, task: str) -> Found:
    """Return a model; arguments and errors are those of ``find``."""
    name, worker, client = await models.find(model, task)
    if worker.task != task:
        raise Refused(
            422,
            f"{name} returns {_RETURNED.get(worker.task, worker.task)}, not {_RETURNED[task]}",
            param="model",
        )
    return Found(name, worker, client)


async def encode(
    request: Request,
    found: Found,
    texts: Sequence[Any],
    field: str,
    *,
    show_tokens: bool = False,
    **options: Unpack[Options],
) -> EncodedRows:
    """Encode the texts of a request.

    Args:
        request: the request.
        found: its model.
        texts: texts or pairs of them.
        field: the field of the texts, for errors.
        show_tokens: return the tokens too.
        options: as for ``BertClient.encode``; ``truncate`` is the gateway's by default.

    Raises:
        Refused: there are too many texts, or the model has changed its kind of rows.
        ClientDisconnected: the caller has disconnected.
        BertqError: the error of the request.
    """
    state = State.of(request)
    request.state.field = field
    is_named = options.get("prompt_name") is not None
    request.state.prompt_field = "prompt_name" if is_named else "input_type"
    state.check_batch(len(texts), field)
    options["truncate"] = options.get("truncate") or state.config.truncate
    future = found.client.encode_async(
        list(texts), show_tokens=show_tokens, count_tokens=True, **options
    )
    rows = await answer.vectors(request, future)
    returned: AnyRows = rows[0] if show_tokens else rows
    if isinstance(returned, SparseRows) != (found.worker.task == "sparse"):
        # By now, another worker serves this name.
        raise Refused(503, f"{found.name} has changed: send the request again", "model_changed")
    state.metrics.encoded(len(texts), future.tokens_read or 0, future.cut)
    return EncodedRows(rows, future)


def check_dimensions(dimensions: int | None, found: Found, field: str) -> int | None:
    """Return the dimensions to request of the workers; None for all that the model has.

    Raises:
        Refused: the model has fewer.
    """
    width = found.worker.row_shape[-1]
    if dimensions is None or dimensions == width:
        return None
    if width is not None and dimensions > width:
        raise Refused(422, f"{field} is {dimensions}, and {found.name} has {width}", param=field)
    return dimensions


def check_vectors(rows: Any) -> None:
    """Refuse rows that are not one vector for each text.

    Raises:
        Refused: the model returns a vector for each token.
    """
    if rows.ndim != 2:
        raise Refused(
            422, "the model returns a vector for each token (NONE): use /encode or /embed_all"
        )
