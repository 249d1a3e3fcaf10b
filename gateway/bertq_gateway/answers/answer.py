"""Answers: waiting for vectors while the caller may disconnect, and writing JSON."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import Request, Response
from starlette.types import Message

from bertq import EncodeFuture
from bertq.protocol import surrogates
from bertq_gateway.errors import MAX_LISTED_ROWS, ClientDisconnected, Refused

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


async def write(build: Callable[[], Any], numbers: int, future: EncodeFuture) -> Response:
    """Return an answer as JSON; arrays become lists of numbers.

    Args:
        build: returns the content, plain values and arrays.
        numbers: how many numbers the content has: a large answer must not delay other requests.
        future: the request that was answered, for the headers ``X-Model-Fingerprint`` and
            ``X-Truncated-Inputs``.

    Raises:
        Refused: the content repeats a part of the request that is nested too deeply.
    """
    is_small = numbers < _MAX_INLINE_NUMBERS
    text = dumps(build()) if is_small else await asyncio.to_thread(lambda: dump_parts(build()))
    headers = {"X-Model-Fingerprint": future.fingerprint}
    if future.cut_rows:
        headers["X-Truncated-Inputs"] = _list_rows(future.cut_rows)
    return Response(text, media_type="application/json", headers=headers)


def _list_rows(rows: Sequence[int]) -> str:
    """Return how many rows there are, and the first ones, as a structured field (RFC 9651)."""
    return f'{len(rows)};indices="{" ".join(map(str, rows[:MAX_LISTED_ROWS]))}"'


def dump_parts(content: Any) -> bytes:
    """Return what ``dumps`` does, part by part.

    orjson does not release the interpreter's lock: other threads run between parts only.
    """
    if isinstance(content, dict):
        fields = (dumps(key) + b":" + dump_parts(value) for key, value in content.items())
        return b"{%b}" % b",".join(fields)
    if isinstance(content, np.ndarray) and content.ndim > 1:
        return b"[%b]" % b",".join(map(dump_parts, content))
    if isinstance(content, list):
        # Its elements are small, but for arrays with a vector for each token.
        elements = (
            dump_parts(value) if isinstance(value, np.ndarray) else dumps(value)
            for value in content
        )
        return b"[%b]" % b",".join(elements)
    return dumps(content)


def dumps(content: Any) -> bytes:
    """Return plain values and arrays as JSON; arrays become lists of numbers.

    Raises:
        Refused: the content repeats a part of the request that is nested too deeply.
    """
    try:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        # It repeats what orjson refuses: lone surrogates, numbers of more than 64 bits, deep lists.
        try:
            text = json.dumps(content, ensure_ascii=False, default=lambda array: array.tolist())
        except RecursionError:
            raise Refused(422, "the request is nested too deeply to repeat it") from None
        return surrogates.drop(text).encode()
