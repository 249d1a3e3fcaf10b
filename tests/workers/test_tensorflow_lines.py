"""The lines of TensorFlow's C++ code: noise is removed, errors remain."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bertq_workers.observability import tensorflow_lines
from tests.conftest import StartWorker

NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795859941.662221    4048 port.cc:153] oneDNN custom operations are on.",
    "2024-03-01 10:00:00.123456: I tensorflow/core/util/port.cc:113] oneDNN custom operations",
    "To enable the following instructions: AVX2 FMA, rebuild TensorFlow.",
    "E0000 00:00:1795859941.1  1 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting",
]
OF_CUDA = [
    "E0000 00:00:1795859946.857819    4048 cuda_platform.cc:52] failed call to cuInit: INTERNAL",
    "2024-03-01 10:00:00.1: E external/cuda_driver.cc:266] failed call to cuInit: UNKNOWN ERROR",
]
REAL = [
    "E0000 00:00:1795859946.857819    4048 thread_pool.cc:52] no thread can be started",
    "F0000 00:00:1795859946.857819    4048 cpu_feature_guard.cc:1] this needs AVX",
    "W0000 00:00:1795859946.857819    4048 allocator.cc:1] exceeds 10% of free system memory",
    "Fatal Python error: Segmentation fault",
    "[2026-11-28 09:58:03,632: INFO/MainProcess] loading: building the graph",
    "without a line's end",
]


@pytest.mark.parametrize(("device", "remaining"), [("cpu", REAL), ("gpu", [*OF_CUDA, *REAL])])
def test_only_noise_is_removed(device: str, remaining: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", tensorflow_lines.__file__, device],
        input="\n".join([*NOISE, *OF_CUDA, *REAL]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n".join(remaining)


@pytest.mark.parametrize("queue", ["cpu0", "bertq"])
def test_a_worker_on_a_cpu_logs_its_progress_without_noise(
    redis_url: str, tiny_model: Path, start_worker: StartWorker, queue: str
) -> None:
    worker = start_worker(redis_url, tiny_model, "-Q", queue, "--threads", "1").wait_ready()
    lines = worker.log.splitlines()
    start = next(number for number, line in enumerate(lines) if "loading: reading" in line)
    end = next(number for number, line in enumerate(lines) if "ready after" in line)
    assert re.findall(r"loading: (.*)", worker.log) == [
        "reading the model", "starting TensorFlow", "building the graph",
        "warming up, 1 of 4 (1 x 3 tokens)", "warming up, 2 of 4 (1 x 20 tokens)",
        "warming up, 3 of 4 (1 x 25 tokens)", "warming up, 4 of 4 (32 x 25 tokens)",
    ]  # fmt: skip
    assert all("INFO/MainProcess" in line for line in lines[start : end + 1])
    assert not re.search("cuInit|oneDNN|absl", worker.log)
    assert worker.stop() == 0


def test_a_level_of_the_users_is_respected(
    redis_url: str, tiny_model: Path, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    worker = start_worker(redis_url, tiny_model, "-Q", "cpu0", "--threads", "1").wait_ready()
    assert "oneDNN" in worker.log
