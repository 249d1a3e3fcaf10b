"""Middleware before the routes: API keys, limits on requests, and errors of the gateway."""

import asyncio
import hmac
import time
from collections.abc import Iterable

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertq.errors import ClientClosed
from bertq_gateway import errors
from bertq_gateway.batches import files
from bertq_gateway.error_forms import Problem
from bertq_gateway.errors import Refused
from bertq_gateway.metrics import GatewayMetrics
from bertq_gateway.page import FILES_PATH

#: Folder of the manual's scripts and styles.
DOCS_FILES_PATH = "/docs/files"

#: Paths that need no key: the health checks and the API's manual.
OPEN_PATHS = frozenset({"/health", "/healthz", "/readyz", "/docs", "/openapi.json"})

#: Folders that need no key: the files of the manual and of the page.
_OPEN_FOLDERS = (f"{DOCS_FILES_PATH}/", f"{FILES_PATH}/")


#: Where files are uploaded, which may be larger than other bodies.
UPLOAD_PATH = "/v1/files"

#: Bytes of a form beside its file.
_FORM_BYTES = 64 * 1024

#: Bytes of an upload that must arrive within the time limit of other bodies.
_TIMED_UPLOAD_BYTES = 1024 * 1024


class HeadAsGet:
    """ASGI middleware that lets every path of GET accept HEAD; the server drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a HEAD request to the application as a GET request."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send)


class RequestGuard:
    """ASGI middleware that refuses a request before any of it is read into memory.

    Args:
        app: the application to guard.
        keys: API keys; if empty, requests need none.
        max_body_bytes: maximum size of a body.
        max_file_bytes: maximum size of a file that is uploaded; None if none can be.
        max_requests: maximum requests in progress.
        timeout_seconds: time limit for receiving a body; for an upload, each MiB of it.
        metrics: counts the requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Iterable[str],
        max_body_bytes: int,
        max_file_bytes: int | None,
        max_requests: int,
        timeout_seconds: float,
        metrics: GatewayMetrics,
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._max_body_bytes = max_body_bytes
        self._max_file_bytes = max_file_bytes
        self._max_requests = max_requests
        self._timeout_seconds = timeout_seconds
        self._metrics = metrics
        self._num_in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] != "http" or _is_open(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.request(scope, lambda: status):
            if refusal := self._refusal(scope):
                await refusal(scope, receive, send_noting_status)
                return
            self._num_in_progress += 1
            try:
                limited = self._limit_body(receive, scope["path"])
                await self._app(scope, limited, send_noting_status)
            finally:
                self._num_in_progress -= 1

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)

        def refuse(status: int, message: str, code: str | None) -> JSONResponse:
            return errors.response(scope["path"], Problem(status, message, code))

        if self._keys and not self._is_authorized(headers.get("authorization", "")):
            return refuse(
                401,
                "the API key is missing or wrong: send the header Authorization: Bearer KEY",
                "invalid_api_key",
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes(scope["path"]):
            too_large = self._too_large(scope["path"])
            return refuse(too_large.status, str(too_large), too_large.code)
        if self._num_in_progress >= self._max_requests:
            return refuse(
                429,
                f"{self._max_requests} requests are in progress: try again later",
                "too_many_requests",
            )
        return None

    def _is_authorized(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = key.strip().encode()
        # Compare with all keys, so that the time reveals nothing.
        found = [hmac.compare_digest(given, known) for known in self._keys]
        return scheme.lower() == "bearer" and any(found)

    def _max_bytes(self, path: str) -> int:
        if path == UPLOAD_PATH and self._max_file_bytes is not None:
            return self._max_file_bytes + _FORM_BYTES
        return self._max_body_bytes

    def _too_large(self, path: str) -> Refused:
        if path == UPLOAD_PATH and self._max_file_bytes is not None:
            return files.too_large(self._max_file_bytes)
        return Refused(
            413,
            f"the body is longer than {self._max_body_bytes} bytes: send it in several requests",
            "body_too_large",
        )

    def _limit_body(self, receive: Receive, path: str) -> Receive:
        """Return a ``receive`` that limits the size of the body, whatever its headers say, and the
        time until it has arrived.
        """
        max_bytes = self._max_bytes(path)
        started = time.monotonic()
        received = 0
        is_complete = False

        async def receive_in_time() -> Message:
            periods = 1 + received // _TIMED_UPLOAD_BYTES if path == UPLOAD_PATH else 1
            remaining = started + periods * self._timeout_seconds - time.monotonic()
            try:
                return await asyncio.wait_for(receive(), max(remaining, 0))
            except TimeoutError:
                # FastAPI catches other errors while it reads a body, but not this one.
                raise HTTPException(
                    408,
                    f"the body did not arrive within {self._timeout_seconds:g} s"
                    + (" for each MiB" if path == UPLOAD_PATH else ""),
                    headers={"Connection": "close"},  # the rest of the body may still arrive
                ) from None

        async def bounded() -> Message:
            nonlocal received, is_complete
            message = await (receive() if is_complete else receive_in_time())
            is_complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > max_bytes:
                too_large = self._too_large(path)
                raise too_large if path == UPLOAD_PATH else HTTPException(413, str(too_large))
            return message

        return bounded


class ErrorBoundary:
    """ASGI middleware that answers requests which fail because of a bug or the end of the drain.

    Otherwise the server answers in no API's form, and logs tracebacks, which may contain texts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, and answer it if that fails."""
        is_started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting_start)
        except asyncio.CancelledError:
            problem = errors.describe_outage(ClientClosed()).problem
        except Exception as error:
            problem = errors.describe_bug(error)
        else:
            return
        if not is_started:
            await errors.response(scope["path"], problem)(scope, receive, send)


def _is_open(method: str, path: str) -> bool:
    """Return whether a request needs no key; the page at ``/`` does not, and POST there does."""
    is_page = path == "/" and method == "GET"
    return is_page or path in OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
