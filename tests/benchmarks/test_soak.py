"""A short soak finds no fault, and its checks find faults that are there."""

import json
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.soak import plan, rows
from benchmarks.soak.report import find_faults, median_memory
from benchmarks.soak.request_log import RequestLog, Sample
from benchmarks.soak.run import SoakResult
from benchmarks.soak.workers import ChunkCounts
from bertq.errors import LostResult, Timeout
from tests.conftest import clean_environ
from tests.waiting import eventually

_ROOT = Path(__file__).parents[2]
DIM = 8
TEXTS = ["in the beginning", "was the word", "in the beginning"]


def command(output: Path, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "benchmarks.soak", "--output", str(output)]
    return [*program, "--logs", str(output / "logs"), *arguments]


def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    given = ["--minutes=0.2", "--kills=3", "--restarts=1", "--wipes=0", "--client-kills=1"]
    done = subprocess.run(
        command(tmp_path, *given),
        cwd=_ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "soak.md").read_text() == done.stdout.removesuffix("\n")
    found = json.loads((tmp_path / "soak.json").read_text())
    total = found["totals"]
    assert found["faults"] == []
    assert total["asked"] == total["answered"] > 1000
    assert sum(found["killed_workers"].values()) == 3
    assert sum(found["restarts"].values()) == 1
    assert found["client_kills"] == 1
    assert found["chunks"]["computed"] > 10
    assert "the worker that is not killed" in found["memory"]


def test_an_interrupted_soak_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--minutes=5", "--kills=0"), cwd=_ROOT, env=clean_environ()
    )
    try:
        log = tmp_path / "logs" / "worker-cpu0.log"
        eventually(lambda: log.exists() and " ready." in log.read_text(), 60)
        started = children(process.pid)
        assert len(started) == 1 + 3 + 4
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.wait()
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def make_log() -> RequestLog:
    return RequestLog(DIM)


