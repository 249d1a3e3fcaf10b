"""Totals and rates of a worker, by a clock of the test's own."""

import pytest

from bertq_workers.observability.meter import Meter


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
    meter.computed(60, 0.5, 1.0)
    meter.computed(40, 0.5, 3.0)
    meter.add(100, 2000)
    meter.failed()
    work = meter.read()
    assert (work.chunks, work.sentences, work.tokens, work.failures) == (1, 100, 2000, 1)
    assert (work.batches, work.busy_seconds, work.batch_rows) == (2, 4.0, 50.0)
    assert work.sentences_per_second == pytest.approx(10)
    assert work.busy == pytest.approx(0.4)
    assert (work.redelivered, work.batch_seconds) == (0, 0.0)
    clock.now += 45
    meter.computed(50, 0.5, 1.0)
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
    meter.computed(256, 1.0, 190.0)
    assert meter.read().busy == 1.0


def test_two_lanes_are_busy_by_halves() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.lanes = 2
    meter.start()
    clock.now += 10
    meter.computed(256, 1.0, 10.0)
    assert meter.read().busy == pytest.approx(0.5)


def test_before_any_work() -> None:
    work = Meter(Clock()).read()
    assert (work.sentences_per_second, work.busy, work.batch_rows) == (0.0, 0.0, 0.0)


def test_how_it_is_spread() -> None:
    meter = Meter(Clock())
    meter.computed(256, 0.5, 0.001)  # a bound belongs to what is below it
    meter.computed(4097, 1.0, 0.0011)
    for waited in (0.2, None, -3.0):  # the client's clock is ahead
        meter.add(1, 3, waited)
    meter.stored(0.04)
    meter.again()
    before = meter.spread()
    meter.stored(400.0)
    assert dict(before.computed.buckets()) | {"0.001": 1, "0.0025": 2, "+Inf": 2} == dict(
        before.computed.buckets()
    )
    assert dict(before.rows.buckets())["256.0"] == 1
    assert before.rows.buckets()[-2:] == [("4096.0", 1), ("+Inf", 2)]
    assert before.rows.total == 4353
    assert before.share.buckets()[-1] == ("+Inf", 2)
    assert (before.waited.total, before.waited.buckets()[0]) == (0.2, ("0.001", 1))
    assert before.waited.buckets()[-1] == ("+Inf", 2)
    assert (before.stored.total, meter.spread().stored.total) == (0.04, 400.04)
    assert meter.read().redelivered == 1


def test_how_long_the_oldest_batch_takes() -> None:
    meter = Meter(Clock())
    meter.longest = lambda: 12.5
    assert meter.read().batch_seconds == 12.5
