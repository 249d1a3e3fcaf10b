"""``/v1/files`` and ``/v1/batches``, as in OpenAI's API."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bertq_gateway.apis.fields import LenientRequest
from bertq_gateway.batches import forms
from bertq_gateway.batches.files import FileObject, Purpose
from bertq_gateway.batches.objects import ENDPOINT, BatchObject
from bertq_gateway.batches.service import Batches
from bertq_gateway.batches.storage import DEFAULT_EXPIRY_SECONDS
from bertq_gateway.errors import Refused, responses
from bertq_gateway.state import State

router = APIRouter(prefix="/v1", tags=["OpenAI: files and batches"])

#: Bounds of the time that a file is stored, as in OpenAI's API.
_MIN_EXPIRY_SECONDS, _MAX_EXPIRY_SECONDS = 3600, DEFAULT_EXPIRY_SECONDS

#: Maximum hours that a batch may take.
_MAX_WINDOW_HOURS = 30 * 24

_FILE_ID = "file-00064a4f5c1a2b3c9f86d081884c7d659a"


class FileList(BaseModel):
    """Some of the files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Whether there are more: send after=LAST_ID for them.")


class FileDeleted(BaseModel):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class BatchList(BaseModel):
    """Some of the batches, the latest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Whether there are more: send after=LAST_ID for them.")


class ExpiresAfter(BaseModel):
    """When a file is deleted."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=_MIN_EXPIRY_SECONDS, le=_MAX_EXPIRY_SECONDS)


class CreateBatchRequest(LenientRequest):
    """A batch to run."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "input_file_id": _FILE_ID,
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


#: The body of an upload, which FastAPI does not read.
_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "Lines such as "
                            '{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", '
                            '"body": {"model": "all-MiniLM-L6-v2", "input": "first do it"}}',
                        },
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": _MIN_EXPIRY_SECONDS,
                            "maximum": _MAX_EXPIRY_SECONDS,
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "/files",
    response_model=FileObject,
    responses=responses(401, 403, 404, 413, 422, 429, 507),
    openapi_extra=_UPLOAD_BODY,
)
async def upload_file(request: Request) -> FileObject:
    """Upload a file of requests, which is written to disk as it arrives."""
    batches = Batches.of(request)
    _refuse_other_sites(request)
    upload = await batches.run(batches.store(request).files.begin_upload)
    try:
        form = await forms.receive(request, upload, batches.run)
        expiry_seconds = _read_fields(form.fields)
        return await batches.run(upload.finish, form.filename, expiry_seconds)
    finally:
        await batches.run(upload.discard)


def _refuse_other_sites(request: Request) -> None:
    """Refuse uploads of web pages that --cors does not allow: browsers send forms without asking.

    Raises:
        Refused: it is such a page.
    """
    allowed = State.of(request).config.cors
    is_other = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if is_other and not {"*", request.headers.get("origin")}.intersection(allowed):
        raise Refused(403, "web pages of this origin are not allowed: see --cors", "origin")


def _read_fields(fields: dict[str, str]) -> int:
    """Check the fields of an upload, and return for how many seconds to store the file.

    Raises:
        Refused: a field is invalid.
    """
    if fields.get("purpose") != "batch":
        raise Refused(422, "purpose: it must be batch", param="purpose")
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return DEFAULT_EXPIRY_SECONDS
    if anchor != "created_at":
        raise Refused(422, "expires_after: anchor must be created_at", param="expires_after")
    found = int(seconds) if seconds and re.fullmatch("[0-9]{1,9}", seconds) else 0
    if not _MIN_EXPIRY_SECONDS <= found <= _MAX_EXPIRY_SECONDS:
        raise Refused(
            422,
            f"expires_after: seconds must be {_MIN_EXPIRY_SECONDS} to {_MAX_EXPIRY_SECONDS}",
            param="expires_after",
        )
    return found


@router.get("/files", response_model=FileList, responses=responses(401, 404, 422, 429))
async def list_files(
    request: Request,
    after: Annotated[str | None, Query(description="The id of the last file of a list.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Annotated[
        Literal["asc", "desc"], Query(description="By the time of creation.")
    ] = "desc",
    purpose: Purpose | None = None,
) -> FileList:
    """List files."""
    batches = Batches.of(request)
    store = batches.store(request).files
    found, has_more = await batches.run(store.page, after, limit, purpose, order == "asc")
    first_id, last_id = _ends(found)
    return FileList(data=found, first_id=first_id, last_id=last_id, has_more=has_more)


@router.get("/files/{file_id}", response_model=FileObject, responses=responses(401, 404, 422, 429))
async def retrieve_file(request: Request, file_id: str) -> FileObject:
    """Describe a file."""
    batches = Batches.of(request)
    return await batches.run(batches.store(request).files.find, file_id)


@router.get(
    "/files/{file_id}/content",
    response_class=FileResponse,
    responses={
        200: {"description": "The file", "content": {"application/jsonl": {}}},
        **responses(401, 404, 422, 429),
    },
)
async def retrieve_content(request: Request, file_id: str) -> Response:
    """Download a file."""
    batches = Batches.of(request)
    store = batches.store(request).files
    await batches.run(store.find, file_id)
    return FileResponse(store.path(file_id), media_type="application/jsonl")


@router.delete(
    "/files/{file_id}", response_model=FileDeleted, responses=responses(400, 401, 404, 422, 429)
)
async def delete_file(request: Request, file_id: str) -> FileDeleted:
    """Delete a file, unless a batch reads it."""
    batches = Batches.of(request)
    await batches.run(batches.store(request).delete_file, file_id)
    return FileDeleted(id=file_id)


@router.post(
    "/batches", response_model=BatchObject, responses=responses(400, 401, 404, 413, 422, 429, 507)
)
async def create_batch(request: Request, body: CreateBatchRequest) -> BatchObject:
    """Create a batch of the requests of a file."""
    batches = Batches.of(request)
    body.check_fields(State.of(request))
    expires = body.output_expires_after
    found = await batches.run(
        batches.store(request).create,
        body.input_file_id,
        body.completion_window,
        body.window_seconds,
        DEFAULT_EXPIRY_SECONDS if expires is None else expires.seconds,
        body.metadata,
    )
    batches.wake()
    return found


@router.get("/batches", response_model=BatchList, responses=responses(401, 404, 422, 429))
async def list_batches(
    request: Request,
    after: Annotated[str | None, Query(description="The id of the last batch of a list.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """List batches, the latest first."""
    batches = Batches.of(request)
    found, has_more = await batches.run(batches.store(request).page, after, limit)
    first_id, last_id = _ends(found)
    return BatchList(data=found, first_id=first_id, last_id=last_id, has_more=has_more)


@router.get(
    "/batches/{batch_id}", response_model=BatchObject, responses=responses(401, 404, 422, 429)
)
async def retrieve_batch(request: Request, batch_id: str) -> BatchObject:
    """Describe a batch."""
    batches = Batches.of(request)
    return await batches.run(batches.store(request).find, batch_id)


@router.post(
    "/batches/{batch_id}/cancel",
    response_model=BatchObject,
    responses=responses(400, 401, 404, 422, 429, 507),
)
async def cancel_batch(request: Request, batch_id: str) -> BatchObject:
    """Cancel a batch; its files have the requests that were answered."""
    batches = Batches.of(request)
    found = await batches.run(batches.store(request).cancel, batch_id)
    batches.wake()
    return found


def _ends(found: Sequence[FileObject | BatchObject]) -> tuple[str | None, str | None]:
    return (found[0].id, found[-1].id) if found else (None, None)
