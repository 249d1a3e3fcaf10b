"""``/tokenize`` and ``/decode`` of text-embeddings-inference (TEI)."""

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bertq_client import BertClient
from bertq_gateway import error_forms
from bertq_gateway.answers import answer
from bertq_gateway.apis.fields import LenientRequest, Text, answer_responses, refuse_token_ids
from bertq_gateway.state import State

router = APIRouter(tags=["text-embeddings-inference"])

_RESPONSES = answer_responses(error_forms.TEI)


class TokenizeRequest(LenientRequest):
    """Texts to split into tokens."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "all-MiniLM-L6-v2", "inputs": ["first do it"]}}
    )

    inputs: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="A text, or a list of them."
    )
    add_special_tokens: bool | None = Field(
        True, description="Whether to add the tokens that the model reads around a text."
    )
    prompt_name: str | None = Field(None, description="The name of a prompt of the model.")
    model: str | None = Field(None, description="A name from /v1/models, if there are several.")

    _no_token_ids = field_validator("inputs", mode="before")(refuse_token_ids)


class SimpleToken(BaseModel):
    """A token; text, start and stop are of the prompt and the text."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


_Ids: TypeAlias = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]


class DecodeRequest(LenientRequest):
    """Token ids to turn into texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "all-MiniLM-L6-v2",
                "ids": [101, 102],
                "skip_special_tokens": False,
            }
        }
    )

    ids: _Ids | Annotated[list[_Ids], Field(min_length=1)] = Field(
        description="The ids of a text, or a list of them."
    )
    skip_special_tokens: bool | None = Field(
        True, description="Whether to leave out special tokens."
    )
    model: str | None = Field(None, description="A name from /v1/models, if there are several.")


@router.post("/tokenize", response_model=list[list[SimpleToken]], responses=_RESPONSES)
async def tokenize(request: Request, body: TokenizeRequest) -> Response:
    """Split texts into all of their tokens; nothing is cut."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    client = await _find_any(request, body, "inputs", len(texts))
    request.state.prompt_field = "prompt_name"
    future = client.tokenize_async(
        texts, special_tokens=body.add_special_tokens is not False, prompt_name=body.prompt_name
    )
    found = await answer.vectors(request, future)

    def build() -> list[list[dict[str, Any]]]:
        return [
            [
                {
                    "id": token.id,
                    "text": token.text,
                    "special": token.is_special,
                    "start": token.start,
                    "stop": token.stop,
                }
                for token in row
            ]
            for row in found
        ]

    return await answer.write(build, 5 * sum(map(len, found)), future)


@router.post("/decode", response_model=list[str], responses=_RESPONSES)
async def decode(request: Request, body: DecodeRequest) -> Response:
    """Return the texts of token ids."""
    ids: Any = body.ids if isinstance(body.ids[0], list) else [body.ids]
    client = await _find_any(request, body, "ids", len(ids))
    future = client.decode_async(ids, special_tokens=body.skip_special_tokens is False)
    found = await answer.vectors(request, future)
    return await answer.write(lambda: found, len(found), future)


async def _find_any(
    request: Request, body: TokenizeRequest | DecodeRequest, field: str, count: int
) -> BertClient:
    """Return the client for a request that models of all tasks can answer; check its size."""
    state = State.of(request)
    body.check_fields(state)
    state.check_batch(count, field)
    request.state.field = field
    _, _, client = await state.models.find(body.model)
    return client
