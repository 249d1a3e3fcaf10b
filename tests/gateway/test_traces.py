"""Traces of OpenTelemetry: from a caller of the gateway through the queue to a worker."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes
from redis import Redis

from bertq import BertClient, tracing
from bertq.errors import NoWorker
from tests.gateway.conftest import StartGateway
from tests.waiting import eventually
from tests.workers.standins import StandInWorker

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"

#: What opentelemetry-instrument does, with an exporter that writes to a file.
SITECUSTOMIZE = """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

exporter = ConsoleSpanExporter(
    out=open(os.environ["SPANS"], "a"), formatter=lambda span: span.to_json(indent=None) + "\\n"
)
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
"""


class Switch(Sampler):
    """Samples the spans of one test: a provider is set for the rest of the process."""

    is_on = False

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        decision = Decision.RECORD_AND_SAMPLE if self.is_on else Decision.DROP
        return SamplingResult(decision, attributes)

    def get_description(self) -> str:
        return "switch"


@pytest.fixture(scope="module")
def provider() -> tuple[Switch, InMemorySpanExporter]:
    switch, exporter = Switch(), InMemorySpanExporter()
    provider = TracerProvider(sampler=switch)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return switch, exporter


@pytest.fixture
def spans(provider: tuple[Switch, InMemorySpanExporter]) -> Iterator[InMemorySpanExporter]:
    """The spans of this process that have ended in this test."""
    switch, exporter = provider
    exporter.clear()
    switch.is_on = True
    yield exporter
    switch.is_on = False


def span_of_request(spans: InMemorySpanExporter) -> ReadableSpan:
    """Wait for the span of a request, which ends on the thread of callbacks."""

    def find() -> list[ReadableSpan]:
        return [span for span in spans.get_finished_spans() if span.name == "bertq.encode"]

    eventually(find)
    (span,) = find()
    return span


def test_a_trace_from_the_caller_to_the_worker(
    start_gateway: StartGateway,
    redis_url: str,
    spans: InMemorySpanExporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    written = tmp_path / "spans"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SPANS", str(written))
    worker = StandInWorker(redis_url, tmp_path / "log", 1.0)
    try:
        worker.wait_ready()
        gateway = start_gateway()
        for count in (1, 600):
            written.write_text("")
            spans.clear()
            answer = gateway.http.post(
                "/encode",
                json={"id": 1, "texts": [f"secret {number}" for number in range(count)]},
                headers={"traceparent": TRACEPARENT},
            )
            assert answer.status_code == 200, answer.text
            request = span_of_request(spans)
            # Between these two are spans of FastAPI.
            assert request.parent is not None
            assert request.parent.trace_id == request.context.trace_id == int(TRACE, 16)
            assert request.attributes is not None
            assert request.attributes["bertq.sentences"] == count
            assert request.status.is_ok
            eventually(partial(has_lines, written, 3 if count == 1 else 9))
            assert "secret" not in written.read_text() + request.to_json()
            lines = written.read_text().splitlines()
            check_spans_of_worker(list(map(json.loads, lines)), request, count)
    finally:
        worker.kill()


def has_lines(path: Path, count: int) -> bool:
    return path.read_text().count("\n") == count


def check_spans_of_worker(found: list[Any], request: ReadableSpan, sentences: int) -> None:
    """Check the spans of a request's chunks."""
    chunks = {span["context"]["span_id"]: span for span in found if span["name"] == "bertq.chunk"}
    assert sum(span["attributes"]["bertq.sentences"] for span in chunks.values()) == sentences
    for span in found:
        assert span["context"]["trace_id"] == f"0x{TRACE}"
        assert span["start_time"] <= span["end_time"]
        if span["name"] == "bertq.chunk":
            assert span["parent_id"] == f"0x{request.context.span_id:016x}"
            continue
        chunk = chunks[span["parent_id"]]
        limit = {"bertq.wait": "start_time", "bertq.compute": "end_time"}[span["name"]]
        assert span[limit] == chunk[limit]


def test_a_request_without_an_answer(redis_url: str, spans: InMemorySpanExporter) -> None:
    with BertClient(redis_url=redis_url, timeout=0.3) as client:
        with pytest.raises(NoWorker):
            client.encode(["secret"])
        failed = span_of_request(spans)
        assert failed.attributes is not None
        assert failed.attributes["error.type"] == "NoWorker"
        assert not failed.status.is_ok
        spans.clear()
        client.encode_async(["secret"]).cancel()
        assert (span_of_request(spans).attributes or {})["error.type"] == "CancelledError"


def test_a_request_that_is_not_sampled(
    redis_url: str, redis: Redis, provider: tuple[Switch, InMemorySpanExporter]
) -> None:
    switch, exporter = provider
    exporter.clear()
    with BertClient(redis_url=redis_url) as client:
        for switch.is_on in (False, True):
            client.encode_async([f"sampled: {switch.is_on}"])
            eventually(lambda: redis.llen("bertq.small") == 1)
            message: Any = redis.lpop("bertq.small")
            assert ("traceparent" in json.loads(message)["headers"]) == switch.is_on
    switch.is_on = False


def test_a_program_without_opentelemetry() -> None:
    script = (
        "import sys; from concurrent.futures import Future; sys.modules['opentelemetry'] = None\n"
        "from bertq import tracing\n"
        "import bertq_client, bertq_workers.tasks\n"
        "assert tracing.start_request(Future(), 'bertq', 1) is None\n"
        f"tracing.record_chunk({TRACEPARENT!r}, 0.0, 0.0, 1, 1)\n"
        "assert 'opentelemetry.trace' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "value",
    [
        None, 1, "", "secret", TRACEPARENT.upper(), f"{TRACEPARENT}-", f"{TRACEPARENT}\n",
        f"01{TRACEPARENT[2:]}", TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace(CALLER, "0" * 16),
    ],
)  # fmt: skip
def test_an_invalid_context_is_ignored(value: Any) -> None:
    assert tracing.check(value) is None
    assert tracing.check(TRACEPARENT) == TRACEPARENT
