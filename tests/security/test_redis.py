"""A Redis that speaks TLS itself and reads the users at its start, where one is installed."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from redis import Redis, RedisError

from bertq import BertClient
from bertq_cli.service.embedded_redis import free_port
from tests.security.roles import FILE
from tests.security.tls import Authority
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker

REDIS = shutil.which("redis-server")
NEW = " +client|setinfo"


class Server:
    """One with TLS alone, the users of ``docs/users.acl``, and clients that have a certificate."""

    def __init__(self, directory: Path) -> None:
        shown = subprocess.run(
            [str(REDIS), "--version"], capture_output=True, text=True, check=True
        )
        major, minor = re.findall(r"v=(\d+)\.(\d+)", shown.stdout)[0]
        self.version = (int(major), int(minor))
        authority = Authority(directory / "authority")
        certificate, key = authority.issue("localhost")
        own, own_key = authority.issue("a-machine")
        self.port = free_port()
        self.files = f"ssl_ca_certs={authority.file}&ssl_certfile={own}&ssl_keyfile={own_key}"
        # Redis 7.0 does not know this one, as docs/security.md says.
        users = FILE.read_text() if self.version >= (7, 2) else FILE.read_text().replace(NEW, "")
        (directory / "users.acl").write_text(users)
        configuration = {
            "port": 0, "tls-port": self.port, "bind": "127.0.0.1", "dir": directory, "save": "''",
            "tls-cert-file": certificate, "tls-key-file": key, "tls-auth-clients": "yes",
            "tls-ca-cert-file": authority.file, "aclfile": directory / "users.acl",
        }  # fmt: skip
        text = "".join(f"{name} {value}\n" for name, value in configuration.items())
        self.log = directory / "redis.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(REDIS), "-"], stdin=subprocess.PIPE, stdout=output, stderr=output
            )
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(text.encode())

    def url(self, role: str) -> str:
        return f"rediss://{role}:{role}-password@localhost:{self.port}/0?{self.files}"

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with Redis.from_url(self.url("admin")) as redis:
                return bool(redis.ping())
        except RedisError:
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if REDIS is None:
        pytest.skip("no redis-server is installed")
    help_text = subprocess.run(
        [REDIS, "--tls-port", "no"], capture_output=True, text=True, check=False
    )
    if "Bad directive" in help_text.stdout + help_text.stderr:
        pytest.skip("this redis-server was built without TLS")
    started = Server(tmp_path)
    try:
        eventually(started.answers)
        yield started
    finally:
        started.process.terminate()
        started.process.wait(10)


def test_tls_with_certificates_and_users(server: Server, tmp_path: Path) -> None:
    texts = standins.sentences(1000)
    worker = StandInWorker(server.url("worker"), tmp_path / "worker.log", 1, "-Q", "gpu0")
    try:
        worker.wait_for_log(" ready.")
        with BertClient(redis_url=server.url("client"), timeout=60) as client:
            np.testing.assert_array_equal(client.encode(texts), standins.rows(texts))
            job = client.submit(texts)
            np.testing.assert_array_equal(job.result(30), standins.rows(texts))
        assert worker.stop() == 0
    finally:
        worker.kill()
    with Redis.from_url(server.url("admin")) as admin:
        refused = {entry["object"] for entry in admin.acl_log()}
        assert refused <= (set() if server.version >= (7, 2) else {"client|setinfo", "client"})
