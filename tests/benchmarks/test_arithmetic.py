"""The arithmetic of the benchmarks: known work in, known rates, medians and ratios out."""

from datetime import datetime
from typing import Any

import pytest

from benchmarks import gateway, latency_page, memory, overhead, routes, startup
from benchmarks.ceiling.__main__ import Result
from benchmarks.ceiling.simulated_service import SimulatedCase
from benchmarks.ceiling.throughput import Throughput
from benchmarks.latency_page import IN_PROCESS, LatencyResults
from benchmarks.measuring import answers_per_second, percentiles_ms
from benchmarks.messages.__main__ import Case
from benchmarks.messages.__main__ import build_document as build_messages_document
from benchmarks.messages.cost import Cost, Reading
from benchmarks.peers.comparison import Comparison
from benchmarks.peers.page import Machine
from benchmarks.peers.page import build_document as build_peers_document
from benchmarks.soak.clients import CANCELLER
from benchmarks.soak.report import sum_totals
from benchmarks.soak.run import SoakResult
from bertq_cli.bench.arithmetic import Arithmetic
from bertq_cli.bench.document import Document
from bertq_cli.bench.peak import Peak
from bertq_cli.bench.senders import Rates
from bertq_cli.bench.timing import MedianRange, measure_seconds


def cells(document: Document, table: int, first_cell: str) -> list[str]:
    """Return the row of a table that begins with a cell."""
    (row,) = [row for row in document.tables[table].rows if row[0] == first_cell]
    return list(row)


def test_rates_of_concurrent_clients() -> None:
    # 100 sentences each, in 1 s and in 4 s, and 5 s in all
    rates = Rates.from_durations(100, [1.0, 4.0], 5.0)
    assert rates.total == 40
    assert rates.each == (100 + 25) / 2


def test_the_seconds_of_a_call() -> None:
    assert 0 <= measure_seconds(lambda: None) < 1


def test_the_rate_ends_with_the_last_answer() -> None:
    answers = [(11.0, 0.5), (14.0, 0.5), (12.0, 0.5)]
    assert answers_per_second(answers, begin=10.0) == 3 / 4


def test_percentiles_in_milliseconds() -> None:
    assert percentiles_ms([0.002] * 5) == {"p50": 2, "p95": 2, "p99": 2}


def test_the_page_about_latency() -> None:
    results = LatencyResults()
    results.add(IN_PROCESS, [0.01] * 4, 100.0)
    for rate in (40.0, 50.0, 60.0):
        results.add("one client", [0.02] * 4, rate)
    results.added_ms = [9.0, 10.0, 12.0]
    results.batches = [0.1, 0.2]
    results.during_bulk = [0.4] * 3
    results.bulk_rate = 1234.0
    page = latency_page.build_document(results, {}, bulk=2000)
    assert cells(page, 0, "one client") == [
        "one client", "20.0", "20.0", "20.0", "50 (40\N{EN DASH}60)", "0.50",
    ]  # fmt: skip
    assert cells(page, 1, "its p95, in longest batches")[1] == "2.00"
    assert page.data["extra_ms"]["median"] == 10
    assert page.data["beside_bulk_ms"]["p99"] == 400


def test_the_page_about_overhead_has_the_ratio_of_each_round() -> None:
    rates = {
        "encoder, in process": MedianRange.from_values([100.0, 200.0, 400.0]),
        "client, Redis and worker": MedianRange.from_values([50.0, 180.0, 380.0]),
    }
    page = overhead.build_document(rates, {})
    assert page.data["ratio"]["values"] == (0.5, 0.9, 0.95)
    assert cells(page, 0, "ratio")[1] == "0.90 (0.50\N{EN DASH}0.95)"


def test_the_page_about_the_gateway() -> None:
    results = gateway.GatewayResults()
    results.add(gateway.HTTP, [(1.0, 0.1), (2.0, 0.1)], begin=0.0)  # 1 a second
    results.add(gateway.CLIENT, [(1.0, 0.05), (2.0, 0.05), (2.0, 0.05)], begin=1.0)  # 3 a second
    results.memory = [2**20, 3 * 2**20]
    page = gateway.build_document(results, {}, callers=2)
    assert cells(page, 0, gateway.HTTP) == [
        gateway.HTTP, "100.0", "100.0", "100.0", "1 (1\N{EN DASH}1)", "0.33", "2",
    ]  # fmt: skip
    assert page.data["gateway_mib"] == [1, 3]


