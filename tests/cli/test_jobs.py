"""``bertq jobs`` and ``bertq job``."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from redis import Redis
from scipy.sparse import load_npz

from bertq import BertClient
from bertq.errors import BadInputValue, BertqError, OutputError, RemoteError, UnknownJob
from bertq_cli.commands import jobs
from tests.cli.runs import BERTQ, Run
from tests.client.stub import rows, stub_worker
from tests.conftest import clean_environ

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
    assert listed(redis_url) == f"no durable job at {redis_url}\n"
    assert json.loads(listed(redis_url, "--json")) == []
    first, second = client.submit(TEXTS), client.submit(["a"], ttl=7200)
    (found,) = (line for line in listed(redis_url).splitlines() if first.id in line)
    cells = re.split(r" {2,}", found.strip())
    assert cells[:4] == [first.id, "waiting", "700", "0 %"]
    assert cells[4].endswith("KiB")
    assert cells[6].startswith("23 h 59 min") or cells[6].startswith("1 d")
    document = json.loads(listed(redis_url, "--json"))
    assert [info["id"] for info in document] == [first.id, second.id]


def test_a_narrow_terminal_shows_unique_beginnings(redis_url: str, client: BertClient) -> None:
    ids = [client.submit([f"number {number}"]).id for number in range(3)]
    leader, follower = os.openpty()
    command = [*BERTQ, "jobs", "--redis-url", redis_url]
    environ = {**clean_environ(), "COLUMNS": "80", "TERM": "dumb"}
    subprocess.run(command, env=environ, stdout=follower, check=True)
    lines = os.read(leader, 65536).decode().splitlines()
    os.close(leader)
    os.close(follower)
    assert len(lines) == 2 + len(ids)
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines[2:]]
    assert sorted(shown) == sorted(one[: len(shown[0])] for one in ids)


def test_beginnings_of_ids(redis: Redis, client: BertClient, job: Job) -> None:
    first = client.submit(["a"])
    assert f"job         {first.id}\n" in job(first.id[:6]).output
    assert f"job         {first.id}\n" in job(first.id[:6].upper()).output
    others = [client.submit(["a"]).id for _ in range(20)]  # two of 16 digits are equal
    digit = next(d for d in "0123456789abcdef" if sum(one.startswith(d) for one in others) > 1)
    with pytest.raises(
        BadInputValue, match=f"jobs have an id that begins with {digit}: "
    ) as caught:
        job(digit, "--discard")
    assert next(one for one in others if one.startswith(digit)) in str(caught.value)
    for unknown in ("", "zz", "x y", "*"):
        with pytest.raises(UnknownJob, match="bertq jobs lists all ids"):
            job(unknown)


@pytest.mark.parametrize(
    ("ids", "short"),
    [
        (["0123456789"], ["01234567"]),
        (["0123456789", "0123456799"], ["012345678", "012345679"]),
        (["x", "y"], ["x", "y"]),
    ],
)
def test_the_shortest_beginnings(ids: list[str], short: list[str]) -> None:
    assert jobs.shorten(ids) == short


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
    assert job(first.id, "--cancel").output == "not cancelled: it is cancelled\n"
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
    with pytest.raises(
        OutputError, match="already exists: choose another name, or add --overwrite"
    ):
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
    with pytest.raises(BadInputValue, match=r"has sparse rows, so give a name that ends in \.npz"):
        job(kept.id, "-o", str(tmp_path / "rows.npy"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_without_sparse_rows(
    redis_url: str, client: BertClient, job: Job, tmp_path: Path
) -> None:
    kept = client.submit(["a"])
    with (
        stub_worker(redis_url),
        pytest.raises(BadInputValue, match=r"has vectors, so give a name that ends in \.npy"),
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
    assert "cannot be combined: use one of them" in job("x", "--watch", "--cancel").output
    with pytest.raises(BadInputValue, match=r"give a name that ends in \.npy"):
        job("x", "-o", "vectors.csv")


def test_errors_are_one_line(redis_url: str, tmp_path: Path) -> None:
    run = Run(tmp_path, "job", "nope", BERTQ_REDIS_URL=redis_url)
    status, output = run.wait()
    assert status == 1
    assert output.startswith(f"Error: there is no durable job nope at {redis_url}: ")
    assert output.count("\n") == 1
