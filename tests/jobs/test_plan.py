"""Which rows the chunks of a job fill, there and back."""

from typing import Any

import numpy as np
import pytest

from bertq.errors import WireError
from bertq.protocol import wire
from bertq_client.durable import plan
from bertq_client.outbox.deduplication import Deduplicator


@pytest.mark.parametrize("count", [1, 7, 300, 3000])
@pytest.mark.parametrize("alike", [1, 5])
def test_a_plan_is_encoded_and_decoded(count: int, alike: int) -> None:
    deduplicator = Deduplicator()
    deduplicator.add(
        [f"{number // alike} " * (number % 9 // alike) + "." for number in range(count)]
    )
    made = deduplicator.plan_chunks(max_rows=100)
    packed = plan.pack(made)
    found = plan.unpack(packed, count)
    assert len(packed) <= 8 * count + 8 * len(made) + 200
    assert len(found) == len(made)
    for before, after in zip(made, found, strict=True):
        assert len(before.sentences) == len(after.sentences)
        np.testing.assert_array_equal(before.places, after.places)
        assert (before.sources is None) == (after.sources is None)
        if before.sources is not None and after.sources is not None:
            np.testing.assert_array_equal(before.sources, after.sources)


def numbers(*values: int) -> Any:
    return np.array(values, np.uint32)


@pytest.mark.parametrize(
    ("sentences", "rows", "places", "sources"),
    [
        ("no", numbers(2), numbers(0, 1), None),
        (numbers(2), numbers(2), np.zeros((2, 1), np.uint32), None),
        (numbers(2), numbers(2), np.array([0.0, 1.0]), None),
        (numbers(2), numbers(2), numbers(0, 0), None),
        (numbers(2), numbers(2), numbers(0, 2), None),
        (numbers(2), numbers(2), numbers(0), None),
        (numbers(2), numbers(3), numbers(0, 1), None),
        (numbers(2, 0), numbers(2, 0), numbers(0, 1), None),
        (numbers(1), numbers(2), numbers(0, 1), None),
        (numbers(1, 1), numbers(2), numbers(0, 1), None),
        (numbers(), numbers(), numbers(0, 1), None),
        (numbers(1), numbers(2), numbers(0, 1), numbers(0)),
        (numbers(1), numbers(2), numbers(0, 1), numbers(0, 1)),
        (numbers(3), numbers(2), numbers(0, 1), numbers(0, 1)),
    ],
)
def test_no_plan(sentences: Any, rows: Any, places: Any, sources: Any) -> None:
    value = {"sentences": sentences, "rows": rows, "places": places}
    if sources is not None:
        value["sources"] = sources
    with pytest.raises(WireError):
        plan.unpack(wire.dumps(value), 2)


@pytest.mark.parametrize("value", [None, [], {}, "x"])
def test_something_else(value: Any) -> None:
    with pytest.raises(WireError):
        plan.unpack(wire.dumps(value), 2)
