"""Errors over HTTP, each in the form of the API that its path belongs to."""

import logging
import math
import os
import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

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
from bertq.protocol import surrogates
from bertq.state import purge
from bertq_gateway import error_forms
from bertq_gateway.error_forms import Problem

log = logging.getLogger("bertq.gateway")

#: Seconds after which a client may try again, for ``Retry-After``.
RETRY_AFTER_SECONDS = 2

#: Most numbers of texts that an error or a header lists.
MAX_LISTED_ROWS = 100

#: Most characters of a field's name in an error.
MAX_PARAM_CHARACTERS = 100

#: The methods that paths accept.
_METHODS = ("GET", "POST", "DELETE")

#: Fields inside of other fields. All other names in the path of an error are those of types.
_NESTED_FIELDS = {
    "text", "source_sentence", "sentences", "truncate", "truncation_direction", "prompt_name",
}  # fmt: skip

#: Errors of a value that must be an object.
_OBJECT_ERRORS = {"dict_type", "model_type", "model_attributes_type"}

#: Errors of a wrong type, of which a field with several types has one for each.
_TYPE_ERRORS = {"string_type", "int_type", "bool_type", "list_type", *_OBJECT_ERRORS}

#: The beginning of their messages.
_EXPECTED = "Input should be "

#: Worker errors that the caller has caused: pairs for a model without pairs, tokens that may not be
#: shown, ids outside of the vocabulary, rows that the model does not give.
_CALLER_ERRORS = {
    "BadInputValue", "BadInputType", "NoPairs", "BadIds", "UnknownPrompt", "UnsuitedRows",
}  # fmt: skip


#: Errors that no caller has caused: the status, the code, and the message for callers.
_OUTAGES: list[tuple[type[BertqError], int, str, str]] = [
    (QueueFull, 429, "queue_full", "too many requests are waiting: try again later"),
    (NoWorker, 503, "no_worker", "no worker is alive that has the model: try again later"),
    (RedisUnavailable, 503, "redis_unavailable", "the queue cannot be reached: try again later"),
    (RedisFull, 503, "redis_full", "the queue takes no more requests: try again later"),
    (ClientClosed, 503, "shutting_down", "the gateway is stopping: send the request again"),
    (Timeout, 504, "timeout", "no answer in time: send fewer texts at once, or try again later"),
]

#: Seconds between two log lines about errors of one kind.
_LOG_INTERVAL_SECONDS = 60.0


class Refused(Exception):
    """The gateway cannot answer a request.

    Args:
        status: HTTP status.
        message: message for the caller; contains no sentence.
        code: error code, for programs.
        param: the invalid field of the request.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    @property
    def problem(self) -> Problem:
        """The error before it has the form of an API."""
        return Problem(self.status, str(self), self.code, self.param)


class ClientDisconnected(Exception):
    """The caller disconnected before the answer."""


def to_refused(
    error: BertqError,
    field: str = "input",
    prompt_field: str = "input",
    *,
    rows_field: str = "output_dtype",
    name_text: Callable[[int], str] | None = None,
) -> Refused:
    """Return the HTTP error for an error of the client.

    Args:
        error: the error.
        field: the request's field with the texts.
        prompt_field: the request's field with the name of the prompt.
        rows_field: the request's field with the kind of rows.
        name_text: returns the name of a text, for its index; by default ``field[index]``.
    """
    name = name_text or f"{field}[{{}}]".format
    if isinstance(error, SentenceTooLong):
        return Refused(422, _describe_long_texts(error, name), "sentence_too_long", field)
    if isinstance(error, BadInput):
        message = re.sub(r"^texts\[(\d+)\]", lambda found: name(int(found[1])), str(error))
        message = re.sub(r"^texts\b", field, message)
        param = prompt_field if message.startswith(f"{prompt_field} ") else field
        return Refused(422, message, "invalid_input", param)
    if isinstance(error, RemoteError) and error.type_name in _CALLER_ERRORS:
        params = {"UnknownPrompt": prompt_field, "UnsuitedRows": rows_field}
        param = params.get(error.type_name, field)
        message = str(error).removeprefix(f"{error.type_name}: ")
        return Refused(422, message, "invalid_input", param)
    refusal = describe_outage(error)
    _reasons.log(str(refusal.code), error)
    return refusal


def describe_outage(error: BertqError) -> Refused:
    """Return the HTTP error for an error that no caller has caused.

    Its message names no address, queue, path or version: the error's own message is for the log.
    """
    for kind, status, code, message in _OUTAGES:
        if isinstance(error, kind):
            return Refused(status, message, code)
    if isinstance(error, RemoteError) and error.type_name == purge.ERROR_NAME:
        return Refused(503, "the request was removed from the queue: send it again", "purged")
    code = type(error).__name__
    return Refused(500, f"the request failed ({code}); the gateway has logged the reason", code)


class _Reasons:
    """Logs why requests fail, one line a minute for each kind of error."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}  # by the code of the error, monotonic

    def log(self, code: str, error: BertqError) -> None:
        """Log the reason of an error, unless the same kind has been logged lately."""
        now = time.monotonic()
        if now - self._logged_at.get(code, -math.inf) >= _LOG_INTERVAL_SECONDS:
            self._logged_at[code] = now
            log.error("requests fail (%s): %s", code, error)


