"""The simulation of workers, the policies for their number, and the check on real workers."""

import pytest

from benchmarks.scaling import policies, real
from benchmarks.scaling.__main__ import build_document
from benchmarks.scaling.load import BULK, MEDIUM, SINGLE, Arrival, bursts
from benchmarks.scaling.policies import Policy, Seen
from benchmarks.scaling.simulation import Costs, Simulation

#: A worker takes a second for a chunk.
COSTS = Costs(1 / 256, start_seconds=30.0)


def test_two_workers_share_a_burst() -> None:
    arrivals = [Arrival(5.0, BULK, 20 * 256), Arrival(5.5, SINGLE, 1), Arrival(6.0, MEDIUM, 512)]
    outcome = Simulation(arrivals, policies.fixed(2), COSTS).run()
    seconds = {kind: found[0][1] for kind, found in outcome.latencies.items()}
    # The single sentence is computed after the first chunk of a worker.
    assert seconds[SINGLE] == pytest.approx(0.5 + 1 / 256)
    assert seconds[BULK] == pytest.approx(10 + 1 / 256)
    assert seconds[MEDIUM] == pytest.approx(10, abs=0.01)
    assert outcome.busy_seconds == pytest.approx(22 + 1 / 256)
    assert outcome.paid_seconds == pytest.approx(2 * 16, abs=0.02)
    assert outcome.most_workers == 2


def test_a_scaler_adds_workers_after_their_start_and_removes_them() -> None:
    arrivals = [Arrival(0.0, BULK, 400 * 256), Arrival(1000.0, SINGLE, 1)]
    policy = policies.by_work(30.0, window_seconds=60.0)
    policy.high = 8
    outcome = Simulation(arrivals, policy, COSTS).run()
    ((_, drained),) = outcome.latencies[BULK]
    # 45 s of two workers, 15 s of six, then eight: 400 seconds of work.
    assert 45 + (400 - 90) / 8 < drained < 45 + (400 - 90) / 6
    assert outcome.most_workers == 8
    assert outcome.paid_seconds < 8 * drained + 2 * 1000 + 8 * 100


def test_what_kubernetes_allows() -> None:
    wanted = [100.0, 100.0, 10.5, 5.0, 5.0, 5.0]
    policy = Policy("", lambda seen: wanted.pop(0), low=2, high=64, window_seconds=30.0)
    seen = Seen((0, 0), 0.0, 0.0)
    numbers = [2]
    for number in range(6):
        numbers.append(policy.choose(15.0 * number, numbers[-1], seen))
    # Four more, then twice as many; down only when the window has passed.
    assert numbers == [2, 6, 12, 12, 12, 11, 5]


def test_the_load_has_all_kinds() -> None:
    arrivals = bursts()
    assert {arrival.kind for arrival in arrivals} == {SINGLE, MEDIUM, BULK}
    moments = [arrival.at_seconds for arrival in arrivals]
    assert moments == sorted(moments)


def test_real_workers_and_the_page() -> None:
    arrivals = [Arrival(0.0, BULK, 1024), Arrival(0.1, SINGLE, 1), Arrival(0.2, MEDIUM, 300)]
    measured = real.measure(arrivals, 1, 0.05)
    assert {kind: [size for size, _ in found] for kind, found in measured.items()} == {
        BULK: [1024], SINGLE: [1], MEDIUM: [300],
    }  # fmt: skip
    assert all(seconds > 0 for found in measured.values() for _, seconds in found)
    sizes = [30_000, 300_000, 1_200_000]
    outcome = Simulation(
        [*arrivals[1:], *(Arrival(1.0, BULK, size) for size in sizes)], policies.fixed(64), COSTS
    ).run()
    page = build_document({1: (measured, measured)}, {"all": outcome}, {"slow": outcome}, {})
    assert [row[0] for row in page.tables[0].rows] == [
        "1 workers, measured",
        "1 workers, simulated",
    ]
    assert page.data["policies"]["all"]["most_workers"] == 64
