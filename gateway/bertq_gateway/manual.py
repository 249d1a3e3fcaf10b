"""The OpenAPI document at ``/openapi.json``, whose examples name models that workers serve."""

import json
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response

from bertq.errors import BertqError
from bertq.state.worker_info import WorkerInfo
from bertq_gateway.state import State

DOCUMENT_PATH = "/openapi.json"

#: The models in the examples of routes, by what they return.
EXAMPLE_MODELS = {
    "vectors": "all-MiniLM-L6-v2",
    "token vectors": "bert-base-uncased",
    "sparse rows": "splade-v3",
    "scores of pairs": "ms-marco-MiniLM-L6-v2",
    "scores of labels": "toxic-bert",
}

router = APIRouter()


@router.get(DOCUMENT_PATH, include_in_schema=False)
async def document(request: Request) -> Response:
    """Return the OpenAPI document, with names of models that the caller can send."""
    try:
        served = list((await State.of(request).models.names()).values())
    except BertqError:
        served = []
    text = json.dumps(request.app.openapi(), ensure_ascii=False)
    for kind, name in _names_by_kind(served).items():
        text = text.replace(json.dumps(EXAMPLE_MODELS[kind]), json.dumps(name))
    return Response(text, media_type="application/json")


def _names_by_kind(workers: Iterable[WorkerInfo]) -> dict[str, str]:
    """Return the name of the first model that returns each kind of rows."""
    names: dict[str, str] = {}
    for worker in workers:
        names.setdefault(_kind(worker), worker.public_name)
    return names


def _kind(worker: WorkerInfo) -> str:
    if worker.task == "embed":
        return "vectors" if len(worker.row_shape) == 1 else "token vectors"
    if worker.task == "sparse":
        return "sparse rows"
    return "scores of pairs" if worker.row_shape == [1] else "scores of labels"