def test_the_page_about_routes_compares_turns_of_the_same_round() -> None:
    def turns(*cpu_seconds: float) -> list[routes.Turn]:
        answers = [(12.0, 0.1), (14.0, 0.1)]
        return [routes.Turn.from_answers(answers, 10.0, seconds) for seconds in cpu_seconds]

    by_path = {routes.BASELINE: turns(0.002, 0.004, 0.002), "/embed": turns(0.003, 0.004, 0.001)}
    page = routes.build_document(by_path, 0, {}, callers=2)
    rate = "0 (0\N{EN DASH}0)"  # 2 answers in 4 s
    assert cells(page, 0, "/embed") == [
        "/embed", "1.50", "1.00 (0.50\N{EN DASH}1.50)", rate, "1.00 (1.00\N{EN DASH}1.00)",
        "100.0", "100.0",
    ]  # fmt: skip
    assert page.data["routes"]["/embed"]["cpu_ratio"]["values"] == (1.5, 1.0, 0.5)


def test_the_page_about_peers() -> None:
    comparison = Comparison()
    process: Any = None
    for peer, speed, wait in (("own", 300.0, 5.0), ("sbert", 100.0, 20.0)):
        for variant in ("float32", "bfloat16"):
            comparison.processes[peer, variant] = process
            comparison.speeds[peer, variant] = MedianRange.from_values([speed])
            comparison.waits[peer, variant] = {1: [wait, wait], 8: [3 * wait]}
            comparison.agreement[peer, variant] = "1e-07"
    # 1,000,000 numbers in matrices; for a sentence of 10 tokens 20,000,000 operations there and
    # 2 * 100 * (50 + 50) in the attention.
    network = Arithmetic(layer_parameters=1_000_000, hidden_size=50, reach=(None,))
    machine = Machine(Peak({"float32": 10e9}, 1e9), network, lengths=[10, 10, 10])
    page = build_peers_document(comparison, {}, machine)
    row = cells(page, 0, "sentence-transformers, float32")
    assert row[2] == "3.00"  # 300 / 100 sentences a second
    assert row[4] == "4.00"  # 20 / 5 ms
    assert cells(page, 1, "sentence-transformers, float32")[1:] == ["20.0", "60.0"]
    # 20,020,000 operations 300 times a second and in 5 ms; 4 MB in 5 ms
    assert cells(page, 2, "bertq, float32")[1:] == ["6 (60%)", "4 (40%)", "0.8 (80%)"]
    assert cells(page, 2, "bertq, bfloat16")[1:] == ["6", "4", "0.4 (40%)"]


def test_the_steps_of_a_start() -> None:
    times = {
        "40.250": "loading: reading the model",
        "40.500": "loading: starting TensorFlow",
        "42.500": "loading: building the graph",
        "42.750": "loading: warming up, 1 of 4 (1 x 3 tokens)",
        "43.000": "loading: warming up, 2 of 4 (1 x 20 tokens)",
        "43.500": "model m on cpu: x, float32; ready after 3.5 s, 700 MiB",
        "43.750": "cpu0@host ready.",
    }
    lines = [f"[2026-11-28 20:00:{at.replace('.', ',')}: INFO/MainProcess] {text}"
             for at, text in times.items()]  # fmt: skip
    started = datetime(2026, 11, 28, 20, 0, 40).timestamp()
    steps = startup.parse_steps("\n".join(["a banner", *lines]), started)
    assert steps == pytest.approx({
        "Python, Celery and bertq": 0.25, "reading the model": 0.25, "TensorFlow": 2.0,
        "building the graph": 0.25, "warming up": 0.75, "connecting": 0.25, "in all": 3.75,
    })  # fmt: skip
    starts = [startup.Start(steps, cpu_seconds, 700.0) for cpu_seconds in (2.0, 4.0, 3.0)]
    page = startup.build_document({"bertq": starts}, {})
    assert cells(page, 0, "processor time")[1] == "3.00 (2.00\N{EN DASH}4.00)"


