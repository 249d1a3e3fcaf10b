"""Traces of OpenTelemetry through the queue, for programs that use OpenTelemetry.

bertq does not import OpenTelemetry. A program that is traced has imported it and set a tracer
provider; in any other program the functions of this module return at once. The message of a chunk
has the context of its request as ``traceparent``, in the format of W3C Trace Context. No span
contains a text.
"""

import re
import sys
import time
from concurrent.futures import CancelledError, Future
from functools import cache, partial
from typing import Any

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def check(traceparent: Any) -> str | None:
    """Return a context from outside if it is valid, otherwise None."""
    is_valid = isinstance(traceparent, str) and _TRACEPARENT.fullmatch(traceparent)
    return traceparent if is_valid else None


def start_request(future: "Future[Any]", queue: str, sentences: int) -> str | None:
    """Start the span of a request, which ends with its future.

    Returns:
        The context for the messages of its chunks; None if the request is not traced.
    """
    api = _api()
    if api is None:
        return None
    attributes = {"bertq.queue": queue, "bertq.sentences": sentences}
    span = _tracer(api).start_span(
        "bertq.encode", kind=api.SpanKind.PRODUCER, attributes=attributes
    )
    context = span.get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    future.add_done_callback(partial(_end_request, api, span))
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _end_request(api: Any, span: Any, future: "Future[Any]") -> None:
    # The message of an error may be long, and its stack is the one of a thread of bertq.
    error = CancelledError() if future.cancelled() else future.exception()
    if error is not None:
        kind = type(error).__name__
        span.set_attribute("error.type", kind)
        span.set_status(api.Status(api.StatusCode.ERROR, kind))
    span.end()


def record_chunk(
    traceparent: str | None,
    sent_at: float | None,
    started_at: float | None,
    sentences: int,
    tokens: int,
) -> None:
    """Record the span of a chunk whose rows are computed, and of the parts of its time.

    Args:
        traceparent: the context in its message, checked; None if its request is not traced.
        sent_at: Unix time in its message.
        started_at: Unix time at which the computation began.
        sentences, tokens: its size.
    """
    if traceparent is None or started_at is None or (api := _api()) is None:
        return
    ended_at = time.time()
    # The clocks of two machines may differ.
    sent_at = min(sent_at or started_at, started_at)
    tracer = _tracer(api)
    attributes = {"bertq.sentences": sentences, "bertq.tokens": tokens}
    chunk = tracer.start_span(
        "bertq.chunk",
        context=_context(api, traceparent),
        kind=api.SpanKind.CONSUMER,
        attributes=attributes,
        start_time=_nanoseconds(sent_at),
    )
    parts = {"bertq.wait": (sent_at, started_at), "bertq.compute": (started_at, ended_at)}
    for name, (start, end) in parts.items():
        part = tracer.start_span(
            name, context=api.set_span_in_context(chunk), start_time=_nanoseconds(start)
        )
        part.end(_nanoseconds(end))
    chunk.end(_nanoseconds(ended_at))


def _api() -> Any:
    """Return the module ``opentelemetry.trace`` if this program has set a tracer provider."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    return api


@cache
def _tracer(api: Any) -> Any:
    return api.get_tracer("bertq")


def _context(api: Any, traceparent: str) -> Any:
    """Return the context that a valid ``traceparent`` describes."""
    _, trace_id, span_id, flags = traceparent.split("-")
    span_context = api.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True,
        trace_flags=api.TraceFlags(int(flags, 16)),
    )  # fmt: skip
    return api.set_span_in_context(api.NonRecordingSpan(span_context))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
