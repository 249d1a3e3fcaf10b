"""Totals and rates of a worker, by a clock of the test's own."""

import pytest

from bertq_workers.observability.meter import Meter


class Clock:
    """A clock that the test sets."""

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
    meter.count_batch(60, 0.5, 1.0)
    meter.count_batch(40, 0.5, 3.0)
    meter.count_chunk(100, 2000, truncated=7)
    meter.count_failed()
    meter.count_rejected()
    meter.count_rejected()
    work = meter.read()
    assert (work.chunks, work.sentences, work.tokens, work.failures) == (1, 100, 2000, 1)
    assert (work.rejected, work.truncated) == (2, 7)
    assert (work.batches, work.busy_seconds, work.batch_rows) == (2, 4.0, 50.0)
    assert work.sentences_per_second == pytest.approx(10)
    assert work.busy == pytest.approx(0.4)
    assert (work.redelivered, work.batch_seconds) == (0, 0.0)
    clock.now += 45
    meter.count_batch(50, 0.5, 1.0)
    meter.count_chunk(50, 1000)
    assert meter.read().sentences_per_second == pytest.approx(150 / 55)
    clock.now += 30  # the first chunk is more than a minute ago
    work = meter.read()
    assert (work.chunks, work.sentences) == (2, 150)
    assert work.sentences_per_second == pytest.approx(50 / 60)
    assert work.busy == pytest.approx(1 / 60)
    assert (work.batches, work.batch_rows) == (3, 50.0)


def test_a_batch_longer_than_the_window_counts_as_busy() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.start()
    clock.now += 200
    meter.count_batch(256, 1.0, 190.0)
    assert meter.read().busy == 1.0


def test_two_lanes_are_busy_by_halves() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.lanes = 2
    meter.start()
    clock.now += 10
    meter.count_batch(256, 1.0, 10.0)
    assert meter.read().busy == pytest.approx(0.5)


def test_before_any_work() -> None:
    work = Meter(Clock()).read()
    assert (work.sentences_per_second, work.busy, work.batch_rows) == (0.0, 0.0, 0.0)


def samples(meter: Meter) -> dict[str, float]:
    """The distributions of a meter, as they are scraped."""
    families = meter.distributions.collect()
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in families
        for sample in family.samples
    }


def test_distributions() -> None:
    meter = Meter(Clock())
    meter.count_batch(256, 0.5, 0.001)  # a bucket includes its bound
    meter.count_batch(4097, 1.0, 0.0011)
    for waited in (0.2, None, -3.0):  # the client's clock is ahead
        meter.count_chunk(1, 3, waited=waited)
    meter.count_stored(0.04)
    meter.count_redelivered()
    found = {name.removeprefix("bertq_worker_"): value for name, value in samples(meter).items()}
    assert (found["compute_seconds_bucket0.001"], found["compute_seconds_bucket0.0025"]) == (1, 2)
    assert (found["batch_rows_bucket256.0"], found["batch_rows_bucket4096.0"]) == (1, 1)
    assert (found["batch_rows_count"], found["batch_rows_sum"]) == (2, 4353)
    assert found["batch_fill_bucket+Inf"] == 2
    assert (found["queue_wait_seconds_sum"], found["queue_wait_seconds_count"]) == (0.2, 2)
    assert found["queue_wait_seconds_bucket0.001"] == 1
    assert (found["store_seconds_sum"], found["store_seconds_bucket+Inf"]) == (0.04, 1)
    assert meter.read().redelivered == 1


def test_how_long_the_oldest_batch_takes() -> None:
    meter = Meter(Clock())
    meter.oldest_batch_seconds = lambda: 12.5
    assert meter.read().batch_seconds == 12.5


def test_the_rate_of_the_last_minute_with_work() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.lanes = 2
    meter.start()
    work = meter.read()
    assert (work.max_sentences_per_second, work.chunk_sentences) == (0, 0)
    for rows in (200, 100, 16, 2):
        clock.now += 1
        meter.count_batch(rows, 0.5, 1.0)
        meter.count_chunk(rows, 10 * rows)
    for _ in range(2):
        work = meter.read()
        # Four seconds of one of two lanes: two seconds of the whole worker.
        assert work.max_sentences_per_second == pytest.approx(318 / 2)
        assert (work.chunk_sentences, work.small_chunk_sentences) == (150, 9)
        clock.now += 300  # five minutes without work change nothing
    meter.count_batch(30, 0.5, 2.0)
    meter.count_chunk(30, 10)
    work = meter.read()
    assert work.max_sentences_per_second == pytest.approx(30)
    assert (work.chunk_sentences, work.small_chunk_sentences) == (30, 9)
