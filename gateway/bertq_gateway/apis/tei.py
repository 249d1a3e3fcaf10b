"""The API of text-embeddings-inference (TEI)."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
from fastapi import APIRouter, Body, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

import bertq
from bertq.protocol.encoding import Options
from bertq.state.worker_info import WorkerInfo
from bertq_client.search import similarity as similarities
from bertq_gateway import error_forms, errors
from bertq_gateway.answers import answer, rows, scores
from bertq_gateway.answers.rows import check_dimensions
from bertq_gateway.apis import probes, rerank
from bertq_gateway.apis.fields import (
    LenientFields,
    LenientRequest,
    TeiRequest,
    Text,
    TruncationDirection,
    answer_responses,
    parse,
    refuse_token_ids,
)
from bertq_gateway.errors import Refused
from bertq_gateway.state import State

router = APIRouter(tags=["text-embeddings-inference"])

_Inputs: TypeAlias = Text | Annotated[list[Text], Field(min_length=1)]


class _InputsRequest(TeiRequest):
    """Texts to encode."""

    inputs: _Inputs = Field(description="A text, or a list of them; no token ids.")
    prompt_name: str | None = Field(None, description="The name of a prompt of the model.")

    _no_token_ids = field_validator("inputs", mode="before")(refuse_token_ids)

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs

    def options(self) -> Options:
        """Return the options of the request to the workers."""
        return {**super().options(), "prompt_name": self.prompt_name}


class EmbedRequest(_InputsRequest):
    """Texts to encode as vectors."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "all-MiniLM-L6-v2", "inputs": ["first do it"]}}
    )

    normalize: bool | None = Field(True, description="Whether vectors have length 1.")
    dimensions: int | None = Field(None, ge=1, description="Numbers to keep of each vector.")


class EmbedAllRequest(_InputsRequest):
    """Texts to encode as a vector for each token."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "bert-base-uncased", "inputs": ["first do it"]}}
    )


class EmbedSparseRequest(_InputsRequest):
    """Texts to encode as sparse rows."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "splade-v3", "inputs": ["first do it"]}}
    )


class SparseValue(BaseModel):
    """A token's weight."""

    index: int
    value: float


class SimilarityInputs(LenientFields):
    """A sentence, and sentences to compare it with."""

    source_sentence: Text
    sentences: Annotated[list[Text], Field(min_length=1)]


class SimilarityParameters(LenientFields):
    """Options of the comparison."""

    truncate: bool | None = None
    truncation_direction: TruncationDirection = None
    prompt_name: str | None = None


class SimilarityRequest(LenientRequest):
    """Sentences to compare."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "all-MiniLM-L6-v2",
                "inputs": {
                    "source_sentence": "first do it",
                    "sentences": ["then do it right", "then do it better"],
                },
            }
        }
    )

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: str | None = Field(
        None, description="A name from /v1/models, if several models give vectors."
    )


_Pair: TypeAlias = Annotated[list[Text], Field(min_length=1, max_length=2)]


class PredictParameters(LenientFields):
    """Options of huggingface_hub's client."""

    function_to_apply: Any = Field(default=None, description="none, sigmoid or softmax.")
    top_k: Any = Field(default=None, description="Labels to return; by default all.")


class PredictRequest(TeiRequest):
    """Texts to classify."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "toxic-bert", "inputs": "first do it"}}
    )

    inputs: Text | _Pair | Annotated[list[_Pair], Field(min_length=1)] = Field(
        description="A text; a pair of texts; or a list of lists, each of one or two texts."
    )
    raw_scores: bool | None = Field(
        False, description="Whether to return logits, without an activation."
    )
    parameters: PredictParameters | None = None

    _no_token_ids = field_validator("inputs", mode="before")(refuse_token_ids)


class Prediction(BaseModel):
    """A label and its score."""

    score: float
    label: str


class HealthBody(BaseModel):
    """No content."""


class Info(BaseModel):
    """A model and the limits of the gateway; what does not apply to bertq is null."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int | None
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int | None
    version: str
    sha: str | None
    docker_label: str | None