def answer(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


def test_a_correct_answer() -> None:
    log = make_log()
    log.begin(TEXTS).answer(answer(rows.expected_rows(TEXTS, DIM)))
    log.wait_until_answered(0)
    found = log.document()
    assert (found["asked"], found["answered"], found["pending"]) == (3, 3, 0)
    assert (found["wrong"], found["doubled"], found["lost"], found["errors"]) == (0, 0, 0, {})
    assert found["seconds"]["count"] == 1


def test_incorrect_rows_are_noticed() -> None:
    log = make_log()
    bad = rows.expected_rows(TEXTS, DIM)
    bad[1, -1] += 1
    log.begin(TEXTS).answer(answer(bad))
    assert log.document()["wrong"] == 1
    swapped = rows.expected_rows(TEXTS, DIM)[[1, 0, 2]]
    log.begin(TEXTS).answer(answer(swapped))
    assert log.document()["wrong"] == 3
    log.begin(TEXTS).answer(answer(bad[:2]))
    found = log.document()
    assert found["wrong"] == 6
    assert found["messages"][-1] == "the answer to 3 sentences has the shape (2, 8)"


def test_lost_answers_are_noticed() -> None:
    log = make_log()
    late = log.begin(TEXTS)
    log.wait_until_answered(0.01)
    assert log.document()["lost"] == 1
    late.answer(answer(rows.expected_rows(TEXTS, DIM)))
    found = log.document()
    assert (found["lost"], found["answered"], found["doubled"]) == (1, 0, 0)


def test_duplicate_answers_are_noticed() -> None:
    log = make_log()
    ticket = log.begin(TEXTS)
    good = answer(rows.expected_rows(TEXTS, DIM))
    ticket.answer(good)
    ticket.answer(good)
    found = log.document()
    assert (found["answered"], found["doubled"]) == (3, 1)


def test_unexpected_errors_are_noticed() -> None:
    log = make_log()
    log.begin(TEXTS).answer(answer(LostResult("gone")))
    log.begin(TEXTS).answer(answer(Timeout("late")))
    cancelled: Future[Any] = Future()
    cancelled.cancel()
    log.begin(TEXTS, may_be_cancelled=True).answer(cancelled)
    log.begin(TEXTS, may_be_cancelled=True).answer(answer(Timeout("late")))
    found = log.document()
    assert found["errors"] == {"LostResult": 1, "Timeout": 1}
    assert found["given_up"] == 2


@pytest.mark.parametrize("name", ["wrong", "lost", "doubled"])
def test_each_fault_is_reported(name: str) -> None:
    one = {**make_log().document(), "final": True}
    good = SoakResult(counts_by_kind={"bulk": one})
    assert find_faults(good) == []
    assert len(find_faults(SoakResult(counts_by_kind={"bulk": {**one, name: 1}}))) == 1
    assert len(find_faults(SoakResult(counts_by_kind={"canceller": {**one, name: 1}}))) == 1
    clients = {"bulk": one}
    leftovers = SoakResult(counts_by_kind=clients, leftovers={"unacked": "hash of 1"})
    assert find_faults(leftovers) == ["left in Redis: unacked (hash of 1)"]
    later = SoakResult(counts_by_kind=clients, leftovers_after_workers={"bertq": "list of 1"})
    assert len(find_faults(later)) == 1
    assert find_faults(SoakResult(counts_by_kind={"bulk": {**one, "final": False}}))
    failed = SoakResult(counts_by_kind=clients, failure="a client has ended")
    assert find_faults(failed) == ["a client has ended"]


def test_every_sentence_has_a_different_row() -> None:
    first, second = (rows.Sentences(name, 0) for name in ("bulk0", "bulk1"))
    texts = list(dict.fromkeys(first.take(2000) + second.take(2000)))
    assert len(texts) >= 3998
    found = rows.expected_rows(texts, DIM)
    assert found.dtype == np.float32
    assert len(np.unique(found[:, :2], axis=0)) == len(texts)
    assert not (rows.expected_rows(["a b"], DIM) == rows.expected_rows(["b a"], DIM)).any()


def test_the_plan_of_events() -> None:
    found = plan.plan_events(2400, 7, 300, 6, 2, 20)
    assert (
        found
        == plan.plan_events(2400, 7, 300, 6, 2, 20)
        != plan.plan_events(2400, 8, 300, 6, 2, 20)
    )
    kinds = [event.action for event in found]
    assert {action: kinds.count(action) for action in kinds} == {
        "kill": 300, "restart": 6, "wipe": 2, "client": 20,
    }  # fmt: skip
    assert {event.signal_name for event in found if event.action == "kill"} == set(
        plan.SIGNAL_WEIGHTS
    )
    for number, event in enumerate(one for one in found if one.action == "kill"):
        assert 8 * number <= event.at_seconds <= 8 * (number + 1)


def test_chunks_that_are_encoded_again_are_counted() -> None:
    chunks = ChunkCounts()
    line = b"[2026-11-22 23:37:32,369: INFO/MainProcess] chunk %s\n"
    chunks.read(line % b"ab-0: 3 rows, 17 tokens, 0.012 s" + line % b"ab-1: delivered again")
    chunks.read(line % b"ab-0: 3 rows, 17 tokens, 0.012 s" + line % b"ab-1: failed, X: y")
    assert dict(chunks.counts) == {
        "computed": 2, "rows": 6, "again": 1, "redelivered": 1, "failed": 1,
    }  # fmt: skip


def test_a_reservoir_keeps_few_and_knows_all() -> None:
    sample = Sample(100)
    for value in range(10_000):
        sample.add(value)
    found = sample.document()
    assert (found["count"], found["max"]) == (10_000, 9999)
    assert 3000 < found["p50"] < 7000


def test_memory_after_the_start_and_at_the_end() -> None:
    samples = [(float(at_seconds), at_seconds) for at_seconds in range(101)]
    assert median_memory(samples, 100) == (24.5, 95)
    assert median_memory([], 100) == (0, 0)
