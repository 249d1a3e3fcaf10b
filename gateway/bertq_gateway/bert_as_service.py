"""``/encode`` and ``/status/server``, as in bert-as-service."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bertq import SparseRows
from bertq_gateway import answer
from bertq_gateway.errors import Refused, responses
from bertq_gateway.state import State

router = APIRouter(tags=["bert-as-service"])


class EncodeRequest(BaseModel):
    """The sentences to encode."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={
            "example": {"id": 123, "texts": ["hello world", "good day"], "is_tokenized": False}
        },
    )

    id: int | str | None = Field(None, description="Comes back with the answer.")
    texts: Annotated[list[str] | list[list[str]], Field(min_length=1)] = Field(
        description="Sentences; lists of tokens with is_tokenized."
    )
    is_tokenized: bool = False
    model: str | None = Field(None, description="Where workers have more than one.")


class EncodeResponse(BaseModel):
    """The vectors, in the order of the sentences."""

    id: int | str | None
    result: list[list[float]] | list[list[list[float]]]
    status: int


@router.post(
    "/encode",
    response_model=EncodeResponse,
    responses=dict(responses(400, 401, 404, 413, 422, 429, 500, 503, 504)),
)
async def encode(request: Request, body: EncodeRequest) -> Response:
    """Encode sentences."""
    state = State.of(request)
    state.check_batch(len(body.texts), "texts")
    texts: list[Any] = body.texts
    if not body.is_tokenized and any(isinstance(text, list) for text in texts):
        raise Refused(422, "texts has lists of tokens: say is_tokenized", param="texts")
    model, client = await state.models.find(body.model)
    future = client.encode_async(texts, body.is_tokenized, count_tokens=True)
    rows = await answer.vectors(request, future)
    if isinstance(rows, SparseRows):
        raise Refused(422, f"the rows of {model} are sparse: use BertClient")
    state.metrics.encoded(len(body.texts), future.tokens_read or 0)
    return await answer.write({"id": body.id, "result": rows, "status": 200}, rows.size)


@router.get(
    "/status/server",
    responses={200: {"model": dict[str, Any]}, **responses(401, 429, 503)},
)
async def status(request: Request) -> Response:
    """Return workers, queues and counters, under the names of bert-as-service 1.10."""
    client = State.of(request).models.default_client
    found = await asyncio.to_thread(lambda: client.server_status)
    return Response(orjson.dumps(found), media_type="application/json")