def test_the_medians_of_a_simulated_case() -> None:
    throughputs = tuple(
        Throughput(rows, {"workers": share, "client": 1.0, "redis": 1.0}, 10.0, 20.0)
        for rows, share in ((5120.0, 0.1), (10240.0, 0.2), (20480.0, 0.9))
    )
    result = Result(SimulatedCase(2, 25.0), throughputs)
    assert result.rows.median == 10240
    assert result.median("workers") == 0.2
    assert result.median("received") == 10
    assert result.busy_share == pytest.approx(0.5)  # 10,240 rows on two devices of 10,240 each


def reading(
    at_seconds: float, worker: float, client: float, redis: float, commands: int
) -> Reading:
    """Return a reading of the counters."""
    seconds = {"worker": worker, "client": client, "redis": redis}
    return Reading(at_seconds, seconds, commands)


def test_the_cost_of_a_request() -> None:
    first = reading(10.0, worker=1.0, client=5.0, redis=0.5, commands=1000)
    last = reading(14.0, worker=3.0, client=6.0, redis=0.9, commands=5000)
    # One client has an answer each 10 ms, another one each 20 ms; both send before and afterwards.
    answers = [(9.0 + number / 100, 0.01) for number in range(1, 601)]
    answers += [(9.0 + number / 50, 0.02) for number in range(1, 301)]
    cost = Cost.from_readings(first, last, answers)
    assert cost.answers == 600  # 400 and 200
    assert cost.rate == 150
    assert (cost.p50_ms, cost.p99_ms) == pytest.approx((10, 20))
    assert cost.cpu_ms == pytest.approx(
        {"worker": 2000 / 600, "client": 1000 / 600, "redis": 4 / 6}
    )
    assert cost.commands == pytest.approx(4000 / 600)


def test_a_period_without_answers() -> None:
    first, last = reading(1.0, 0, 0, 0, 0), reading(2.0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="no request"):
        Cost.from_readings(first, last, [(0.5, 0.1), (2.5, 0.1)])


def test_the_page_about_messages_has_medians() -> None:
    costs = [
        Cost(200, rate, 4.0, 9.0, {"worker": 1.0, "client": 0.5, "redis": 0.25}, 15.0)
        for rate in (100.0, 300.0, 200.0)
    ]
    page = build_messages_document({Case(8, 1): {"bertq": costs}}, {})
    assert page.tables[0].title == "8 processes with 1 thread"
    assert cells(page, 0, "bertq") == [
        "bertq", "200 (100\N{EN DASH}300)", "4.0", "9.0", "1.00", "0.50", "0.25", "15.0",
    ]  # fmt: skip
    assert page.data["cases"]["8x1"]["bertq"][1]["rate"] == 300


def test_the_totals_of_a_soak_test() -> None:
    counts = {"asked": 10, "answered": 9, "wrong": 1, "doubled": 2, "lost": 1, "requests": 3}
    result = SoakResult(
        counts_by_kind={
            "bulk": {**counts, "errors": {"Timeout": 2}, "resent": 4},
            CANCELLER: {**counts, "errors": {"LostResult": 1}, "resent": None},
        }
    )
    assert sum_totals(result) == {
        "requests": 3, "asked": 10, "answered": 9, "wrong": 2, "doubled": 4, "lost": 2,
        "failed": 3, "resent": 4,
    }  # fmt: skip


@pytest.mark.parametrize(("last", "is_level"), [(104, True), (90, True), (106, False)])
def test_the_memory_is_level_if_it_hardly_grows(last: int, is_level: bool) -> None:
    work = memory.MixedWork("", 180.0)
    # While the worker warms up, the memory may grow.
    work.samples += [(float(at), (20, 100, last)[at // 60] << 20) for at in range(180)]
    document = memory.build_document(work, {})
    assert document.data["is_level"] is is_level
    assert document.data["minutes"] == {1: 20 << 20, 2: 100 << 20, 3: last << 20}
