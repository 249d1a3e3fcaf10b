"""The places of tokens in a batch with padding."""

import numpy as np

from bertq_bert.network.padding import TokenPlaces, flatten, widen


def test_places_without_padding() -> None:
    places = TokenPlaces.of(np.array([2, 3], np.int32), rows=2, tokens=5, slots=3)
    assert places.lengths.tolist() == [2, 3]
    assert places.row.tolist() == [0, 0, 1, 1, 1]
    assert places.position.tolist() == [0, 1, 0, 1, 2]
    assert places.token_index.tolist() == [[0, 1, 0], [2, 3, 4]]


def test_places_with_padding() -> None:
    places = TokenPlaces.of(np.array([1, 2], np.int32), rows=3, tokens=8, slots=4)
    assert places.lengths.tolist() == [1, 2, 0]
    assert places.row.tolist() == [0, 1, 1, -1, -1, -1, -1, -1]
    assert places.position.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert places.token_index.tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert all(array.dtype == np.int32 for array in places)


def test_ids_and_marks_with_padding() -> None:
    assert flatten([[5, 6], [7]], 4).tolist() == [5, 6, 7, 0]
    assert flatten([[5, 6], [7]], 3).tolist() == [5, 6, 7]
    assert widen(b"\2\0\2", 4).tolist() == [2, 0, 2, 0]
    assert flatten([[5]], 1).dtype == widen(b"\2", 1).dtype == np.int32
