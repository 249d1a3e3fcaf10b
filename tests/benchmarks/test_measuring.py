"""Turns and percentiles."""

import pytest

from benchmarks.measuring import measure_in_turns, percentiles


def test_percentiles_are_interpolated() -> None:
    found = percentiles(range(101))
    assert found == {"p50": 50, "p95": 95, "p99": 99}
    assert percentiles([3.0]) == {"p50": 3, "p95": 3, "p99": 3}
    assert percentiles([0, 1])["p95"] == pytest.approx(0.95)


def test_rounds_alternate_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    clock = iter(range(100))

    def measure(name: str) -> float:
        order.append(name)
        return next(clock)

    taken = measure_in_turns(
        {"a": lambda: measure("a"), "b": lambda: measure("b")},
        rounds=2,
        pause=lambda: order.append("-"),
    )
    assert order == ["a", "-", "b", "-"] * 3
    assert taken["a"].values == (2, 4)
    assert taken["b"].values == (3, 5)
