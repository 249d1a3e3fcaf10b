"""``/v1/batches``, as in OpenAI's API."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import ConfigDict, Field, StringConstraints

from bertq_gateway.apis.fields import LenientFields, LenientRequest
from bertq_gateway.batches.objects import ENDPOINT, BatchObject, ObjectList
from bertq_gateway.batches.service import Batches
from bertq_gateway.batches.storage import (
    DEFAULT_EXPIRY_SECONDS,
    MAX_EXPIRY_SECONDS,
    MIN_EXPIRY_SECONDS,
)
from bertq_gateway.errors import Refused, responses
from bertq_gateway.state import State

router = APIRouter(prefix="/v1", tags=["OpenAI: files and batches"])

_BatchId = Annotated[
    str,
    Path(
        description="The id of a batch.",
        openapi_examples={"batch": {"value": "batch_066158cf1b6a4b3f001e7d4ccf90e842"}},
    ),
]

#: Maximum hours that a batch may take.
_MAX_WINDOW_HOURS = 30 * 24


class BatchList(ObjectList[BatchObject]):
    """Some of the batches, the latest first."""


class ExpiresAfter(LenientFields):
    """When a file is deleted."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)


class CreateBatchRequest(LenientRequest):
    """A batch to run."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "input_file_id": "file-066158cf08abf244e7c8be0566e7a703",
                "endpoint": ENDPOINT,
                "completion_window": "24h",
                "metadata": {"corpus": "bible"},
            }
        },
    )

    input_file_id: str = Field(description="A file of the purpose batch.")
    endpoint: Literal["/v1/embeddings"]
    completion_window: str = Field(
        description="The time until the batch expires: 24h, or another number of hours up to "
        f"{_MAX_WINDOW_HOURS}h."
    )
    metadata: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(max_length=64)],
                Annotated[str, StringConstraints(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = Field(None, description="Any strings: the batch has the same.")
    output_expires_after: ExpiresAfter | None = Field(
        None, description="When its files are deleted; after 30 days by default."
    )

    @property
    def window_seconds(self) -> int:
        """Seconds until the batch expires.

        Raises:
            Refused: the window is invalid.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,3})h", self.completion_window)
        if found is None or int(found[1]) > _MAX_WINDOW_HOURS:
            raise Refused(
                422,
                f"completion_window must be 24h, or another number of hours up to "
                f"{_MAX_WINDOW_HOURS}h",
                param="completion_window",
            )
        return 3600 * int(found[1])


@router.post(
    "/batches",
    response_model=BatchObject,
    responses=responses(400, 401, 404, 413, 422, 429, 503, 507),
)
async def create_batch(request: Request, body: CreateBatchRequest) -> BatchObject:
    """Create a batch of the requests of a file."""
    batches = Batches.of(request)
    body.check_fields(State.of(request))
    expires = body.output_expires_after
    found = await batches.serve(
        batches.store(request).create,
        body.input_file_id,
        body.completion_window,
        body.window_seconds,
        DEFAULT_EXPIRY_SECONDS if expires is None else expires.seconds,
        body.metadata,
    )
    batches.wake()
    return found


@router.get("/batches", response_model=BatchList, responses=responses(401, 404, 422, 429, 503))
async def list_batches(
    request: Request,
    after: Annotated[str | None, Query(description="The id of the last batch of a list.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """List batches, the latest first."""
    batches = Batches.of(request)
    found, has_more = await batches.serve(batches.store(request).page, after, limit)
    return BatchList.of(found, has_more)


@router.get(
    "/batches/{batch_id}", response_model=BatchObject, responses=responses(401, 404, 422, 429, 503)
)
async def retrieve_batch(request: Request, batch_id: _BatchId) -> BatchObject:
    """Describe a batch."""
    batches = Batches.of(request)
    return await batches.serve(batches.store(request).find, batch_id)


@router.post(
    "/batches/{batch_id}/cancel",
    response_model=BatchObject,
    responses=responses(400, 401, 404, 422, 429, 503, 507),
)
async def cancel_batch(request: Request, batch_id: _BatchId) -> BatchObject:
    """Cancel a batch; its files have the requests that were answered."""
    batches = Batches.of(request)
    found = await batches.serve(batches.store(request).cancel, batch_id)
    batches.wake()
    return found