_reasons = _Reasons()


def _describe_long_texts(error: SentenceTooLong, name_text: Callable[[int], str]) -> str:
    """Return the message about texts with too many tokens."""
    listed = ", ".join(map(name_text, error.rows[:MAX_LISTED_ROWS]))
    more = len(error.rows) - MAX_LISTED_ROWS
    texts = f"{listed} and {more} more" if more > 0 else listed
    verb = "has" if len(error.rows) == 1 else "have"
    return (
        f"{texts} {verb} more tokens than the {error.max_seq_len} that the model reads, special "
        "tokens included: shorten the texts, or let them be cut (truncate)"
    )


def headers(status: int) -> dict[str, str]:
    """Return the additional headers for a status."""
    if status in (429, 503):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def response(path: str, problem: Problem, more_headers: Mapping[str, str] = {}) -> JSONResponse:
    """Return the response for an error on a path, in the form of the path's API."""
    form = error_forms.of(path)
    status = form.statuses.get(
        problem.code or "", form.statuses.get(problem.status, problem.status)
    )
    problem = replace(
        problem,
        message=surrogates.drop(problem.message),
        param=None if problem.param is None else surrogates.drop(problem.param),
    )
    return JSONResponse(
        form.body(problem, status), status, {**more_headers, **headers(problem.status)}
    )


def responses(
    *statuses: int, form: error_forms.Form = error_forms.OPENAI
) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route, for its OpenAPI description."""
    return {form.statuses.get(status, status): {"model": form.model} for status in statuses}


async def on_refused(request: Request, error: Exception) -> JSONResponse:
    """Answer with the HTTP error for a ``Refused`` or an error of the client."""
    if isinstance(error, BertqError):
        field = getattr(request.state, "field", "input")
        error = to_refused(
            error,
            field,
            getattr(request.state, "prompt_field", field),
            rows_field=getattr(request.state, "rows_field", "output_dtype"),
            name_text=getattr(request.state, "name_text", None),
        )
    assert isinstance(error, Refused)
    return response(request.url.path, error.problem)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer a malformed body, without repeating any of it."""
    assert isinstance(error, RequestValidationError)
    return response(request.url.path, describe_invalid(error, is_json=_is_json(request)))


