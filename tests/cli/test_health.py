"""``bertq health``: its exit status for healthy and unhealthy workers and services."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from bertq import BertClient
from bertq.errors import SettingsError
from bertq.state import worker_info
from bertq.state.worker_info import WorkerStats
from bertq_cli.commands.health import check
from tests.chaos.poison import HANG
from tests.cli.runs import BERTQ
from tests.client.stub import info
from tests.conftest import StartServer, clean_environ
from tests.waiting import eventually
from tests.workers.standins import Start

HOST = socket.gethostname()


def run(url: str, *arguments: str, **variables: str) -> Result:
    environ = {"BERTQ_REDIS_URL": url, "BERTQ_MODEL_NAME": None, **variables}
    return CliRunner().invoke(check, arguments, env=environ, catch_exceptions=False)


def publish(redis: Redis, node: str, batch_seconds: float = 0.0, **values: Any) -> None:
    """Put a worker into the database."""
    work = WorkerStats(batch_seconds=batch_seconds)
    queues = values.pop("queues", ["bertq", "bertq.small", node.partition("@")[0]])
    worker_info.publish(redis, dataclasses.replace(info(queues), node=node, work=work, **values))


def test_a_service(redis: Redis, redis_url: str) -> None:
    none = run(redis_url)
    assert (none.exit_code, none.output) == (
        1, "unhealthy: no worker of the model without a name is alive\n",
    )  # fmt: skip
    publish(redis, "gpu0@a", 59)
    fit = run(redis_url)
    assert (fit.exit_code, fit.output) == (
        0, "healthy: 1 of 1 workers of the model without a name healthy\n",
    )  # fmt: skip
    publish(redis, "gpu1@a", 75)
    one = run(redis_url)
    assert (one.exit_code, one.output) == (
        0,
        "healthy: 1 of 2 workers of the model without a name healthy; gpu1@a hangs: it has "
        "computed one batch for 75 s, more than 60 s\n",
    )
    publish(redis, "gpu0@a", 61)
    assert run(redis_url).exit_code == 1
    assert run(redis_url, "--max-batch-seconds", "70").exit_code == 0
    assert run(redis_url, "--max-batch-seconds", "80").output.startswith("healthy: 2 of 2 ")


def test_a_model_with_a_name(redis: Redis, redis_url: str) -> None:
    publish(redis, f"gpu0-news@{HOST}", model_name="news", queues=["bertq.news", "bertq.news.gpu0"])
    assert run(redis_url).exit_code == 1
    assert run(redis_url, "--model-name", "news").exit_code == 0
    assert run(redis_url, BERTQ_MODEL_NAME="news").exit_code == 0
    assert run(redis_url, "--queue", "gpu0", BERTQ_MODEL_NAME="news").exit_code == 0
    assert run(redis_url, "--queue", "gpu0").exit_code == 1
    other = run(redis_url, "--model-name", "other")
    assert other.output == "unhealthy: no worker of model other is alive\n"
    # The name of a worker identifies it.
    assert run(redis_url, "--node", f"gpu0-news@{HOST}").exit_code == 0


def test_one_worker(redis: Redis, redis_url: str) -> None:
    publish(redis, f"gpu0@{HOST}")
    publish(redis, f"gpu1@{HOST}", 1000)
    publish(redis, "gpu2@elsewhere")
    fit = run(redis_url, "--node", f"gpu0@{HOST}")
    assert (fit.exit_code, fit.output) == (
        0, f"healthy: gpu0@{HOST}: alive, and no batch takes long\n",
    )  # fmt: skip
    assert run(redis_url, "--queue", "gpu0").exit_code == 0
    for asked in (["--node", f"gpu1@{HOST}"], ["--queue", "gpu1"]):
        hung = run(redis_url, *asked)
        assert (hung.exit_code, hung.output) == (
            1,
            f"unhealthy: gpu1@{HOST} hangs: it has computed one batch for 1000 s, more than 60 s\n",
        )
    assert run(redis_url, "--node", "gpu2@elsewhere").exit_code == 0
    gone = run(redis_url, "--queue", "gpu2")
    assert gone.exit_code == 1
    assert f"no worker of {HOST} on queue gpu2 is alive: it has ended, or" in gone.output
    # Two workers on one GPU: both must be fit.
    publish(redis, f"gpu0.2@{HOST}", 1000, queues=["bertq", "gpu0"])
    assert run(redis_url, "--queue", "gpu0").exit_code == 1
    assert run(redis_url, "--node", f"gpu0@{HOST}").exit_code == 0


def test_for_programs(redis: Redis, redis_url: str) -> None:
    publish(redis, "gpu0@a", 75.5)
    asked = run(redis_url, "--json")
    assert asked.exit_code == 1
    document = json.loads(asked.output)
    assert document.pop("reason").endswith("gpu0@a hangs: it has computed one batch for 76 s, more "
                                           "than 60 s")  # fmt: skip
    assert document == {
        "healthy": False,
        "redis_url": redis_url,
        "workers": {"gpu0@a": 75.5},
        "probe_seconds": None,
    }


def test_a_worker_info_of_an_older_version(redis: Redis, redis_url: str) -> None:
    publish(redis, "gpu0@a")
    document = json.loads(redis.get("bertq:worker:gpu0@a"))  # type: ignore[arg-type]
    for name in ("batch_seconds", "redelivered"):
        del document["work"][name]
    redis.set("bertq:worker:gpu0@a", json.dumps(document))
    assert run(redis_url).exit_code == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--node", "a", "--queue", "gpu0"], "--node and --queue both name a worker"),
        (["--queue", "bertq.news.gpu0"], "belongs to model news"),
        (["--queue", "gpux"], "no queue is named 'gpux'"),
        (["--model-name", "gpu0"], "no model can be named 'gpu0'"),
        (["--redis-url", "nonsense"], "--redis-url is 'nonsense'"),
    ],
)
def test_impossible_requests(redis_url: str, options: list[str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        run(redis_url, *options)


def test_a_redis_that_does_not_answer(start_own_server: StartServer) -> None:
    gone = run("redis://:pw@127.0.0.1:1/0")
    assert gone.exit_code == 1
    assert gone.output.startswith("unhealthy: Redis at redis://:**@127.0.0.1:1/0 cannot be reached")
    server = start_own_server()
    url = f"redis://127.0.0.1:{server.port}/0"
    with Redis.from_url(url) as redis:
        publish(redis, "gpu0@a")
        server_info: Any = redis.info("server")
        pid = server_info["process_id"]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        hung = run(url, "--timeout", "1", "--json")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert 0.9 < time.monotonic() - began < 4
    assert hung.exit_code == 1
    assert "cannot be reached" in json.loads(hung.output)["reason"]
    assert run(url).exit_code == 0


def test_a_worker_whose_graph_hangs(
    start_poisoned: Start, redis_url: str, client: BertClient
) -> None:
    start_poisoned(1, "-Q", "cpu0").wait_ready()
    for asked in ([], ["--queue", "cpu0"], ["--node", f"cpu0@{HOST}"]):
        fit = run(redis_url, *asked, "--probe", "--json")
        assert fit.exit_code == 0, fit.output
        assert 0 < json.loads(fit.output)["probe_seconds"] < 10
    assert " ms\n" in run(redis_url, "--probe").output
    waiting = client.encode_async([HANG])
    # Its info is renewed as before: only the time of its batch is unhealthy.
    eventually(lambda: run(redis_url, "--max-batch-seconds", "1").exit_code == 1, 20)
    hung = run(redis_url, "--max-batch-seconds", "1", "--queue", "cpu0", "--probe")
    assert "hangs: it has computed one batch for" in hung.output
    assert hung.exit_code == 1
    assert run(redis_url).exit_code == 0
    # A sentence finds it out before that.
    probed = run(redis_url, "--probe", "--timeout", "1.5")
    assert (probed.exit_code, probed.output[:37]) == (1, "unhealthy: a sentence got no vector: ")
    assert not waiting.done()


def test_a_worker_that_has_ended(start: Start, redis: Redis, redis_url: str) -> None:
    worker = start(1, "-Q", "cpu0")
    assert run(redis_url, "--queue", "cpu0").exit_code == 0
    assert worker.stop() == 0
    assert run(redis_url, "--queue", "cpu0").exit_code == 1
    # A killed worker is listed for some seconds; only a request shows that it is dead.
    publish(redis, f"cpu0@{HOST}")
    assert run(redis_url).exit_code == 0
    assert run(redis_url, "--probe", "--timeout", "1").exit_code == 1
    publish(redis, f"cpu0@{HOST}", queues=["bertq", "bertq.small"])
    with pytest.raises(SettingsError, match="no queue that only it serves"):
        run(redis_url, "--node", f"cpu0@{HOST}", "--probe")


def test_it_starts_fast_and_without_tensorflow(redis: Redis, redis_url: str) -> None:
    publish(redis, "gpu0@a")
    environ = {**clean_environ(), "BERTQ_REDIS_URL": redis_url}
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([*BERTQ, "health"], env=environ, capture_output=True, text=True)
        seconds.append(time.monotonic() - began)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("healthy: ")
    assert min(seconds) < 2  # 0.5 s, on a machine that has nothing else to do
    script = (
        "import sys; from bertq_cli.main import main\n"
        "try: main()\n"
        "finally: assert not {'tensorflow', 'celery', 'numpy', 'bertq_client'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", script, "health"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