_RESPONSES = answer_responses(error_forms.TEI)


@router.post("/embed", response_model=list[list[float]], responses=_RESPONSES)
async def embed(request: Request, body: EmbedRequest) -> Response:
    """Encode texts as vectors."""
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "embed")
    options = body.options()
    options["dimensions"] = check_dimensions(body.dimensions, found, "dimensions")
    options["normalize"] = body.normalize
    made = await rows.encode(request, found, body.texts, "inputs", **options)
    rows.check_vectors(made.rows)
    return await answer.write(lambda: made.rows, made.rows.size, made.future)


@router.post("/embed_all", response_model=list[list[list[float]]], responses=_RESPONSES)
async def embed_all(request: Request, body: EmbedAllRequest) -> Response:
    """Encode texts as a vector for each token; for models with the pooling NONE."""
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "embed")
    if len(found.worker.row_shape) != 2:
        raise Refused(
            422,
            f"{found.name} returns one vector for each text: start workers with "
            "--pooling-strategy NONE for token vectors",
            param="model",
        )
    made = await rows.encode(
        request, found, body.texts, "inputs", show_tokens=True, **body.options()
    )
    vectors, tokens = made.rows

    def build() -> list[NDArray[Any]]:
        # Rows are as long as the longest one.
        return [row[: len(shown)] for row, shown in zip(vectors, tokens, strict=True)]

    return await answer.write(build, vectors.size, made.future)


@router.post("/embed_sparse", response_model=list[list[SparseValue]], responses=_RESPONSES)
async def embed_sparse(request: Request, body: EmbedSparseRequest) -> Response:
    """Encode texts as weights of tokens; for sparse models (SPLADE)."""
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "sparse")
    made = await rows.encode(request, found, body.texts, "inputs", **body.options())

    def build() -> list[list[dict[str, float]]]:
        return [
            [{"index": index, "value": value} for index, value in row.items()] for row in made.rows
        ]

    return await answer.write(build, 4 * len(made.rows.indices), made.future)


@router.post("/similarity", response_model=list[float], responses=_RESPONSES)
async def similarity(request: Request, body: SimilarityRequest) -> Response:
    """Compare a sentence with others, as the authors of the model do."""
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "embed")
    given = body.parameters or SimilarityParameters()
    options = TeiRequest.model_construct(
        truncate=given.truncate, truncation_direction=given.truncation_direction
    ).options()
    options["prompt_name"] = given.prompt_name
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    request.state.name_text = _name_compared
    made = await rows.encode(request, found, texts, "inputs", **options)
    rows.check_vectors(made.rows)
    function = found.worker.similarity or similarities.DEFAULT

    def build() -> NDArray[np.float32]:
        return similarities.compute(function, made.rows[:1], made.rows[1:]).ravel()

    return await answer.write(build, made.rows.size, made.future)


def _name_compared(index: int) -> str:
    """Return the name of a text of ``/similarity``."""
    return f"inputs.sentences[{index - 1}]" if index else "inputs.source_sentence"


@router.post(
    "/predict",
    response_model=list[Prediction] | list[list[Prediction]],
    responses=_RESPONSES,
)
async def predict(request: Request, body: PredictRequest) -> Response:
    """Return the labels of texts with their scores, best first; for classifiers."""
    body.check_fields(State.of(request))
    found = await rows.find(request, body.model, "score")
    is_batch = isinstance(body.inputs, list) and isinstance(body.inputs[0], list)
    texts: Any = body.inputs if is_batch else [body.inputs]
    texts = [_unpack(text) for text in texts]
    parameters = body.parameters or PredictParameters()
    activation = _activation(parameters, is_raw=bool(body.raw_scores))
    made = await rows.encode(request, found, texts, "inputs", **body.options())
    labels = _labels(found.worker)
    top_k = parameters.top_k
    count = top_k if isinstance(top_k, int) and top_k > 0 else None
    converted = scores.activate(made.rows, found, activation)

    def build() -> Any:
        predictions = [_predictions(row, labels, count) for row in converted]
        # huggingface_hub sends parameters, and expects a list for each text.
        return predictions if is_batch or body.parameters is not None else predictions[0]

    return await answer.write(build, 4 * made.rows.size, made.future)


