"""Splitting and ordering, as properties: any n, any size, any order of completion, repeats."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertq.errors import ModelMismatch, WireError
from bertq.wire import ChunkResult
from bertq_client.chunks import Assembly, split

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
    dealt = [lengths[index] for chunk in split(lengths, rows) for index in chunk]
    assert dealt == sorted(lengths)


def test_chunks_are_of_like_size() -> None:
    assert [len(chunk) for chunk in split([5] * 257)] == [129, 128]
    assert [len(chunk) for chunk in split([5] * 256)] == [256]


def rows_for(indices: NDArray[Any], shape: tuple[int, ...] = (3,)) -> NDArray[np.float32]:
    """Rows that tell which sentence each belongs to."""
    return np.stack([np.full(shape, index, np.float32) for index in indices])


@given(LENGTHS, st.integers(1, 50), st.randoms(use_true_random=False))
def test_rows_come_in_the_order_of_sentences(
    lengths: list[int], rows: int, rng: random.Random
) -> None:
    plan = split(lengths, rows)
    assembly = Assembly(plan)
    # Every chunk at least once, some twice, in any order.
    numbers = list(range(len(plan)))
    deliveries = numbers + rng.sample(numbers, rng.randint(0, len(numbers)))
    rng.shuffle(deliveries)
    news = [assembly.add(n, ChunkResult(rows_for(plan[n]), "f")) for n in deliveries]
    assert sum(news) == len(plan)
    assert not assembly.missing
    expected = np.repeat(np.arange(len(lengths), dtype=np.float32)[:, None], 3, axis=1)
    np.testing.assert_array_equal(assembly.rows(), expected)


def test_token_vectors_of_different_lengths_are_padded_with_zeros() -> None:
    plan = [np.array([1]), np.array([0, 2])]
    for order in ([0, 1], [1, 0]):
        assembly = Assembly(plan)
        results = [
            ChunkResult(np.full((1, 2, 3), 7, np.float32), "f"),
            ChunkResult(np.full((2, 4, 3), 9, np.float32), "f"),
        ]
        for number in order:
            assembly.add(number, results[number])
        rows = assembly.rows()
        assert rows.shape == (3, 4, 3)
        np.testing.assert_array_equal(rows[1, :2], np.full((2, 3), 7))
        np.testing.assert_array_equal(rows[1, 2:], np.zeros((2, 3)))
        np.testing.assert_array_equal(rows[[0, 2]], np.full((2, 4, 3), 9))


def test_an_unfinished_answer_cannot_be_taken() -> None:
    with pytest.raises(LookupError, match="2 chunks are missing"):
        Assembly(split([1, 2], 1)).rows()


def test_wrong_rows_are_refused() -> None:
    plan = [np.array([0, 1]), np.array([2, 3])]
    assembly = Assembly(plan)
    with pytest.raises(WireError, match="no chunk 2"):
        assembly.add(2, ChunkResult(rows_for(plan[0]), "f"))
    with pytest.raises(WireError, match="1 rows for 2"):
        assembly.add(0, ChunkResult(rows_for(np.array([0])), "f"))
    assembly.add(0, ChunkResult(rows_for(plan[0]), "f"))
    with pytest.raises(WireError, match="shape"):
        assembly.add(1, ChunkResult(rows_for(plan[1], (4,)), "f"))
    with pytest.raises(WireError, match="shape"):
        assembly.add(1, ChunkResult(rows_for(plan[1], (2, 3)), "f"))
    with pytest.raises(ModelMismatch, match="different models"):
        assembly.add(1, ChunkResult(rows_for(plan[1]), "g"))
    assert assembly.missing == {1}
