"""``/encode`` and ``/status/server``, as in bert-as-service."""

import asyncio
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bertq import SparseRows
from bertq_gateway.answers import answer
from bertq_gateway.apis.fields import (
    LenientRequest,
    TruncateField,
    answer_responses,
    refuse_token_ids,
)
from bertq_gateway.errors import Refused, responses
from bertq_gateway.state import State

router = APIRouter(tags=["bert-as-service"])


_T = TypeVar("_T")
_Several = Annotated[list[_T], Field(min_length=1)]


class EncodeRequest(LenientRequest):
    """The sentences to encode."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 123,
                "texts": ["hello world", "good day"],
                "is_tokenized": False,
                "model": "all-MiniLM-L6-v2",
            }
        },
    )

    id: int | str | None = Field(None, description="The answer has the same id.")
    texts: _Several[str] | _Several[list[str]] = Field(
        description="Sentences, or with is_tokenized lists of tokens."
    )
    is_tokenized: bool | None = Field(None, description="Whether texts are lists of tokens.")
    model: str | None = Field(None, description="A name from /v1/models, if there are several.")
    truncate: TruncateField = None

    _no_token_ids = field_validator("texts", mode="before")(refuse_token_ids)


class EncodeResponse(BaseModel):
    """The vectors, in the order of the sentences."""

    id: int | str | None
    result: list[list[float]] | list[list[list[float]]]
    status: int


@router.post(
    "/encode",
    response_model=EncodeResponse,
    responses=answer_responses(),
)
async def encode(request: Request, body: EncodeRequest) -> Response:
    """Encode sentences."""
    state = State.of(request)
    body.check_fields(state)
    request.state.field = "texts"
    state.check_batch(len(body.texts), "texts")
    texts: list[Any] = body.texts
    if not body.is_tokenized and any(isinstance(text, list) for text in texts):
        raise Refused(422, 'texts has lists of tokens: send "is_tokenized": true', param="texts")
    model, _, client = await state.models.find(body.model)
    truncate = body.truncate or state.config.truncate
    is_tokenized = bool(body.is_tokenized)
    future = client.encode_async(texts, is_tokenized, count_tokens=True, truncate=truncate)
    rows = await answer.vectors(request, future)
    if isinstance(rows, SparseRows):
        raise Refused(422, f"the rows of {model} are sparse: use BertClient")
    state.metrics.encoded(len(body.texts), future.tokens_read or 0, future.cut)
    content = {"id": body.id, "result": rows, "status": 200}
    return await answer.write(lambda: content, rows.size, future)


@router.get(
    "/status/server",
    responses={200: {"model": dict[str, Any]}, **responses(401, 429, 503)},
)
async def status(request: Request) -> Response:
    """Return workers, queues and counters, under the names of bert-as-service 1.10."""
    client = State.of(request).models.default_client
    found = await asyncio.to_thread(lambda: client.server_status)
    return Response(orjson.dumps(found), media_type="application/json")
