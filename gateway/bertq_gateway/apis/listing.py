"""``/v1/models``: the models of the workers, as in OpenAI's API, with a description."""

from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from bertq.state.worker_info import WorkerInfo
from bertq_gateway.errors import responses
from bertq_gateway.models import Models
from bertq_gateway.state import State

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class ListedModel(BaseModel):
    """A model that workers serve."""

    id: str = Field(description="Its name, or an alias of it.")
    object: Literal["model"] = "model"
    alias_of: str | None = Field(description="If the id is an alias: the name of its model.")
    created: int
    owned_by: str
    description: str = Field(description="Pooling, length, normalization and prompts, in words.")
    task: str = Field(
        description="embed: vectors; score: one number for each label; sparse: one number for "
        "each token of the vocabulary."
    )
    dimensions: int | None = Field(description="Numbers in a vector.")
    max_input_tokens: int = Field(
        description="Tokens that are read of a text, special ones and the prompt included."
    )
    normalized: bool = Field(description="Whether vectors have length 1 by default.")
    prompts: list[str] = Field(description="Names of the model's prompts.")
    default_prompt: str | None = Field(
        description="Name of the prompt of a request that names none."
    )
    similarity: str | None = Field(
        description="How to compare two vectors, if the model's authors say so: cosine, dot, "
        "euclidean or manhattan."
    )
    labels: list[str] = Field(description="Names of the labels of the task score.")


class ModelList(BaseModel):
    """The list of all models."""

    object: Literal["list"] = "list"
    data: list[ListedModel]


@router.get("/models", response_model=ModelList, responses=responses(401, 429, 503))
async def models(request: Request) -> ModelList:
    """List the models that workers serve."""
    found = await State.of(request).models.listed()
    return ModelList(data=[_entry(name, worker) for name, worker in sorted(found.items())])


#: With a value to begin with in the manual.
_ModelName: TypeAlias = Annotated[
    str, Path(openapi_examples={"served": {"value": "all-MiniLM-L6-v2"}})
]


@router.get(
    "/models/{model:path}",
    response_model=ListedModel,
    responses=responses(401, 404, 429, 503),
)
async def model(request: Request, model: _ModelName) -> ListedModel:
    """Describe one model."""
    found = await State.of(request).models.listed()
    if model not in found:
        raise Models.unknown(found)
    return _entry(model, found[model])


def _entry(name: str, worker: WorkerInfo) -> ListedModel:
    return ListedModel(
        id=name,
        alias_of=None if name == worker.public_name else worker.public_name,
        created=int(worker.started),
        owned_by="bertq",
        description=worker.meaning,
        task=worker.task,
        dimensions=worker.row_shape[-1] if worker.row_shape else None,
        max_input_tokens=worker.max_seq_len,
        normalized=worker.normalized,
        prompts=worker.prompts,
        default_prompt=worker.default_prompt,
        similarity=worker.similarity,
        labels=worker.labels,
    )
