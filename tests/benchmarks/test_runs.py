"""Each benchmark of a service, run for a moment: it ends and writes its results."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import _FULL, _QUICK
from benchmarks.__main__ import main as run_all
from benchmarks.ceiling.__main__ import cases
from benchmarks.ceiling.clockwork import Case
from benchmarks.ceiling.pump import Flow, Snapshot
from benchmarks.sender import Senders
from tests.conftest import clean_environ

_ROOT = Path(__file__).parents[2]


def run(name: str, output: Path, *arguments: str) -> Any:
    """Run a benchmark for a moment and return its numbers."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--output", str(output), *arguments],
        cwd=_ROOT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert (output / f"{name}.md").read_text() == done.stdout.removesuffix("\n")
    return json.loads((output / f"{name}.json").read_text())


def test_the_ceiling(tmp_path: Path) -> None:
    arguments = ["--workers=1", "--batch-ms=0", "--batch-ms=5", "--rounds=1", "--seconds=0.2"]
    found = run("ceiling", tmp_path, *arguments, "--call=256", "--no-extras")
    free, timed = found["cases"]
    assert free["busy"] is None
    # The time is measured between answers, so the count may be one call of about forty too high.
    assert 0 < timed["busy"] < 1.25
    for case in found["cases"]:
        (flow,) = case["flows"]
        assert flow["received"] > 0.75 * case["row_bytes"]
        assert set(flow["cores"]) == {"workers", "client", "redis"}
        assert flow["cores"]["workers"] > 0


def test_rows_in_float16(tmp_path: Path) -> None:
    # As with --extras, but without the model of the demo.
    program = f"""
import benchmarks.ceiling.__main__ as ceiling
from benchmarks.ceiling.clockwork import Case
ceiling.cases = lambda *_: [Case(1, 0.0, half=True), Case(1, 0.0, single=True)]
ceiling.main(["--no-extras", "--rounds=1", "--seconds=0.2", "--call=64", "--output={tmp_path}"])
"""
    subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, env=clean_environ(), check=True, timeout=110
    )
    half, single = json.loads((tmp_path / "ceiling.json").read_text())["cases"]
    assert half["row_bytes"] == 2 * 768
    assert 1536 < half["flows"][0]["received"] < 3072
    assert single["chunks_of_one"] is True
    assert single["flows"][0]["commands"] > 1


def test_overhead(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--rounds=2", "--sentences=32"]
    found = run("overhead", tmp_path, *arguments)
    assert len(found["ratio"]["values"]) == 2
    assert found["ratio"]["low"] > 0


def test_latency(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--singles=10", "--rounds=1", "--seconds=0.2"]
    found = run("latency", tmp_path, *arguments, "--crowd=1", "--crowd=2", "--bulk=40000")
    assert list(found["clients"]) == [
        "encoder, in process",
        "one client, one after another",
        "1 thread of one client",
        "1 client process",
        "2 threads of one client",
        "2 client processes",
    ]
    for one in found["clients"].values():
        assert 0 < one["ms"]["p50"] <= one["ms"]["p95"] <= one["ms"]["p99"]
    assert found["bulk_per_second"] > 0


def test_gateway(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--rounds=2", "--seconds=0.5", "--callers=4"]
    found = run("gateway", tmp_path, *arguments)
    assert found["errors"] == 0
    assert len(found["gateway_mib"]) == 2
    for way in found["ways"].values():
        assert 0 < way["ms"]["p50"] <= way["ms"]["p99"]


def test_a_client_process_that_ends(redis_url: str) -> None:
    with Senders(redis_url, 1) as senders:
        senders.kill()
        with pytest.raises((RuntimeError, BrokenPipeError)):
            senders.send(1, 0, 0, 0)


def test_the_simulated_cases() -> None:
    plain = cases([1, 2], [0, 25], None)
    assert [(case.workers, case.batch_ms) for case in plain] == [(1, 0), (2, 0), (1, 25), (2, 25)]
    unusual = cases([1], [25], Path("model"))[1:]
    assert [case.extra for case in unusual] == [
        "rows float16", "with a tokenizer", "rows float16", "with a tokenizer",
        "chunks of one row",
    ]  # fmt: skip


def test_how_busy_a_device_is() -> None:
    assert Case(1, 25.0).busy(10240) == pytest.approx(1.0)
    assert Case(2, 25.0).busy(10240) == pytest.approx(0.5)
    assert Case(1, 0.0).busy(10240) is None


def test_the_traffic_between_two_snapshots() -> None:
    first = Snapshot(10.0, 1.0, 2.0, 3.0, 100, 200, 5)
    last = Snapshot(12.0, 2.0, 2.5, 3.2, 1100, 2200, 25)
    flow = Flow.between(first, last, rows=10)
    assert (flow.rows, flow.received, flow.sent, flow.commands) == (5, 100, 200, 2)
    assert flow.cores == pytest.approx({"workers": 0.5, "client": 0.25, "redis": 0.1})


def test_the_list_of_benchmarks() -> None:
    assert list(_FULL) == list(_QUICK)
    refused = CliRunner().invoke(run_all, ["--only", "nothing"])
    assert refused.exit_code == 2
