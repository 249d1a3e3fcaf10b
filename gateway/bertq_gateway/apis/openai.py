"""``/v1/embeddings``, as in OpenAI's API."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bertq.protocol.encoding import Options
from bertq_gateway.answers import answer, rows
from bertq_gateway.answers.rows import Found, check_dimensions
from bertq_gateway.apis.fields import (
    LenientRequest,
    Text,
    TruncateField,
    answer_responses,
    input_type_of,
    one_of,
    refuse_token_ids,
    truncate_of,
)
from bertq_gateway.state import State

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class EmbeddingsRequest(LenientRequest):
    """The texts to encode, and the form of the answer.

    Beside OpenAI's fields it has those of Voyage, Jina and text-embeddings-inference.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"model": "all-MiniLM-L6-v2", "input": ["first do it", "then do it right"]}
        },
    )

    input: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="A text, or a list of them; no token ids, which differ from model to model."
    )
    model: str = Field(description="A name from /v1/models.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="float (the default), or base64: of the numbers, little-endian."
    )
    dimensions: int | None = Field(None, ge=1, description="Numbers to keep of each vector.")
    user: str | None = Field(None, description="Ignored.")
    input_type: str | None = Field(
        None,
        description="query or document (also search_query and search_document, retrieval.query "
        "and retrieval.passage), or the name of a prompt of the model.",
    )
    prompt_name: str | None = Field(None, description="The name of a prompt of the model.")
    normalize: bool | None = Field(
        None, description="Whether vectors have length 1; by default as the model says."
    )
    truncate: TruncateField | bool = None
    output_dtype: Literal["float", "int8", "uint8", "binary", "ubinary"] | None = Field(
        None,
        description="The type of the numbers; binary and ubinary have eight dimensions in each. "
        "int8 and uint8 need workers with --int8-ranges.",
    )
    output_dimension: int | None = Field(None, ge=1, description="Voyage's name of dimensions.")
    truncation: bool | None = Field(None, description="Voyage's name of truncate.")
    task: str | None = Field(None, description="Jina's name of input_type.")
    normalized: bool | None = Field(None, description="Jina's name of normalize.")
    embedding_type: Literal["float", "base64", "binary", "ubinary"] | None = Field(
        None, description="Jina's name of output_dtype and encoding_format."
    )

    _no_token_ids = field_validator("input", mode="before")(refuse_token_ids)

    @field_validator("encoding_format", mode="before")
    @classmethod
    def _replace_empty(cls, value: Any) -> Any:
        return None if value == "" else value  # some clients send it for the default

    @property
    def is_base64(self) -> bool:
        """Whether vectors are sent in base64."""
        return "base64" in (self.encoding_format, self.embedding_type)

    @property
    def rows_field(self) -> str:
        """The field that selects the kind of rows."""
        if self.embedding_type not in (None, "float", "base64"):
            return "embedding_type"
        return "normalize" if self.output_dtype in (None, "float") else "output_dtype"

    def options(self, found: Found) -> Options:
        """Return the options of the request to the workers.

        Raises:
            Refused: two fields have the same meaning, or the model has fewer dimensions.
        """
        dimensions = one_of(
            [("dimensions", self.dimensions), ("output_dimension", self.output_dimension)]
        )
        field = "dimensions" if self.dimensions is not None else "output_dimension"
        input_type = one_of([("input_type", self.input_type), ("task", self.task)])
        kind = self.embedding_type if self.embedding_type != "base64" else None
        dtype = one_of([("output_dtype", self.output_dtype), ("embedding_type", kind)])
        options: Options = {
            "pairs": False,
            "dimensions": check_dimensions(dimensions, found, field),
            "prompt_name": self.prompt_name,
            "input_type": input_type_of(input_type, found.worker),
            "normalize": one_of([("normalize", self.normalize), ("normalized", self.normalized)]),
            "precision": "float32" if dtype in (None, "float") else dtype,
        }
        truncate = one_of([("truncate", self.truncate), ("truncation", self.truncation)])
        if (known := truncate_of(truncate)) is not None:
            options["truncate"] = known
        return options


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
    responses=answer_responses(),
)
async def embeddings(request: Request, body: EmbeddingsRequest) -> Response:
    """Encode texts."""
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "embed")
    texts = [body.input] if isinstance(body.input, str) else body.input
    request.state.rows_field = body.rows_field
    made = await rows.encode(request, found, texts, "input", **body.options(found))
    vectors = made.rows
    rows.check_vectors(vectors)

    def build() -> dict[str, Any]:
        return content(found.name, vectors, made.tokens_read, is_base64=body.is_base64)

    return await answer.write(build, vectors.size, made.future)


def content(
    model: str, vectors: NDArray[Any], tokens_read: int, *, is_base64: bool
) -> dict[str, Any]:
    """Return the content of an answer, plain values and arrays.

    Args:
        model: name of the model.
        vectors: a vector for each text.
        tokens_read: number of tokens that were read.
        is_base64: whether to send the vectors in base64.
    """
    shown = _base64(vectors) if is_base64 else vectors
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(shown)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens_read, "total_tokens": tokens_read},
    }


def _base64(vectors: NDArray[Any]) -> list[str]:
    little_endian = np.ascontiguousarray(vectors, vectors.dtype.newbyteorder("<"))
    return [base64.b64encode(row).decode() for row in little_endian]
