"""A file of 100,000 sentences with real workers, of which some are killed, and so are runs."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bert.checkpoints import VOCABULARY
from tests.bulk.conftest import Encode, Write, names, rows_kept
from tests.cli.runs import Run
from tests.conftest import StartWorker
from tests.waiting import eventually

COUNT = 100_000


@pytest.fixture
def distinct() -> list[str]:
    """Distinct sentences of few wordpieces."""
    words = [word for word in VOCABULARY if word.isalnum()]
    base = len(words)
    return [
        f"{words[n // base**2 % base]} {words[n // base % base]} {words[n % base]} {n // base**3}"
        for n in range(COUNT)
    ]


def killed_at(run: Run, output: Path, rows: int) -> int:
    """Kill a run once ``rows`` rows are kept; return the number of kept rows."""
    eventually(lambda: rows_kept(output) >= rows or run.process.poll() is not None, 60)
    run.process.kill()
    assert run.wait()[0] == -signal.SIGKILL
    assert not output.exists()
    return rows_kept(output)


@pytest.mark.timeout(300)
def test_a_file_is_the_same_after_interruptions(
    redis_url: str, tiny_model: Path, start_worker: StartWorker, corpus: Write, encode: Encode,
    tmp_path: Path, distinct: list[str],
) -> None:  # fmt: skip
    assert len(set(distinct)) == COUNT
    options = ("--concurrency", "1", "--threads", "1")
    workers = [
        start_worker(redis_url, tiny_model, *options, "-n", f"{name}@%h") for name in ("a", "b")
    ]
    for worker in workers:
        worker.wait_ready()
    source, output, whole = corpus(distinct), tmp_path / "v.npy", tmp_path / "whole.npy"

    first = killed_at(encode(source, "-o", output), output, COUNT // 5)
    run = encode(source, "-o", output, "--resume")
    eventually(lambda: rows_kept(output) > first, 60)
    workers[1].kill()
    start_worker(redis_url, tiny_model, *options, "-n", "c@%h")
    second = killed_at(run, output, COUNT // 2)
    assert COUNT // 5 <= first < second < COUNT
    status, printed = encode(source, "-o", output, "--resume").wait()
    assert (status, printed) == (
        0, f"{output}: {COUNT} rows, kept {second}, encoded {COUNT - second}\n",
    )  # fmt: skip

    assert encode(source, "-o", whole).wait()[0] == 0
    found: Any = np.load(output)
    assert found.shape == (COUNT, 32)
    np.testing.assert_allclose(found, np.load(whole), rtol=0, atol=1e-6)
    assert not (found == 0).all(axis=1).any()
    assert "v.npy.part" not in names(tmp_path)
