"""A stub worker and a client on the test's database, and a server that is none."""

import socket
from collections.abc import Iterator

import pytest

from bertq import BertClient
from tests.client.stub import Stub, stub_worker


@pytest.fixture
def stub(redis_url: str) -> Iterator[Stub]:
    """A running stub worker."""
    with stub_worker(redis_url) as running:
        yield running


@pytest.fixture
def client(redis_url: str) -> Iterator[BertClient]:
    """A client that ends with the test."""
    with BertClient(redis_url=redis_url, timeout=30) as made:
        yield made


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The URL of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        yield f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
