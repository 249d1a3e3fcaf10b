"""Rows of the calls of a client."""

from itertools import chain
from typing import Any

import numpy as np
import pytest

from bertq.errors import BadInputType, RemoteError
from tests.bert.checkpoints import TINY, tiny_variables
from tests.bert.reference import Reference
from tests.migration.deployment import IDS, TEXTS, Deployment
from tests.migration.model_rows import close
from tests.migration.rows import row

PAIR = "the lord ||| of him"


@row("encode(texts)")
def encode(deployment: Deployment) -> None:
    texts = [f"{word} {number}" for number in range(300) for word in ("the lord", "he")]
    with deployment.client() as client:
        found = client.encode(texts)
        assert found.shape == (600, 32)
        close(found[:100], client.encode(texts[:100]), 1e-6)
        close(found[500:], client.encode(texts[500:]), 1e-6)
    assert len(np.unique(found, axis=0)) == 600


@row("encode(texts, blocking=False)", "fetch(delay=.0)")
def fetch(deployment: Deployment) -> None:
    with deployment.client() as client:
        numbers = [client.encode([text], blocking=False) for text in TEXTS]
        assert len(set(numbers)) == 3
        found = dict(client.fetch(delay=0.01))
        assert sorted(found) == sorted(numbers)
        rows = np.concatenate([found[number] for number in numbers])
        close(rows, client.encode(TEXTS), 1e-6)
        assert list(client.fetch()) == []
        number = client.encode(TEXTS, blocking=False, show_tokens=True)
        ((got, (vectors, tokens)),) = client.fetch()
    assert got == number
    close(vectors, rows, 1e-6)
    assert tokens[0] == ["[CLS]", "the", "lord", "[SEP]"]


@row("fetch_all(sort=True)", "fetch_all(concat=False)")
def fetch_all(deployment: Deployment) -> None:
    texts = [f"the lord {number}" for number in range(400)]
    with deployment.client() as client:
        assert client.fetch_all() == []
        whole = client.encode(texts)
        for sort in (True, False):
            client.encode(texts[:399], blocking=False)
            client.encode(texts[399:], blocking=False)
            parts = client.fetch_all(sort=sort)
            assert sorted(len(part) for part in parts) == [1, 399]
            if sort:
                assert len(parts[0]) == 399
        client.encode(texts[:2], blocking=False)
        client.encode(texts[2:], blocking=False)
        close(client.fetch_all(concat=True), whole, 1e-6)
    with deployment.client(output_fmt="list") as client:
        for text in TEXTS:
            client.encode([text], blocking=False)
        joined = client.fetch_all(concat=True)
    assert [len(vector) for vector in joined] == [32] * 3


@row("encode(texts, is_tokenized=True)")
def tokens_as_they_are(deployment: Deployment) -> None:
    with deployment.client() as client:
        found = client.encode([text.split() for text in TEXTS], is_tokenized=True)
        close(found, client.encode(TEXTS), 1e-6)
        odd, shown = client.encode([["the", "Lord"]], is_tokenized=True, show_tokens=True)
    assert shown == [["[CLS]", "the", "[UNK]", "[SEP]"]]
    assert odd.shape == (1, 32)


@row("encode(texts, show_tokens=True)")
def tokens_of_text(deployment: Deployment) -> None:
    with deployment.client() as client:
        answer = client.encode(TEXTS, show_tokens=True)
        assert isinstance(answer, tuple)
        vectors, tokens = answer
        close(vectors, client.encode(TEXTS), 1e-6)
    assert tokens == [["[CLS]", *text.split(), "[SEP]"] for text in TEXTS]
    with (
        deployment.client(model="tuned") as client,
        pytest.raises(RemoteError, match="shows no tokens"),
    ):
        client.encode(TEXTS, show_tokens=True)


@row("pairs of sentences, three bars between")
def pairs(deployment: Deployment) -> None:
    with deployment.client() as client:
        found, tokens = client.encode([PAIR], show_tokens=True)
        again = client.encode([PAIR.split()], is_tokenized=True)
    words = ["[CLS]", "the", "lord", "[SEP]", "of", "him", "[SEP]"]
    assert tokens == [words]
    close(again, found, 1e-6)
    ids = [[IDS[word] for word in words]]
    wanted = Reference(TINY, tiny_variables(), ids, 25, segments=[[0, 0, 0, 0, 1, 1, 1]])
    close(found, wanted.rows("REDUCE_MEAN", [-2]))


@row("encode_async(batch_generator)")
def streams(deployment: Deployment) -> None:
    texts = [f"the lord {number}" for number in range(50)]

    def batches() -> Any:
        for start in range(0, 50, 10):
            yield texts[start : start + 10]

    with deployment.client() as client:
        with pytest.raises(BadInputType, match="encode_stream takes iterators"):
            client.encode_async(batches())
        whole = client.encode(texts)
        found = list(client.encode_stream(chain.from_iterable(batches()), batch_size=20))
        assert [batch.start for batch in found] == [0, 20, 40]
        close(np.concatenate([batch.vectors for batch in found]), whole, 1e-6)
        future = client.encode_async(texts)
        close(future.result(60), whole, 1e-6)


@row("status")
def status(deployment: Deployment) -> None:
    with deployment.client(identity="me", timeout=9, output_fmt="list") as client:
        client.encode(TEXTS)
        found = client.status
    pending = found.pop("pending_request")
    assert not pending
    assert found.pop("client_version")
    assert found == {
        "identity": "me", "num_request": 1, "num_pending_request": 0, "output_fmt": "list",
        "server_ip": "127.0.0.1", "port": deployment.port, "timeout": 9,
    }  # fmt: skip


@row("server_config")
def server_config(deployment: Deployment) -> None:
    with deployment.client() as client:
        found = {name.split("@")[0]: value for name, value in client.server_config.items()}
    assert sorted(found) == ["cpu0-tuned", "cpu1-tokens", "gpu0", "gpu0.2"]
    assert not hasattr(client, "get_server_config")
    config = found["gpu0"]
    assert config["max_seq_len"] == 25
    assert config["pooling_layer"] == [-2]
    assert found["cpu1-tokens"]["pooling_layer"] == [-1, -3]


@row("server_status")
def server_status(deployment: Deployment) -> None:
    with deployment.client() as client:
        before = client.server_status["statistic"]
        client.encode(TEXTS)
        client.encode(TEXTS)
        found = client.server_status
    after = found["statistic"]
    assert after["num_data_request"] - before.get("num_data_request", 0) == 2
    assert after["num_total_seq"] - before.get("num_total_seq", 0) == 6
    assert after["num_sys_request"] > before["num_sys_request"]
    assert after["max_size_per_request"] >= 3
    assert after["num_active_client"] <= after["num_total_client"]
    assert found["num_worker"] == 4
