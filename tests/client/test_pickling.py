"""Pickled clients: in the closures of Spark, in arguments of processes."""

import copy
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest

from bertq import BertClient
from bertq.errors import ClientClosed
from tests.client.stub import Stub, rows


class Named(BertClient[Any]):
    """A client whose constructor has other arguments."""

    def __init__(self, name: str, url: str) -> None:
        super().__init__(redis_url=url, timeout=7, queue="gpu0")
        self.name = name


def test_a_copy_connects_where_it_is_unpickled(client: BertClient, stub: Stub) -> None:
    np.testing.assert_array_equal(client.encode(["a"]), rows(["a"]))
    with pickle.loads(pickle.dumps(client)) as other:
        assert other is not client
        assert other.identity != client.identity
        np.testing.assert_array_equal(other.encode(["b"]), rows(["b"]))
    np.testing.assert_array_equal(client.encode(["c"]), rows(["c"]))


def test_a_copy_has_the_same_arguments(redis_url: str) -> None:
    first = BertClient(
        redis_url=redis_url, output_fmt="list", identity="me", timeout=3, model="minilm",
        check_length=False, check_version=False, on_full="raise", max_pending_chunks=5,
        queue="gpu0",
    )  # fmt: skip
    for second in (pickle.loads(pickle.dumps(first)), copy.copy(first), copy.deepcopy(first)):
        assert second._settings == first._settings
        assert second.status == first.status
        second.close()
    first.close()
    with pytest.raises(ClientClosed):
        first.encode(["closed"])


def test_the_default_address_is_that_of_the_first_process(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTQ_REDIS_URL", redis_url)
    with BertClient() as client:
        data = pickle.dumps(client)
    monkeypatch.delenv("BERTQ_REDIS_URL")
    with pickle.loads(data) as other:
        assert repr(other) == repr(client)


def test_a_subclass(redis_url: str) -> None:
    with Named("name", redis_url) as client, pickle.loads(pickle.dumps(client)) as other:
        assert type(other) is Named
        assert other._settings == client._settings


def encode(client: BertClient, job: Any, texts: list[str]) -> Any:
    """In another process: use a client and a durable job of this one."""
    return client.encode(texts).tolist(), job.result(20).tolist()


def test_in_spawned_processes(client: BertClient, stub: Stub) -> None:
    job = client.submit(["durable"])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        answers = pool.starmap(encode, [(client, job, [f"process {n}"]) for n in range(4)])
    for number, answer in enumerate(answers):
        assert answer == (rows([f"process {number}"]).tolist(), rows(["durable"]).tolist())


def test_in_a_closure(client: BertClient, stub: Stub) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    data = cloudpickle.dumps(lambda texts: client.encode(texts))
    np.testing.assert_array_equal(pickle.loads(data)(["a"]), rows(["a"]))


def test_a_future_cannot_be_pickled(client: BertClient) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(client.encode_async(["a"]))
