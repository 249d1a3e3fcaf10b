"""Answers with many numbers do not delay other requests."""

import threading
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from tests.client import stub as stub_module
from tests.client.stub import Stub
from tests.gateway.conftest import Gateway, StartGateway

_TEXTS = [f"sentence {number}" for number in range(2048)]
_COLUMNS = 1024

#: Bytes of a part that may be written without a break: a row has about 20,000.
_MAX_PART_BYTES = 100_000


def _rows(texts: list[str]) -> NDArray[np.float32]:
    """The rows of texts, with digits as vectors have."""
    numbers = [int(text.split()[-1]) for text in texts]
    places = np.arange(_COLUMNS) + np.array(numbers)[:, None]
    rows: NDArray[np.float32] = np.sin(places).astype(np.float32)
    return rows


@pytest.fixture
def wide_gateway(
    start_gateway: StartGateway, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> Gateway:
    monkeypatch.setattr(stub_module, "rows", _rows)
    return start_gateway()


@pytest.mark.parametrize(
    ("path", "fields", "keys"),
    [
        ("/v1/embeddings", {"input": _TEXTS}, ["data", -1, "embedding"]),
        ("/v1/embeddings", {"input": _TEXTS, "encoding_format": "base64"}, None),
        ("/embed", {"inputs": _TEXTS, "normalize": False}, [-1]),
        ("/", {"inputs": _TEXTS, "normalize": False}, [-1]),
        ("/v1/embed", {"texts": _TEXTS}, ["embeddings", -1]),
        ("/v2/embed", {"texts": _TEXTS, "embedding_types": ["float", "binary", "base64"]},
         ["embeddings", "float", -1]),
        ("/encode", {"texts": _TEXTS}, ["result", -1]),
    ],
)  # fmt: skip
def test_no_answer_is_written_in_one_piece(
    wide_gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    fields: dict[str, Any],
    keys: list[Any] | None,
) -> None:
    # orjson lets no other thread run, so that no call of it may take long.
    original, sizes, threads = orjson.dumps, [0], set()

    def dumps(*arguments: Any, **options: Any) -> bytes:
        text = original(*arguments, **options)
        sizes.append(len(text))
        threads.add(threading.current_thread())
        return text

    monkeypatch.setattr(orjson, "dumps", dumps)
    response: httpx.Response = wide_gateway.http.post(path, json={"model": "stub", **fields})
    monkeypatch.undo()
    assert response.status_code == 200, response.text
    assert max(sizes) < _MAX_PART_BYTES
    assert wide_gateway.thread not in threads
    if keys is not None:
        found = response.json()
        for key in keys:
            found = found[key]
        np.testing.assert_array_equal(np.array(found, np.float32), _rows(_TEXTS[-1:])[0])