def describe_invalid(error: RequestValidationError, *, is_json: bool = True) -> Problem:
    """Return the problem of a malformed body.

    Args:
        error: the error.
        is_json: whether the body was sent as JSON.
    """
    path, first, reason = _find_relevant(error.errors())
    # The name of an unknown field may be of any length.
    param = "".join(path).removeprefix(".")[:MAX_PARAM_CHARACTERS] or "body"
    if first["type"] == "json_invalid":
        param, reason = "body", f"no JSON at character {first['loc'][-1]}: {first['ctx']['error']}"
    elif first["type"] in _OBJECT_ERRORS:
        reason = "it must be an object" if path else "it must be a JSON object"
        if not path and not is_json:
            reason += ", sent with the header Content-Type: application/json"
    return Problem(422, f"{param}: {reason}", first["type"], param)


def _find_relevant(found: Iterable[Any]) -> tuple[list[str], Any, str]:
    """Return the path, the error and the reason for the part of a body that is wrong.

    A field with several types has errors for each of them: the type that fits best is the one whose
    first error is about more than a type, or lies deepest, or comes last.
    """
    first_errors: dict[tuple[Any, ...], tuple[list[str], Any]] = {}
    for one in found:
        path = _path(one["loc"])
        kind = tuple(part for part in one["loc"][2:] if isinstance(part, str))
        first_errors.setdefault((*one["loc"][:2], *kind), (path, one))
    path, error = max(
        first_errors.values(),
        key=lambda one: (one[1]["type"] not in _TYPE_ERRORS, len(one[0]), _indices(one[1])),
    )
    if error["type"] not in _TYPE_ERRORS:
        return path, error, error["msg"]
    expected = [
        "an object" if one["type"] in _OBJECT_ERRORS else one["msg"].removeprefix(_EXPECTED)
        for place, one in first_errors.values()
        if place == path and one["type"] in _TYPE_ERRORS
    ]
    return path, error, _EXPECTED + " or ".join(dict.fromkeys(expected))


def _indices(error: Any) -> list[int]:
    return [part for part in error["loc"] if isinstance(part, int)]


def _path(location: Sequence[int | str]) -> list[str]:
    """Return the parts of a location that name a field or an element, as in ``texts[1]``."""
    return [
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for level, part in enumerate(location[1:])
        if not level or isinstance(part, int) or part in _NESTED_FIELDS
    ]


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.startswith("application/") and kind.endswith("json")


async def on_http(request: Request, error: Exception) -> JSONResponse:
    """Answer a request for an unknown path, with a wrong method, or with an unreadable body."""
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 400:
        coding = "content-encoding" in request.headers
        message = "the body cannot be read: it must be JSON in UTF-8" + (
            ", without a Content-Encoding" if coding else ", not nested deeply"
        )
    elif error.status_code == 404:
        message = "no such path: /docs lists all"
    elif error.status_code == 405:
        allowed = _find_other_methods(request) or "GET"  # of a file
        message = f"{request.method} is not allowed here: use {allowed}"
        return response(request.url.path, Problem(405, message), {"Allow": allowed})
    return response(request.url.path, Problem(error.status_code, message), error.headers or {})


def _find_other_methods(request: Request) -> str:
    """Return the methods that a path accepts; each may have a route of its own."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    methods = [
        method
        for method in _METHODS
        if method != request.method
        and any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]
    return ", ".join(methods)


def describe_bug(error: Exception) -> Problem:
    """Log an error that nothing expects, and return the problem for the caller."""
    log.error("a request failed: %s", _describe_place(error))
    message = "the gateway failed because of a bug; its log has the reason"
    return Problem(500, message, "internal_error")


def _describe_place(error: Exception) -> str:
    """Return where bertq's code has failed, without messages that may contain a text."""
    reason = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        path = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        reason += f" ({error.strerror}{path})"
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [one for one in frames if one[0].f_globals.get("__name__", "").startswith("bertq")]
    frame, line = (own or frames)[-1]
    file = Path(frame.f_code.co_filename).name
    return f"{reason} in {frame.f_code.co_name}, {file}, line {line}"


async def on_disconnected(request: Request, _error: Exception) -> JSONResponse:
    """Answer a disconnected caller; 499 is the status that nginx logs in this case."""
    return response(request.url.path, Problem(499, "the client disconnected"))
