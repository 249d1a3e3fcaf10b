"""Answers: waiting for vectors while the caller may disconnect, and writing JSON."""

import asyncio
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.types import Message

from bertq import EncodeFuture
from bertq_gateway.errors import ClientDisconnected

#: Numbers up to which an answer is written on the event loop; larger ones take another thread.
_MAX_INLINE_NUMBERS = 20_000


async def vectors(request: Request, future: EncodeFuture) -> Any:
    """Return the result of a future; cancel the future if the caller disconnects first.

    Raises:
        ClientDisconnected: the caller has disconnected.
        BertqError: the error of the request.
    """
    result = asyncio.ensure_future(_result(future))
    disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((result, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientDisconnected
        return result.result()
    finally:
        result.cancel()  # also cancels an unanswered request
        disconnect.cancel()


async def _result(future: EncodeFuture) -> Any:
    return await future


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the connection is closed; the body must have been read before."""
    while True:
        message: Message = await request.receive()
        if message["type"] == "http.disconnect":
            return


async def write(content: Any, numbers: int) -> Response:
    """Return an answer as JSON; arrays become lists of numbers.

    Args:
        content: plain values and arrays.
        numbers: how many numbers the content has: a large answer must not delay other requests.
    """
    is_small = numbers < _MAX_INLINE_NUMBERS
    text = _dumps(content) if is_small else await asyncio.to_thread(_dumps, content)
    return Response(text, media_type="application/json")


def _dumps(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
