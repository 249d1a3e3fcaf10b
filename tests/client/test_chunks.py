"""Splitting and ordering, as properties: any n, any size, any order of completion, repeats."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertq.errors import ModelMismatch, WireError
from bertq.protocol.wire import ChunkResult
from bertq_client.inbox.assembly import Assembly
from bertq_client.outbox.deduplication import Deduplicator, PlannedChunk, split

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=400)


@given(LENGTHS, st.integers(1, 300), st.integers(1, 2000))
def test_every_sentence_is_in_one_chunk(lengths: list[int], rows: int, characters: int) -> None:
    plan = split(lengths, rows, characters)
    assert sorted(index for chunk in plan for index in chunk) == list(range(len(lengths)))
    for chunk in plan:
        assert 1 <= len(chunk) <= rows
        assert len(chunk) == 1 or sum(lengths[index] for index in chunk) <= characters


@given(LENGTHS, st.integers(1, 300))
def test_sentences_of_like_length_are_together(lengths: list[int], rows: int) -> None:
    split_lengths = [lengths[index] for chunk in split(lengths, rows, 2000) for index in chunk]
    assert split_lengths == sorted(lengths)


def test_chunks_are_of_like_size() -> None:
    assert [len(chunk) for chunk in split([5] * 257, 256, 2000)] == [129, 128]
    assert [len(chunk) for chunk in split([5] * 256, 256, 2000)] == [256]


def deal(texts: list[str], rows: int = 256) -> list[PlannedChunk]:
    """The chunks of a list of sentences, taken in in two parts."""
    deduplicator = Deduplicator()
    deduplicator.add(texts[: len(texts) // 2])
    deduplicator.add(texts[len(texts) // 2 :])
    return deduplicator.plan_chunks(rows)


TEXTS = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=300)


@given(TEXTS, st.integers(1, 50))
def test_a_sentence_is_sent_once_for_all_its_places(texts: list[str], rows: int) -> None:
    plan = deal(texts, rows)
    sent = [texts[index] for chunk in plan for index in chunk.sentences]
    assert len(sent) == len(set(sent))
    assert set(sent) == set(texts)
    assert [len(text) for text in sent] == sorted(map(len, sent))
    assert sorted(place for chunk in plan for place in chunk.places) == list(range(len(texts)))
    assert all(len(chunk.sentences) <= rows for chunk in plan)


def code(text: str) -> int:
    """A different number for each short sentence."""
    return int.from_bytes(text.encode(), "big")


def rows_for(texts: list[str], chunk: PlannedChunk) -> NDArray[np.float32]:
    """Rows that identify their sentences."""
    codes = [code(texts[index]) for index in chunk.sentences]
    return np.repeat(np.array(codes, np.float32)[:, None], 3, axis=1)


@given(TEXTS, st.integers(1, 50), st.randoms(use_true_random=False))
def test_rows_come_in_the_order_of_sentences(
    texts: list[str], rows: int, rng: random.Random
) -> None:
    plan = deal(texts, rows)
    assembly = Assembly(plan)
    # Every chunk at least once, some twice, in any order.
    numbers = list(range(len(plan)))
    deliveries = numbers + rng.sample(numbers, rng.randint(0, len(numbers)))
    rng.shuffle(deliveries)
    is_new = [assembly.add(n, ChunkResult(rows_for(texts, plan[n]), "f")) for n in deliveries]
    assert sum(is_new) == len(plan)
    assert not assembly.missing
    answer: Any = assembly.rows()
    np.testing.assert_array_equal(answer, [[code(text)] * 3 for text in texts])
    assert answer.flags.writeable
    assert answer.flags.owndata
    assert not assembly.has_token_rows


def test_a_sentence_that_comes_a_million_times() -> None:
    texts = ["a"] * 1_000_000 + ["bb", "a"]
    plan = deal(texts)
    assert [len(chunk.sentences) for chunk in plan] == [2]
    assembly = Assembly(plan)
    assembly.add(0, ChunkResult(np.array([[1.0, 2.0], [3.0, 4.0]], ">f4"), "f"))
    rows: Any = assembly.rows()
    assert rows.dtype == np.float32
    assert rows.shape == (1_000_002, 2)
    np.testing.assert_array_equal(rows[-3:], [[1, 2], [3, 4], [1, 2]])
    np.testing.assert_array_equal(rows[:-2].min(axis=0), [1, 2])
    np.testing.assert_array_equal(rows[:-2].max(axis=0), [1, 2])


def chunks_of(*indices: list[int]) -> list[PlannedChunk]:
    """A plan for sentences that are all different."""
    return [PlannedChunk(np.array(some), np.array(some)) for some in indices]


def test_token_vectors_of_different_lengths_are_padded_with_zeros() -> None:
    # Sentence 3 is the same as sentence 1.
    plan = [PlannedChunk(np.array([1]), np.array([1, 3]), np.array([0, 0])), *chunks_of([0, 2])]
    for order in ([0, 1], [1, 0]):
        assembly = Assembly(plan)
        results = [
            ChunkResult(np.full((1, 2, 3), 7, np.float32), "f"),
            ChunkResult(np.full((2, 4, 3), 9, np.float32), "f"),
        ]
        for number in order:
            assembly.add(number, results[number])
        rows = assembly.rows()
        assert assembly.has_token_rows
        assert rows.shape == (4, 4, 3)
        np.testing.assert_array_equal(rows[[1, 3], :2], np.full((2, 2, 3), 7))
        np.testing.assert_array_equal(rows[[1, 3], 2:], np.zeros((2, 2, 3)))
        np.testing.assert_array_equal(rows[[0, 2]], np.full((2, 4, 3), 9))


def test_an_unfinished_answer_cannot_be_taken() -> None:
    with pytest.raises(LookupError, match="2 chunks are missing"):
        Assembly(chunks_of([0], [1])).rows()


def test_wrong_rows_are_refused() -> None:
    assembly = Assembly(chunks_of([0, 1], [2, 3]))
    two, one = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
    with pytest.raises(WireError, match="no chunk 2"):
        assembly.add(2, ChunkResult(two, "f"))
    with pytest.raises(WireError, match="1 rows for 2"):
        assembly.add(0, ChunkResult(one, "f"))
    assembly.add(0, ChunkResult(two, "f"))
    with pytest.raises(WireError, match="shape"):
        assembly.add(1, ChunkResult(np.ones((2, 4), np.float32), "f"))
    with pytest.raises(WireError, match="shape"):
        assembly.add(1, ChunkResult(np.ones((2, 2, 3), np.float32), "f"))
    with pytest.raises(ModelMismatch, match="different models"):
        assembly.add(1, ChunkResult(two, "g"))
    assert assembly.missing == {1}
