"""The parts of a service under honcho, as the Procfile names them."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError

from bertq import BertClient
from bertq.state import worker_info
from bertq_cli.service.embedded_redis import free_port
from tests.conftest import clean_environ
from tests.waiting import eventually

PROCFILE = Path(__file__).parents[2] / "Procfile"


class Honcho:
    """``honcho start`` on free ports."""

    def __init__(self, model: Path, directory: Path) -> None:
        self.port, self.flower = free_port(), free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.log = directory / "honcho.log"
        scripts = str(Path(sys.executable).parent)
        environ = clean_environ() | {
            "PATH": f"{scripts}:{clean_environ()['PATH']}",
            "BERTQ_MODEL_DIR": str(model),
            "BERTQ_REDIS_PORT": str(self.port),
            "BERTQ_REDIS_URL": self.url,
            "BERTQ_DATA_DIR": str(directory / "data"),
            "BERTQ_THREADS": "1",
            "FLOWER_PORT": str(self.flower),
        }
        start = ["honcho", "-f", str(PROCFILE), "-d", str(directory), "start", "-c", "worker=2"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *start],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def workers(self) -> list[str]:
        """The devices of the workers that are ready."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            with Redis.from_url(self.url) as redis:
                return sorted(info.device for info in worker_info.read(redis))
        except RedisError:
            return []

    def page(self, path: str) -> bytes:
        """A page of the dashboard, or an empty text while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.flower}{path}") as answer:
                text: bytes = answer.read()
                return text
        except OSError:
            return b""


@pytest.fixture
def honcho(tiny_model: Path, tmp_path: Path) -> Iterator[Honcho]:
    started = Honcho(tiny_model, tmp_path)
    yield started
    started.process.terminate()
    started.process.wait(60)


def test_the_parts_of_a_service(honcho: Honcho) -> None:
    eventually(lambda: honcho.workers() == ["gpu0", "gpu1"], 90)
    with BertClient(redis_url=honcho.url, timeout=60) as client:
        assert client.encode(["the lord"]).shape == (1, 32)
    eventually(lambda: b"gpu1@" in honcho.page("/workers"), 60)
    honcho.process.terminate()
    assert honcho.process.wait(60) == 143
    log = honcho.log.read_text()
    # Flower ends itself with an exception; where garbage is collected just then, Python prints it.
    ours = [line for line in log.splitlines() if "flower.1" not in line]
    assert "Traceback" not in "\n".join(ours)
    with Redis.from_url(honcho.url) as redis, pytest.raises(RedisError):
        redis.ping()