def _labels(worker: WorkerInfo) -> list[str]:
    """Return the names of a classifier's labels; numbered names if its config has none."""
    return worker.labels or [f"LABEL_{n}" for n in range(worker.row_shape[-1] or 0)]


def _unpack(text: Any) -> Any:
    """Return a text, or a pair of two."""
    return text[0] if isinstance(text, list) and len(text) == 1 else text


def _activation(parameters: PredictParameters, *, is_raw: bool) -> str:
    """Return the activation that a caller asks for.

    Raises:
        Refused: there is no such function.
    """
    name = parameters.function_to_apply
    if name is None:
        return "identity" if is_raw else "probability"
    if name not in ("none", "sigmoid", "softmax"):
        raise Refused(422, "function_to_apply must be none, sigmoid or softmax", param="parameters")
    return "identity" if name == "none" else str(name)


def _predictions(row: Any, labels: Sequence[str], count: int | None) -> list[dict[str, Any]]:
    best = np.argsort(-row, kind="stable")[:count].tolist()
    return [{"score": row[index], "label": labels[index]} for index in best]


@router.get(
    "/info",
    response_model=Info,
    responses=errors.responses(401, 404, 422, 429, 503, form=error_forms.TEI),
)
async def info(request: Request, model: str | None = None) -> Info:
    """Describe a model, the only one if the query names none."""
    state = State.of(request)
    name, worker, _ = await state.models.find(model)
    return Info(
        model_id=name,
        model_sha=worker.fingerprint,
        model_dtype=worker.dtype,
        model_type=_model_type(worker),
        max_concurrent_requests=state.config.max_requests,
        max_input_length=worker.max_seq_len,
        max_batch_tokens=None,
        max_batch_requests=worker.max_batch_size,
        max_client_batch_size=state.config.max_batch,
        auto_truncate=state.config.truncate != "error",
        tokenization_workers=None,
        version=bertq.__version__,
        sha=None,
        docker_label=None,
    )


def _model_type(worker: WorkerInfo) -> dict[str, Any]:
    if worker.task == "score":
        labels = _labels(worker)
        names = {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }
        return {"reranker" if len(labels) == 1 else "classifier": names}
    pooling = "splade" if worker.task == "sparse" else worker.pooling_strategy
    return {"embedding": {"pooling": pooling}}


@router.get(
    "/health",
    response_model=HealthBody,
    responses=errors.responses(503, form=error_forms.TEI),
)
async def health(request: Request) -> HealthBody:
    """Report whether requests can be answered, as /readyz does."""
    _, reason = await probes.find_ready(State.of(request))
    if reason:
        raise Refused(503, f"not ready: {reason}")
    return HealthBody()


_AnyBody: TypeAlias = Annotated[
    dict[str, Any], Body(examples=[{"model": "all-MiniLM-L6-v2", "inputs": "first do it"}])
]


@router.post("/", response_model=Any, responses=_RESPONSES)
async def by_model(request: Request, body: _AnyBody) -> Response:
    """Answer as one of the other paths, by the body and the models that workers serve.

    This is what huggingface_hub's InferenceClient sends, if its model is the address.
    """
    if "query" in body:
        return await rerank.rerank_texts(request, parse(rerank.TeiRerankRequest, body))
    if isinstance(body.get("inputs"), dict):
        return await similarity(request, parse(SimilarityRequest, body))
    tasks = {worker.task for worker in await State.of(request).models.workers()}
    if "parameters" in body or tasks == {"score"}:
        return await predict(request, parse(PredictRequest, body))
    if tasks == {"sparse"}:
        return await embed_sparse(request, parse(EmbedSparseRequest, body))
    return await embed(request, parse(EmbedRequest, body))
