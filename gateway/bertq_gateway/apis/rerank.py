"""Reranking, as in the APIs of Cohere, Jina, Voyage, infinity and text-embeddings-inference."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bertq.protocol.encoding import Options, Truncate
from bertq_client.search import rerank as reranking
from bertq_client.search.rerank import RankedDocument
from bertq_gateway import error_forms
from bertq_gateway.answers import answer, rows, scores
from bertq_gateway.answers.rows import EncodedRows
from bertq_gateway.apis.cohere import Meta, meta
from bertq_gateway.apis.fields import (
    LenientRequest,
    TeiRequest,
    Text,
    answer_responses,
    one_of,
    parse,
    truncate_of,
)
from bertq_gateway.errors import Refused
from bertq_gateway.state import State

router = APIRouter(tags=["Cohere, Jina, Voyage: rerank"])

_RESPONSES = answer_responses(error_forms.MESSAGE)


class RerankDocument(BaseModel):
    """A document."""

    model_config = ConfigDict(extra="allow")

    text: Text


class RerankRequest(LenientRequest):
    """A query and documents."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "ms-marco-MiniLM-L6-v2",
                "query": "what is love",
                "documents": ["The ship sails at dawn.", "Love is patient."],
                "top_n": 1,
            }
        },
    )

    query: Text
    documents: Annotated[list[Text | RerankDocument], Field(min_length=1)]
    model: str | None = Field(
        None, description="A name from /v1/models, if there are several cross-encoders."
    )
    top_n: int | None = Field(None, ge=1, description="Documents to return; by default all.")
    top_k: int | None = Field(None, ge=1, description="Voyage's name of top_n.")
    return_documents: bool | None = Field(False, description="Whether to return the texts, too.")
    truncation: bool | None = Field(
        None, description="Voyage: false refuses pairs that are too long."
    )

    @property
    def texts(self) -> list[str]:
        """The texts of the documents."""
        return [
            document if isinstance(document, str) else document.text for document in self.documents
        ]


class TeiRerankRequest(TeiRequest):
    """A query and documents, as in text-embeddings-inference."""

    query: Text
    texts: Annotated[list[Text], Field(min_length=1)]
    raw_scores: bool | None = False
    return_text: bool | None = False


class RankedText(BaseModel):
    """A document of an answer, as in text-embeddings-inference."""

    index: int
    score: float
    text: str | None = None


class RerankResult(BaseModel):
    """A document of an answer."""

    index: int
    relevance_score: float
    document: dict[str, Any] | str | None = None


class RerankResponse(BaseModel):
    """The documents, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: Meta


class VoyageRerankResponse(BaseModel):
    """The documents, best first, as in Voyage's API."""

    object: Literal["list"]
    data: list[RerankResult]
    model: str
    usage: dict[str, int]


@router.post(
    "/v1/rerank",
    response_model=RerankResponse | VoyageRerankResponse,
    responses=_RESPONSES,
)
async def rerank_v1(request: Request, body: RerankRequest) -> Response:
    """Sort documents by their relevance to a query, as Cohere (v1), Jina and Voyage do."""
    return await _rerank(request, body, "1")


@router.post("/v2/rerank", response_model=RerankResponse, responses=_RESPONSES)
async def rerank_v2(request: Request, body: RerankRequest) -> Response:
    """Sort documents by their relevance to a query."""
    return await _rerank(request, body, "2")


_AnyBody: TypeAlias = Annotated[
    dict[str, Any],
    Body(
        examples=[
            {
                "model": "ms-marco-MiniLM-L6-v2",
                "query": "what is love",
                "texts": ["The ship sails at dawn.", "Love is patient."],
            }
        ]
    ),
]


@router.post(
    "/rerank",
    response_model=RerankResponse | VoyageRerankResponse | list[RankedText],
    responses=answer_responses(error_forms.TEI),
)
async def rerank(request: Request, body: _AnyBody) -> Response:
    """Sort texts by their relevance to a query.

    With the field texts, request and answer are those of text-embeddings-inference: query, texts,
    raw_scores, return_text, truncate and truncation_direction. With documents, they are those of
    /v1/rerank.
    """
    if "documents" in body:
        return await _rerank(request, parse(RerankRequest, body), "1")
    return await rerank_texts(request, parse(TeiRerankRequest, body))


async def rerank_texts(request: Request, body: TeiRerankRequest) -> Response:
    """Sort texts by their relevance to a query, as text-embeddings-inference does."""
    body.check_fields(State.of(request))
    activation = "identity" if body.raw_scores else "probability"
    ranked, made, _ = await _rank(
        request, body.model, body.query, body.texts, "texts", body.truncation(), activation
    )

    def build() -> list[dict[str, Any]]:
        if body.return_text:
            return [
                {"index": index, "score": score, "text": body.texts[index]}
                for index, score in ranked
            ]
        return [{"index": index, "score": score} for index, score in ranked]

    return await answer.write(build, 4 * len(ranked), made.future)


async def _rerank(request: Request, body: RerankRequest, version: str) -> Response:
    body.check_fields(State.of(request))
    count = one_of([("top_n", body.top_n), ("top_k", body.top_k)])
    truncate = truncate_of(body.truncation)
    ranked, made, name = await _rank(
        request, body.model, body.query, body.texts, "documents", truncate, "probability"
    )
    is_voyage = bool(body.model_fields_set & {"top_k", "truncation"}) and version == "1"

    def build() -> dict[str, Any]:
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score} for index, score in ranked[:count]
        ]
        if body.return_documents:
            for result in results:
                result["document"] = _shown(body.documents[result["index"]], is_voyage=is_voyage)
        usage = {"total_tokens": made.tokens_read}
        if is_voyage:
            return {"object": "list", "data": results, "model": name, "usage": usage}
        return {
            "id": str(uuid.uuid4()),
            "model": name,
            "results": results,
            "usage": {"prompt_tokens": made.tokens_read, **usage},
            "meta": meta(version, search_units=1),
        }

    return await answer.write(build, 4 * len(ranked), made.future)


def _shown(document: str | RerankDocument, *, is_voyage: bool) -> Any:
    """Return a document as it is in an answer."""
    if isinstance(document, str):
        return document if is_voyage else {"text": document}
    return document.text if is_voyage else {"text": document.text, **(document.model_extra or {})}


async def _rank(
    request: Request,
    model: str | None,
    query: str,
    texts: Sequence[str],
    field: str,
    truncate: Truncate | None,
    activation: str,
) -> tuple[list[RankedDocument], EncodedRows, str]:
    """Return all documents, best first, with the answer of the workers and the model's name."""
    found = await rows.find(request, model, "score")
    if found.worker.row_shape != [1]:
        raise Refused(
            422,
            f"{found.name} has {found.worker.row_shape[-1]} labels: reranking needs one; /predict "
            "returns the scores of all",
            param="model",
        )
    request.state.field = field
    pairs = reranking.make_pairs(query, texts, field)
    options: Options = {} if truncate is None else {"truncate": truncate}
    made = await rows.encode(request, found, pairs, field, **options)
    numbers = scores.activate(made.rows, found, activation)
    return reranking.rank(reranking.scores_of(numbers), None), made, found.name
