"""What is answered when something is wrong: in the shape of OpenAI's API, on every path."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from bertq.errors import (
    BadInput,
    BertqError,
    ClientClosed,
    NoWorker,
    QueueFull,
    RedisFull,
    RedisUnavailable,
    RemoteError,
    SentenceTooLong,
    Timeout,
)

#: Seconds after which it may be worth to ask again, for ``Retry-After``.
RETRY_AFTER = 2

#: Kinds of error by status, as OpenAI names them.
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}

#: Errors of a worker that are the caller's: pairs for a model that has none, tokens that are not
#: shown, ids that no vocabulary has, rows that the model does not give.
_OF_CALLER = {
    "BadInputValue", "BadInputType", "NoPairs", "BadIds", "UnknownPrompt", "UnsuitedRows",
}  # fmt: skip


class Fault(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: Fault


class Refused(Exception):
    """A request cannot be answered.

    Args:
        status: HTTP status.
        message: for the caller; names no sentence.
        code: for programs.
        param: the field of the request that is wrong.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def refused(error: BertqError) -> Refused:
    """Return what an error of the client is over HTTP."""
    statuses: list[tuple[type[BertqError], int, str]] = [
        (SentenceTooLong, 422, "sentence_too_long"),
        (BadInput, 422, "invalid_input"),
        (QueueFull, 429, "queue_full"),
        (NoWorker, 503, "no_worker"),
        (RedisUnavailable, 503, "redis_unavailable"),
        (RedisFull, 503, "redis_full"),
        (ClientClosed, 503, "shutting_down"),
        (Timeout, 504, "timeout"),
    ]
    for kind, status, code in statuses:
        if isinstance(error, kind):
            return Refused(status, str(error), code, "input" if status == 422 else None)
    if isinstance(error, RemoteError) and error.type_name in _OF_CALLER:
        return Refused(422, str(error), "invalid_input", "input")
    return Refused(500, str(error), type(error).__name__)


def body(status: int, message: str, code: str | None = None, param: str | None = None) -> Any:
    """Return an error as a plain value."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def headers(status: int) -> dict[str, str]:
    """Return the headers that go with a status."""
    if status in (429, 503):
        return {"Retry-After": str(RETRY_AFTER)}
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def responses(*statuses: int) -> Mapping[int | str, dict[str, Any]]:
    """Return the part of a route's OpenAPI that is about errors."""
    return {status: {"model": ErrorBody} for status in statuses}


async def on_refused(_request: Request, error: Exception) -> JSONResponse:
    """Answer a ``Refused`` or an error of the client."""
    known = refused(error) if isinstance(error, BertqError) else error
    assert isinstance(known, Refused)
    content = body(known.status, str(known), known.code, known.param)
    return JSONResponse(content, known.status, headers(known.status))


async def on_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Answer a body that is not of the right form, and repeat nothing of it."""
    assert isinstance(error, RequestValidationError)
    # Where a str or a list may stand, there is an error for each of the two.
    first = max(error.errors(), key=lambda found: found["type"] not in ("string_type", "list_type"))
    # Of the path to it: the field, and numbers of elements; a union has names of its own in it.
    path = first["loc"][1:]
    place = [str(part) for level, part in enumerate(path) if not level or isinstance(part, int)]
    where = ".".join(place) or "body"
    message = f"{where}: {first['msg']}"
    return JSONResponse(body(422, message, first["type"], where), 422)


async def on_http(_request: Request, error: Exception) -> JSONResponse:
    """Answer an unknown path, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    more = {**(error.headers or {}), **headers(error.status_code)}
    return JSONResponse(body(error.status_code, str(error.detail)), error.status_code, more)


async def on_gone(_request: Request, _error: Exception) -> JSONResponse:
    """Answer nobody; 499 is what nginx notes for it."""
    return JSONResponse(body(499, "the client is gone"), 499)
