"""``/v1/files``, as in OpenAI's API."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from bertq_gateway.batches import forms
from bertq_gateway.batches.files import FileObject
from bertq_gateway.batches.objects import ObjectList
from bertq_gateway.batches.service import Batches
from bertq_gateway.batches.storage import (
    DEFAULT_EXPIRY_SECONDS,
    MAX_EXPIRY_SECONDS,
    MIN_EXPIRY_SECONDS,
)
from bertq_gateway.errors import Refused, responses
from bertq_gateway.state import State

router = APIRouter(prefix="/v1", tags=["OpenAI: files and batches"])


class FileList(ObjectList[FileObject]):
    """Some of the files."""


class FileDeleted(BaseModel):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


_FileId = Annotated[
    str,
    Path(
        description="The id of a file.",
        openapi_examples={"file": {"value": "file-066158cf08abf244e7c8be0566e7a703"}},
    ),
]

#: A file with one request.
_EXAMPLE_FILE = (
    '{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", '
    '"body": {"model": "all-MiniLM-L6-v2", "input": "first do it"}}'
)

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
                            "description": f"Lines such as {_EXAMPLE_FILE}",
                        },
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": MIN_EXPIRY_SECONDS,
                            "maximum": MAX_EXPIRY_SECONDS,
                        },
                    },
                },
                "example": {"file": _EXAMPLE_FILE, "purpose": "batch"},
            }
        },
    }
}


@router.post(
    "/files",
    response_model=FileObject,
    responses=responses(401, 403, 404, 408, 413, 422, 429, 503, 507),
    openapi_extra=_UPLOAD_BODY,
)
async def upload_file(request: Request) -> FileObject:
    """Upload a file of requests, which is written to disk as it arrives."""
    batches = Batches.of(request)
    _refuse_other_sites(request)
    upload = await batches.serve(batches.store(request).files.begin_upload)
    try:
        form = await forms.receive(request, upload, batches.serve)
        expiry_seconds = _read_fields(form.fields)
        return await batches.serve(upload.finish, form.filename, expiry_seconds)
    finally:
        await batches.serve(upload.discard)


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
    if not MIN_EXPIRY_SECONDS <= found <= MAX_EXPIRY_SECONDS:
        raise Refused(
            422,
            f"expires_after: seconds must be {MIN_EXPIRY_SECONDS} to {MAX_EXPIRY_SECONDS}",
            param="expires_after",
        )
    return found


@router.get("/files", response_model=FileList, responses=responses(401, 404, 422, 429, 503))
async def list_files(
    request: Request,
    after: Annotated[str | None, Query(description="The id of the last file of a list.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Annotated[
        Literal["asc", "desc"], Query(description="By the time of creation.")
    ] = "desc",
    purpose: Annotated[str | None, Query(description="batch or batch_output.")] = None,
) -> FileList:
    """List files."""
    batches = Batches.of(request)
    store = batches.store(request).files
    found, has_more = await batches.serve(store.page, after, limit, purpose, order == "asc")
    return FileList.of(found, has_more)


@router.get(
    "/files/{file_id}", response_model=FileObject, responses=responses(401, 404, 422, 429, 503)
)
async def retrieve_file(request: Request, file_id: _FileId) -> FileObject:
    """Describe a file."""
    batches = Batches.of(request)
    return await batches.serve(batches.store(request).files.find, file_id)


class _Download(FileResponse):
    """A response with a file, or with the part of it that the header Range asks for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file.

        Raises:
            HTTPException: the file does not have this part.
        """

        async def send_or_refuse(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                size = self.headers["content-length"]
                raise HTTPException(
                    416,
                    f"Range: it must be bytes=FIRST-LAST, and the file has {size} bytes",
                    {"Content-Range": f"bytes */{size}"},
                )
            await send(message)

        await super().__call__(scope, receive, send_or_refuse)


@router.get(
    "/files/{file_id}/content",
    response_class=FileResponse,
    responses={
        200: {"description": "The file", "content": {"application/jsonl": {}}},
        **responses(401, 404, 416, 422, 429, 503),
    },
)
async def retrieve_content(request: Request, file_id: _FileId) -> Response:
    """Download a file."""
    batches = Batches.of(request)
    store = batches.store(request).files
    status = await batches.serve(store.stat_content, file_id)
    return _Download(store.path(file_id), media_type="application/jsonl", stat_result=status)


@router.delete(
    "/files/{file_id}",
    response_model=FileDeleted,
    responses=responses(400, 401, 404, 422, 429, 503),
)
async def delete_file(request: Request, file_id: _FileId) -> FileDeleted:
    """Delete a file, unless a batch reads it."""
    batches = Batches.of(request)
    await batches.serve(batches.store(request).delete_file, file_id)
    return FileDeleted(id=file_id)
