"""A gateway on a thread of the test process, in front of a stub worker."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import pytest

from bertq_gateway import server
from bertq_gateway.config import Config
from tests.client.conftest import stub
from tests.waiting import eventually

__all__ = ["stub"]


@dataclass
class Gateway:
    """One that runs.

    Attributes:
        port: where it listens.
        http: a client of it.
        stop: lets it drain.
        thread: ends when it has.
    """

    port: int
    http: httpx.Client
    stop: threading.Event
    thread: threading.Thread

    @property
    def url(self) -> str:
        """Of OpenAI's API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def embed(self, *texts: str, **more: Any) -> httpx.Response:
        """Ask for vectors."""
        return self.http.post("/v1/embeddings", json={"model": "stub", "input": texts, **more})

    def connect(self) -> socket.socket:
        """A connection by hand."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def running(redis_url: str, **options: Any) -> Iterator[Gateway]:
    """Run a gateway on a free port."""
    config = Config(redis_url=redis_url, port=0, **{"timeout_seconds": 20.0, **options})
    sock = server.listen(config)
    port = sock.getsockname()[1]
    made = server.make_server(config)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [sock]})
    thread.start()
    stop = threading.Event()

    def watch() -> None:
        stop.wait()
        made.should_exit = True

    threading.Thread(target=watch).start()
    try:
        eventually(lambda: made.started)
        # Every connection stays until the end: many threads share the client, and one that is
        # closed while another is handed out may be lost.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, limits=limits) as http:
            yield Gateway(port, http, stop, thread)
    finally:
        stop.set()
        thread.join(30)
        sock.close()
    assert not thread.is_alive()


class StartGateway(Protocol):
    """Starts a gateway on the test's database; it ends with the test."""

    def __call__(self, **options: Any) -> Gateway: ...


@pytest.fixture
def start_gateway(redis_url: str) -> Iterator[StartGateway]:
    """Start gateways with options of ``Config``."""
    started = []

    def start(**options: Any) -> Gateway:
        made = running(redis_url, **options)
        started.append(made)
        return made.__enter__()

    yield start
    for made in started:
        made.__exit__(None, None, None)


@pytest.fixture
def gateway(start_gateway: StartGateway) -> Gateway:
    """A gateway with default options."""
    return start_gateway()
