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
from benchmarks.ceiling.__main__ import plan_cases
from benchmarks.ceiling.simulated_service import SimulatedCase
from benchmarks.ceiling.throughput import Counters, Throughput
from benchmarks.client_process import ClientProcesses
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
        (throughput,) = case["flows"]
        assert throughput["received"] > 0.75 * case["row_bytes"]
        assert set(throughput["cores"]) == {"workers", "client", "redis"}
        assert throughput["cores"]["workers"] > 0


def test_rows_in_float16(tmp_path: Path) -> None:
    # As with --extras, but without the model of the demo.
    program = f"""
import benchmarks.ceiling.__main__ as ceiling
from benchmarks.ceiling.simulated_service import SimulatedCase as Case
ceiling.plan_cases = lambda *_: [Case(1, 0.0, is_float16=True)]
ceiling.main(["--no-extras", "--rounds=1", "--seconds=0.2", "--call=64", "--output={tmp_path}"])
"""
    subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, env=clean_environ(), check=True, timeout=110
    )
    (half,) = json.loads((tmp_path / "ceiling.json").read_text())["cases"]
    assert half["row_bytes"] == 2 * 768
    assert 1536 < half["flows"][0]["received"] < 3072


def test_messages(tmp_path: Path) -> None:
    found = run("messages", tmp_path, "--rounds=1", "--seconds=0.5", "--case=1x1")
    (costs,) = found["cases"].values()
    assert list(costs) == ["bertq", "Celery, threads", "Celery, prefork"]
    for (cost,) in costs.values():
        assert 0 < cost["p50_ms"] <= cost["p99_ms"]
        assert cost["commands"] > 4
        assert cost["cpu_ms"]["worker"] > 0


def test_startup(tmp_path: Path, tiny_model: Path) -> None:
    found = run("startup", tmp_path, "--model-dir", str(tiny_model), "--rounds=1")
    (start,) = found["starts"]["bertq"]
    assert 0 < start["seconds"]["TensorFlow"] < start["seconds"]["in all"]
    assert start["cpu_seconds"] > 0
    assert start["mib"] > 100


def test_overhead(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--rounds=2", "--sentences=32"]
    found = run("overhead", tmp_path, *arguments)
    assert len(found["ratio"]["values"]) == 2
    assert found["ratio"]["low"] > 0


def test_latency(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--singles=10", "--rounds=1", "--seconds=0.2"]
    found = run("latency", tmp_path, *arguments, "--clients=1", "--clients=2", "--bulk=40000")
    assert list(found["clients"]) == [
        "encoder, in process",
        "one client, one after another",
        "1 thread of one client",
        "1 client process",
        "2 threads of one client",
        "2 client processes",
    ]
    for result in found["clients"].values():
        assert 0 < result["ms"]["p50"] <= result["ms"]["p95"] <= result["ms"]["p99"]
    assert found["bulk_per_second"] > 0


def test_gateway(tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["--model-dir", str(tiny_model), "--rounds=2", "--seconds=0.5", "--callers=4"]
    found = run("gateway", tmp_path, *arguments)
    assert found["errors"] == 0
    assert len(found["gateway_mib"]) == 2
    for way in found["ways"].values():
        assert 0 < way["ms"]["p50"] <= way["ms"]["p99"]


def test_routes(tmp_path: Path) -> None:
    found = run("routes", tmp_path, "--rounds=1", "--seconds=0.5", "--callers=4")
    assert found["wrong"] == 0
    for route in found["routes"].values():
        assert route["turns"][0]["cpu_ms"] > 0


def test_memory(tmp_path: Path, tiny_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--minutes=0.05", "--output", str(tmp_path),
         "--model-dir", str(tiny_model)],
        cwd=_ROOT, env=clean_environ(), capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    found = json.loads((tmp_path / "memory.json").read_text())
    assert found["sentences"] > 0
    assert list(found["minutes"]) == ["1"]
    # The memory of the first seconds is not level.
    assert done.returncode == (0 if found["is_level"] else 1), done.stderr


def test_clients(tmp_path: Path) -> None:
    arguments = ["--clients=2", "--clients=9", "--rate=60", "--seconds=1"]
    few, many = run("clients", tmp_path, *arguments)["clients"].values()
    for found in (few, many):
        assert found["answers"] > 10
        assert 0 < found["p50_ms"] <= found["p99_ms"]
        # A stream for each client; nothing of them is left.
        assert found["streams"] == found["clients"]
        assert found["idle_keys"] < found["keys"]
    assert many["idle_keys"] == few["idle_keys"]
    assert many["connections"] <= few["connections"] + 7 * 6


def test_a_client_process_that_ends(redis_url: str) -> None:
    with ClientProcesses(redis_url, 1) as processes:
        processes.kill()
        with pytest.raises((RuntimeError, BrokenPipeError)):
            processes.send(1, 0, 0, 0)


def test_the_simulated_cases() -> None:
    plain = plan_cases([1, 2], [0, 25], None)
    assert [(case.workers, case.batch_ms) for case in plain] == [(1, 0), (2, 0), (1, 25), (2, 25)]
    other_rows = plan_cases([1], [25], Path("model"))[1:]
    assert [case.description for case in other_rows] == [
        "rows float16", "with a tokenizer", "rows float16", "with a tokenizer",
    ]  # fmt: skip


def test_how_busy_a_device_is() -> None:
    assert SimulatedCase(1, 25.0).busy_share(10240) == pytest.approx(1.0)
    assert SimulatedCase(2, 25.0).busy_share(10240) == pytest.approx(0.5)
    assert SimulatedCase(1, 0.0).busy_share(10240) is None


def test_the_traffic_between_two_snapshots() -> None:
    first = Counters(10.0, 1.0, 2.0, 3.0, 100, 200)
    last = Counters(12.0, 2.0, 2.5, 3.2, 1100, 2200)
    throughput = Throughput.from_counters(first, last, rows=10)
    assert throughput.rows == 5
    assert (throughput.received, throughput.sent) == (100, 200)
    assert throughput.cores == pytest.approx({"workers": 0.5, "client": 0.25, "redis": 0.1})


def test_the_list_of_benchmarks() -> None:
    assert list(_FULL) == list(_QUICK)
    refused = CliRunner().invoke(run_all, ["--only", "nothing"])
    assert refused.exit_code == 2
