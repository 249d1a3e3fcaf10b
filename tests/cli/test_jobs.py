"""``bertq jobs`` and ``bertq job``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from redis import Redis
from scipy.sparse import load_npz

from bertq import BertClient
from bertq.errors import BadInputValue, BertqError, RemoteError, UnknownJob
from bertq_cli.commands import jobs
from tests.cli.runs import Run
from tests.client.stub import rows, stub_worker

TEXTS = [f"number {number}" for number in range(700)]

Job = Callable[..., Result]


@pytest.fixture
def job(redis_url: str) -> Job:
    """Runs ``bertq job``."""

    def run(*arguments: str) -> Result:
        runner = CliRunner(env={"BERTQ_REDIS_URL": redis_url})
        return runner.invoke(jobs.job, arguments, catch_exceptions=False)

    return run


def listed(redis_url: str, *arguments: str) -> str:
    """What ``bertq jobs`` prints."""
    runner = CliRunner(env={"COLUMNS": "120", "BERTQ_REDIS_URL": redis_url})
    shown = runner.invoke(jobs.jobs, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    return shown.output


def test_the_list(redis_url: str, client: BertClient) -> None:
    assert listed(redis_url) == f"no job is kept in Redis at {redis_url}\n"
    assert json.loads(listed(redis_url, "--json")) == []
    first, second = client.submit(TEXTS), client.submit(["a"], ttl=7200)
    (found,) = (line for line in listed(redis_url).splitlines() if first.id in line)
    cells = [cell.strip() for cell in found.strip("│").split("│")]
    assert cells[:4] == [first.id, "waiting", "700", "0 %"]
    assert cells[4].endswith("KiB")
    assert cells[6].startswith("23 h 59 min") or cells[6].startswith("1 d")
    document = json.loads(listed(redis_url, "--json"))
    assert [info["id"] for info in document] == [first.id, second.id]


def test_one_job(redis_url: str, client: BertClient, job: Job) -> None:
    kept = client.submit(TEXTS, normalize=True)
    shown = job(kept.id)
    assert shown.exit_code == 0
    lines = dict(line.split("  ", 1) for line in shown.output.splitlines())
    assert lines["job"].strip() == kept.id
    assert lines["status"].strip() == "waiting"
    assert lines["sentences"].strip() == "700, 0 done"
    assert lines["options"].strip() == '{"normalize": true}'
    with stub_worker(redis_url):
        kept.result(20)
    document = json.loads(job(kept.id, "--json").output)
    assert (document["status"], document["done"], document["fingerprint"]) == ("done", 700, None)


def test_watching_a_job(redis_url: str, client: BertClient, job: Job) -> None:
    kept = client.submit(TEXTS)
    with stub_worker(redis_url):
        shown = job(kept.id, "--watch")
    assert shown.exit_code == 0
    assert "status      done" in shown.output
    assert "100%" in shown.output


def test_one_that_fails(redis_url: str, client: BertClient, job: Job, tmp_path: Path) -> None:
    kept = client.submit(["!fail"])
    with stub_worker(redis_url):
        shown = job(kept.id, "--watch")
    assert shown.exit_code == 1
    assert "1, 0 done, 1 failed" in shown.output
    with pytest.raises(RemoteError):
        job(kept.id, "-o", str(tmp_path / "v.npy"))
    assert list(tmp_path.iterdir()) == []


def test_ended(client: BertClient, job: Job, tmp_path: Path) -> None:
    first, second = client.submit(TEXTS), client.submit(TEXTS)
    assert job(first.id, "--cancel").output == "cancelled\n"
    assert job(first.id, "--cancel").output == "it was cancelled before\n"
    assert job(first.id).exit_code == 1
    with pytest.raises(BertqError, match=f"job {first.id} was cancelled: it has no vectors"):
        job(first.id, "-o", str(tmp_path / "vectors.npy"))
    assert list(tmp_path.iterdir()) == []
    assert job(second.id, "--discard").output == "discarded\n"
    with pytest.raises(UnknownJob):
        job(second.id)


@pytest.mark.parametrize("options", [{}, {"precision": "int8"}, {"show_tokens": True}])
def test_the_vectors(
    redis_url: str, client: BertClient, job: Job, tmp_path: Path, options: dict[str, Any]
) -> None:
    kept, path = client.submit(TEXTS, **options), tmp_path / "vectors.npy"
    with stub_worker(redis_url):
        shown = job(kept.id, "-o", str(path))
    dtype = options.get("precision", "float32")
    assert shown.stdout.strip() == f"{path}: 700 x 4, {dtype}"
    vectors = np.load(path)
    np.testing.assert_array_equal(vectors, rows(TEXTS).astype(dtype))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadInputValue, match="is there already: --overwrite replaces it"):
        job(kept.id, "-o", str(path))
    assert job(kept.id, "-o", str(path), "--overwrite").exit_code == 0


def test_sparse_rows(redis_url: str, client: BertClient, job: Job, tmp_path: Path) -> None:
    kept, path = client.submit(TEXTS, precision="float16"), tmp_path / "rows.npz"
    with stub_worker(redis_url) as stub:
        stub.is_sparse = True
        shown = job(kept.id, "-o", str(path))
    assert shown.stdout.strip() == f"{path}: 700 x 4, float32"
    found = load_npz(path)
    np.testing.assert_array_equal(found.toarray(), rows(TEXTS))
    with pytest.raises(BadInputValue, match=r"has sparse rows, which are written as \.npz"):
        job(kept.id, "-o", str(tmp_path / "rows.npy"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_without_sparse_rows(
    redis_url: str, client: BertClient, job: Job, tmp_path: Path
) -> None:
    kept = client.submit(["a"])
    with (
        stub_worker(redis_url),
        pytest.raises(BadInputValue, match=r"has vectors, which are written as \.npy"),
    ):
        job(kept.id, "-o", str(tmp_path / "vectors.npz"))


def test_token_vectors(redis: Redis, client: BertClient, job: Job, tmp_path: Path) -> None:
    from bertq.protocol import keys
    from bertq.protocol.wire import ChunkResult, dumps
    from bertq.state import durable_jobs as records

    # Chunks whose longest sentences are not equally long.
    texts = [*(f"{number}" for number in range(256)), *(f"{number} x" for number in range(256))]
    kept = client.submit(texts)
    for chunk, length in ((0, 3), (1, 4)):
        made = ChunkResult(np.full((256, length, 2), chunk + 1, np.float32), "f")
        payload = dumps({"status": "SUCCESS", "result": made.to_wire()})
        task_id = keys.task_id(kept.id, chunk)
        records.finish(redis, task_id, payload, queue="bertq", failed=False)
    path = tmp_path / "vectors.npy"
    assert job(kept.id, "-o", str(path)).exit_code == 0
    vectors = np.load(path)
    assert vectors.shape == (512, 4, 2)
    np.testing.assert_array_equal(vectors, kept.result())


def test_wrong_use(job: Job, tmp_path: Path) -> None:
    assert "take one of" in job("x", "--watch", "--cancel").output
    with pytest.raises(BadInputValue, match=r"vectors are written as \.npy"):
        job("x", "-o", "vectors.csv")


def test_errors_are_one_line(redis_url: str, tmp_path: Path) -> None:
    run = Run(tmp_path, "job", "nope", BERTQ_REDIS_URL=redis_url)
    status, output = run.wait()
    assert status == 1
    assert output.startswith("Error: there is no job nope in Redis at")
    assert output.count("\n") == 1
