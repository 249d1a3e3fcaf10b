"""Totals and rates of a worker, by a clock of the test's own."""

import pytest

from bertq_workers.meter import Meter


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_totals_and_rates() -> None:
    clock = Clock()
    meter = Meter(clock)
    clock.now += 50  # loading
    meter.start()
    clock.now += 10
    meter.computed(60, 1.0)
    meter.computed(40, 3.0)
    meter.add(100, 2000)
    meter.failed()
    work = meter.read()
    assert (work.chunks, work.sentences, work.tokens, work.failures) == (1, 100, 2000, 1)
    assert (work.batches, work.busy_seconds, work.batch_rows) == (2, 4.0, 50.0)
    assert work.sentences_per_second == pytest.approx(10)
    assert work.busy == pytest.approx(0.4)
    clock.now += 45
    meter.computed(50, 1.0)
    meter.add(50, 1000)
    assert meter.read().sentences_per_second == pytest.approx(150 / 55)
    clock.now += 30  # the first chunk is more than a minute ago
    work = meter.read()
    assert (work.chunks, work.sentences) == (2, 150)
    assert work.sentences_per_second == pytest.approx(50 / 60)
    assert work.busy == pytest.approx(1 / 60)
    assert (work.batches, work.batch_rows) == (3, 50.0)


def test_a_batch_longer_than_the_window_keeps_it_busy_all_the_time() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.start()
    clock.now += 200
    meter.computed(256, 190.0)
    assert meter.read().busy == 1.0


def test_two_lanes_are_busy_by_halves() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.lanes = 2
    meter.start()
    clock.now += 10
    meter.computed(256, 10.0)
    assert meter.read().busy == pytest.approx(0.5)


def test_before_any_work() -> None:
    work = Meter(Clock()).read()
    assert (work.sentences_per_second, work.busy, work.batch_rows) == (0.0, 0.0, 0.0)
