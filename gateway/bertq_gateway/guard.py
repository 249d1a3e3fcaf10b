"""Middleware before the routes: API keys, and limits on requests."""

import hmac
from collections.abc import Iterable

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertq_gateway import errors
from bertq_gateway.metrics import GatewayMetrics

#: Paths that need no key: the health checks and the API's manual.
OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})


class Guard:
    """ASGI middleware that refuses a request before any of it is read into memory.

    Args:
        app: the application to guard.
        keys: API keys; if empty, requests need none.
        max_body: maximum bytes of a body.
        max_requests: maximum requests in progress.
        metrics: counts the requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Iterable[str],
        max_body: int,
        max_requests: int,
        metrics: GatewayMetrics,
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._max_body = max_body
        self._max_requests = max_requests
        self._metrics = metrics
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        answered = 0

        async def note(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
            await send(message)

        with self._metrics.request(scope, lambda: answered):
            if refusal := self._refusal(scope):
                await refusal(scope, receive, note)
                return
            self._under_way += 1
            try:
                await self._app(scope, self._bounded(receive), note)
            finally:
                self._under_way -= 1

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._keys and not self._knows(headers.get("authorization", "")):
            return _answer(401, "give an API key: Authorization: Bearer KEY", "invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body:
            return _answer(413, self._too_large(), "body_too_large")
        if self._under_way >= self._max_requests:
            return _answer(
                429,
                f"{self._max_requests} requests are under way: try again later",
                "too_many_requests",
            )
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = key.strip().encode()
        # Compare with all keys, so that the time reveals nothing.
        found = [hmac.compare_digest(given, known) for known in self._keys]
        return scheme.lower() == "bearer" and any(found)

    def _too_large(self) -> str:
        return f"the body is longer than {self._max_body} bytes: send it in several requests"

    def _bounded(self, receive: Receive) -> Receive:
        """Return a ``receive`` that limits the body, regardless of the length in the headers."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body:
                # FastAPI catches other errors while it reads a body, but not this one.
                raise HTTPException(413, self._too_large())
            return message

        return bounded


def _answer(status: int, message: str, code: str) -> JSONResponse:
    return JSONResponse(errors.body(status, message, code), status, errors.headers(status))
