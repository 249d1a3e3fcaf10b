"""``/v1/embeddings``, as in OpenAI's API."""

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bertq import SparseRows
from bertq_gateway import answer
from bertq_gateway.errors import Refused, responses
from bertq_gateway.fields import TRUNCATION_HEADERS, TruncateField, refuse_token_ids
from bertq_gateway.state import State

router = APIRouter(prefix="/v1", tags=["OpenAI"])

#: Its length is in the schema only: checked here, half of an emoji would be an error.
Text = Annotated[str, Field(json_schema_extra={"minLength": 1})]


class EmbeddingsRequest(BaseModel):
    """The texts to encode, and the form of the answer."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {"model": "all-MiniLM-L6-v2", "input": ["first do it", "then do it right"]}
        },
    )

    input: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="A text, or a list of them; no token ids, which differ from model to model."
    )
    model: str = Field(description="A name from /v1/models.")
    encoding_format: Literal["float", "base64", ""] | None = Field(
        None, description="float (the default), or base64: of the float32 numbers, little-endian."
    )
    dimensions: int | None = Field(
        None, ge=1, description="The dimensions of the model; others are refused."
    )
    truncate: TruncateField = None
    user: str | None = Field(None, description="Ignored.")

    _no_token_ids = field_validator("input", mode="before")(refuse_token_ids)


class Embedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that were read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


@router.post(
    "/embeddings",
    response_model=EmbeddingsResponse,
    responses={
        200: {"headers": TRUNCATION_HEADERS},
        **responses(400, 401, 404, 413, 422, 429, 500, 503, 504),
    },
)
async def embeddings(request: Request, body: EmbeddingsRequest) -> Response:
    """Encode texts."""
    state = State.of(request)
    texts = [body.input] if isinstance(body.input, str) else body.input
    state.check_batch(len(texts), "input")
    model, worker, client = await state.models.find(body.model)
    if worker.task != "embed":
        what = "scores" if worker.task == "score" else "sparse rows"
        raise Refused(422, f"{model} returns {what}, not vectors: use BertClient", param="model")
    truncate = body.truncate or state.config.truncate
    future = client.encode_async(texts, count_tokens=True, pairs=False, truncate=truncate)
    rows = await answer.vectors(request, future)
    if isinstance(rows, SparseRows):  # by now, another worker serves this name
        raise Refused(422, f"the rows of {model} are sparse: use BertClient")
    if rows.ndim != 2:
        raise Refused(422, "the model returns a vector for each token (NONE): use /encode")
    if body.dimensions not in (None, rows.shape[1]):
        error = (
            f"dimensions must be {rows.shape[1]}, as {model} has: the gateway does not shorten "
            "vectors; BertClient does"
        )
        raise Refused(422, error, param="dimensions")
    if body.encoding_format == "base64":
        rows = await asyncio.to_thread(_base64, rows)
    tokens = future.tokens_read or 0
    state.metrics.encoded(len(texts), tokens, future.cut)
    content = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return await answer.write(content, 0 if isinstance(rows, list) else rows.size, future.cut_rows)


def _base64(rows: Any) -> list[str]:
    return [base64.b64encode(row).decode() for row in np.ascontiguousarray(rows, "<f4")]
