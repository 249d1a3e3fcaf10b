"""The forms of error responses: each API has its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Problem:
    """An error, before it has the form of an API.

    Attributes:
        status: HTTP status in OpenAI's API.
        message: message for the caller.
        code: code of the error, for programs.
        param: the invalid field of the request.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True)
class Form:
    """How an API answers with an error.

    Attributes:
        body: returns the body for a problem and the status of the response.
        model: the model of the body, for the OpenAPI description.
        statuses: the statuses that differ from OpenAI's, by these or by the code of the error.
    """

    body: Callable[[Problem, int], Any]
    model: type[BaseModel]
    statuses: Mapping[int | str, int] = field(default_factory=dict)


class Fault(BaseModel):
    """The description of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of an error response, as in OpenAI's API."""

    error: Fault


#: OpenAI's names of kinds of errors, by status.
_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def _openai(problem: Problem, status: int) -> Any:
    default = "invalid_request_error" if status < 500 else "server_error"
    fault = {
        "message": problem.message, "type": _OPENAI_TYPES.get(status, default),
        "param": problem.param, "code": problem.code,
    }  # fmt: skip
    return {"error": fault}


class TeiErrorBody(BaseModel):
    """The body of an error response, as in text-embeddings-inference."""

    error: str
    error_type: str


#: The kinds of errors of text-embeddings-inference, by status.
_TEI_TYPES = {
    401: "unauthorized", 404: "not_found", 405: "validation", 413: "validation",
    422: "validation", 424: "backend", 429: "overloaded", 503: "unhealthy",
}  # fmt: skip


def _tei(problem: Problem, status: int) -> Any:
    kind = "empty" if problem.code == "too_short" else _TEI_TYPES.get(status, "validation")
    return {"error": problem.message, "error_type": kind}


class MessageBody(BaseModel):
    """The body of an error response, as in the APIs of Cohere (message), Jina, Voyage (detail)."""

    message: str
    detail: str


def _message(problem: Problem, status: int) -> Any:
    return {"message": problem.message, "detail": problem.message}


OPENAI = Form(_openai, ErrorBody)
TEI = Form(
    _tei,
    TeiErrorBody,
    {500: 424, 504: 424, "too_short": 400, "sentence_too_long": 413},
)
MESSAGE = Form(_message, MessageBody, {413: 400, 422: 400})

#: The forms of paths that do not have OpenAI's.
_FORMS = {
    "/": TEI, "/embed": TEI, "/embed_all": TEI, "/embed_sparse": TEI, "/predict": TEI,
    "/rerank": TEI, "/similarity": TEI, "/tokenize": TEI, "/decode": TEI, "/info": TEI,
    "/health": TEI,
    "/v1/embed": MESSAGE, "/v2/embed": MESSAGE, "/v1/rerank": MESSAGE, "/v2/rerank": MESSAGE,
}  # fmt: skip


def of(path: str) -> Form:
    """Return the form of errors on a path."""
    return _FORMS.get(path, OPENAI)
