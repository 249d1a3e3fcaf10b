"""Waiting for vectors on behalf of a caller who may go away, and writing them as JSON."""

import asyncio
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.types import Message

from bertq import EncodeFuture
from bertq_gateway.errors import ClientGone

#: Numbers in an answer from which on it is written on another thread.
_LARGE = 20_000


async def vectors(request: Request, future: EncodeFuture) -> Any:
    """Return what a future brings; cancel it where the caller hangs up first.

    Raises:
        ClientGone: the caller did.
        BertqError: the request's own error.
    """
    coming = asyncio.ensure_future(_result(future))
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise ClientGone
        return coming.result()
    finally:
        coming.cancel()  # cancels the request too, where it is not answered
        gone.cancel()


async def _result(future: EncodeFuture) -> Any:
    return await future


async def _hang_up(request: Request) -> None:
    """Return when the connection is closed; the body has been read."""
    while True:
        message: Message = await request.receive()
        if message["type"] == "http.disconnect":
            return


async def write(content: Any, numbers: int) -> Response:
    """Return an answer as JSON; arrays become lists of numbers.

    Args:
        content: plain values and arrays.
        numbers: how many numbers are in it: many of them must not hold the other requests up.
    """
    small = numbers < _LARGE
    text = _dumps(content) if small else await asyncio.to_thread(_dumps, content)
    return Response(text, media_type="application/json")


def _dumps(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
