"""Cohere's embeddings: ``/v1/embed`` and ``/v2/embed``."""

import base64
import uuid
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bertq.protocol.encoding import Options, Precision, Truncate
from bertq_gateway import error_forms
from bertq_gateway.answers import answer, rows
from bertq_gateway.answers.rows import EncodedRows, check_dimensions
from bertq_gateway.apis.fields import (
    LenientRequest,
    Text,
    answer_responses,
    input_type_of,
    refuse_token_ids,
)
from bertq_gateway.state import State

router = APIRouter(tags=["Cohere"])

_EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]

_TRUNCATE: dict[str, Truncate] = {"NONE": "error", "START": "left", "END": "right"}


class CohereEmbedRequest(LenientRequest):
    """The texts to encode, and the types of the answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "all-MiniLM-L6-v2",
                "texts": ["first do it"],
                "input_type": "search_document",
                "embedding_types": ["float"],
            }
        },
    )

    texts: Annotated[list[Text], Field(min_length=1)]
    model: str | None = Field(None, description="A name from /v1/models.")
    input_type: str | None = Field(
        None,
        description="search_query or search_document for the model's prompts; classification, "
        "clustering; or the name of a prompt.",
    )
    embedding_types: list[_EmbeddingType] | None = Field(
        None, description="float by default. int8 and uint8 need workers with --int8-ranges."
    )
    output_dimension: int | None = Field(None, ge=1, description="Numbers to keep of each vector.")
    truncate: Literal["NONE", "START", "END"] | None = Field(
        None, description="The end to cut from long texts; NONE refuses them."
    )

    _no_token_ids = field_validator("texts", mode="before")(refuse_token_ids)

    @model_validator(mode="before")
    @classmethod
    def _require_texts(cls, body: Any) -> Any:
        if isinstance(body, dict) and "texts" not in body and {"inputs", "images"} & body.keys():
            raise PydanticCustomError(
                "only_texts", "inputs and images are not supported: send texts"
            )
        return body


class Meta(BaseModel):
    """The version of the API, and what was read."""

    api_version: dict[str, str]
    billed_units: dict[str, int]


class CohereEmbedResponse(BaseModel):
    """The vectors, by their type."""

    id: str
    embeddings: dict[str, list[Any]] | list[list[float]]
    texts: list[str]
    meta: Meta
    response_type: str


_RESPONSES = answer_responses(error_forms.MESSAGE)


@router.post("/v1/embed", response_model=CohereEmbedResponse, responses=_RESPONSES)
async def embed_v1(request: Request, body: CohereEmbedRequest) -> Response:
    """Encode texts; without embedding_types, the vectors are a list."""
    return await _embed(request, body, "1")


@router.post("/v2/embed", response_model=CohereEmbedResponse, responses=_RESPONSES)
async def embed_v2(request: Request, body: CohereEmbedRequest) -> Response:
    """Encode texts."""
    return await _embed(request, body, "2")


async def _embed(request: Request, body: CohereEmbedRequest, version: str) -> Response:
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "embed")
    options: Options = {
        "pairs": False,
        "input_type": input_type_of(body.input_type, found.worker),
        "dimensions": check_dimensions(body.output_dimension, found, "output_dimension"),
    }
    if body.truncate is not None:
        options["truncate"] = _TRUNCATE[body.truncate]
    types = list(dict.fromkeys(body.embedding_types or ["float"]))
    # Bits follow from the float vectors; int8 numbers need ranges that the workers have.
    precisions = list(dict.fromkeys(_precision(kind) for kind in types))
    made: dict[Precision, EncodedRows] = {}
    for precision in precisions:
        options["precision"] = precision
        made[precision] = await rows.encode(request, found, body.texts, "texts", **options)
        rows.check_vectors(made[precision].rows)
    first = made[precisions[0]]

    def build() -> dict[str, Any]:
        by_type = {kind: _convert(made[_precision(kind)].rows, kind) for kind in types}
        is_list = version == "1" and body.embedding_types is None
        return {
            "id": str(uuid.uuid4()),
            "embeddings": by_type["float"] if is_list else by_type,
            "texts": body.texts,
            "meta": meta(version, input_tokens=first.tokens_read),
            "response_type": "embeddings_floats" if is_list else "embeddings_by_type",
        }

    return await answer.write(build, len(types) * first.rows.size, first.future)


def _precision(kind: str) -> Precision:
    """Return the precision to request for a type of vectors."""
    if kind == "int8":
        return "int8"
    return "uint8" if kind == "uint8" else "float32"


def _convert(vectors: NDArray[Any], kind: str) -> Any:
    """Return vectors in one of Cohere's types."""
    if kind == "base64":
        return [base64.b64encode(row).decode() for row in np.ascontiguousarray(vectors, "<f4")]
    if kind == "ubinary":
        return np.packbits(vectors > 0, axis=1)
    if kind == "binary":
        return (np.packbits(vectors > 0, axis=1) ^ 0x80).view(np.int8)
    return vectors


def meta(version: str, **units: int) -> dict[str, Any]:
    """Return the part of an answer that says what was read."""
    return {"api_version": {"version": version}, "billed_units": units}
