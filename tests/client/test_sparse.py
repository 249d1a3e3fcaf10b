"""Sparse rows on their way to the caller, from a stub of a worker."""

from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertq import BertClient, SparseRows
from bertq.errors import ModelMismatch, WireError
from bertq.protocol.wire import ChunkResult
from bertq_client.inbox.assembly import Assembly
from bertq_client.outbox.deduplication import Deduplicator, PlannedChunk
from tests.client.stub import Stub, rows
from tests.waiting import eventually


@pytest.fixture
def stub(stub: Stub) -> Stub:
    """A stub worker of a sparse model."""
    stub.is_sparse = True
    return stub


TEXTS = [f"{number % 500}" for number in range(1200)]


def test_rows_are_sparse_and_in_order(client: BertClient, stub: Stub) -> None:
    found = client.encode(TEXTS, precision="float16")
    assert isinstance(found, SparseRows)
    assert found.shape == (1200, 4)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found.toarray(), rows(TEXTS))
    assert len(stub.chunks) == 2


def test_lists_are_of_dicts(redis_url: str, stub: Stub) -> None:
    with BertClient(redis_url=redis_url, output_fmt="list", timeout=30) as client:
        assert client.encode(["b"]) == [{0: 1.0, 1: 98.0, 2: 32.0, 3: 32.0}]
        vectors, tokens = client.submit(["b"], show_tokens=True).result(20)
    assert (vectors, tokens) == ([{0: 1.0, 1: 98.0, 2: 32.0, 3: 32.0}], [["b"]])


def test_requests_that_share_a_chunk(client: BertClient, stub: Stub) -> None:
    stub.gate.clear()
    client.encode_async(["first"])
    eventually(lambda: stub.asked == 1)
    futures = [client.encode_async([f"{number}", "b"]) for number in range(4)]
    stub.gate.set()
    wait(futures, 20)
    for number, future in enumerate(futures):
        np.testing.assert_array_equal(future.result().toarray(), rows([f"{number}", "b"]))
    assert stub.chunks == [1, 5]


def test_streams_fetches_and_jobs(client: BertClient, stub: Stub) -> None:
    parts = [batch.vectors for batch in client.encode_stream(TEXTS, 500)]
    np.testing.assert_array_equal(SparseRows.concatenate(parts).toarray(), rows(TEXTS))
    for text in "ab":
        client.encode([text, "c"], blocking=False)
    found = client.fetch_all(concat=True)
    np.testing.assert_array_equal(found.toarray(), rows(["a", "c", "b", "c"]))
    job = client.submit(TEXTS)
    np.testing.assert_array_equal(job.result(20).toarray(), rows(TEXTS))
    for some in job.batches():
        expected = rows([TEXTS[number] for number in some.numbers])
        assert isinstance(some.vectors, SparseRows)
        np.testing.assert_array_equal(some.vectors.toarray(), expected)


def test_a_job_of_which_a_part_is_there(client: BertClient, stub: Stub) -> None:
    texts = [*(f"{number}" for number in range(256)), *("!fail", "longer") * 2]
    job = client.submit(texts)
    eventually(lambda: job.info.finished)
    found = job.partial()
    assert isinstance(found.vectors, SparseRows)
    assert 0 < found.there.sum() < len(texts)
    expected = np.where(found.there[:, None], rows(texts), 0)
    np.testing.assert_array_equal(found.vectors.toarray(), expected)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=99), st.randoms())
def test_chunks_come_in_any_order(texts: list[str], rng: Any) -> None:
    deduplicator = Deduplicator()
    deduplicator.add(texts)
    plan = deduplicator.plan_chunks(max_rows=3)
    assembly = Assembly(plan)
    numbers = list(range(len(plan)))
    rng.shuffle(numbers)
    for number in numbers:
        made = rows([texts[index] for index in plan[number].sentences])
        assert assembly.add(number, ChunkResult(SparseRows.from_dense(made), "f"))
    found = assembly.rows()
    assert isinstance(found, SparseRows)
    np.testing.assert_array_equal(found.toarray(), rows(texts))


def test_conflicting_options_are_refused() -> None:
    two = np.ones((2, 3), np.float32)
    sparse = SparseRows.from_dense(two)

    def assembly_with(with_rows: Any) -> Assembly:
        assembly = Assembly(
            [PlannedChunk(part, part) for part in (np.array([0, 1]), np.array([2, 3]))]
        )
        assembly.add(0, ChunkResult(with_rows, "f"))
        return assembly

    with pytest.raises(WireError, match="partly sparse"):
        assembly_with(two).add(1, ChunkResult(sparse, "f"))
    with pytest.raises(WireError, match="partly sparse"):
        assembly_with(sparse).add(1, ChunkResult(two, "f"))
    with pytest.raises(WireError, match="rows of 4 came after 3"):
        assembly_with(sparse).add(1, ChunkResult(SparseRows.from_dense(np.ones((2, 4))), "f"))
    with pytest.raises(ModelMismatch):
        assembly_with(sparse).add(1, ChunkResult(sparse, "g"))
    with pytest.raises(WireError, match="1 rows for 2"):
        assembly_with(sparse).add(1, ChunkResult(sparse[:1], "f"))
