"""Passwords and keys are in no log, page, document, error or process list."""

import json
import os
import string
import subprocess
import sys
import traceback
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

import pytest
from kombu import Connection
from redis import Redis

from bertq import BertClient
from bertq.errors import BertqError, SettingsError
from bertq.redis import redis_url
from bertq.redis.connection import connect
from bertq_cli.service.embedded_redis import free_port
from tests.apps import create_app
from tests.cli.runs import BERTQ, Run
from tests.conftest import StartServer, clean_environ
from tests.waiting import eventually

# Between any two signs is a piece that no log may have: a parser that splits the password at a sign
# would reveal the pieces.
SIGNS = string.punctuation + " \u00e9\u20ac\U0001f600"
PIECES = [f"Zq{number:02}" for number in range(len(SIGNS) + 1)]
PASSWORD = "".join(piece + sign for piece, sign in zip_longest(PIECES, SIGNS, fillvalue=""))
#: What a URL needs at least.
IN_URL = PASSWORD.replace("/", "%2F").replace("?", "%3F").replace("#", "%23")
API_KEY = "tell-nobody-0123456789"
LOGIN = "flo:flowers-are-secret"
SECRETS = (*PIECES, "tell-nobody", "flowers-are-secret")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def url(port: int) -> str:
    return f"redis://:{IN_URL}@127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, port: int) -> Iterator[Run]:
    """``bertq serve`` with a password and all its output."""
    directory = tmp_path_factory.mktemp("secrets")
    run = Run(
        directory, "serve", "--model-dir", str(tiny_model), "--cpu", "-l", "DEBUG",
        "--port", str(port), "--data-dir", str(directory / "data"),
        BERTQ_REDIS_PASSWORD=PASSWORD,
    )  # fmt: skip
    try:
        run.wait_for("\nready ")
        yield run
    finally:
        run.end()


def secrets_in(text: str) -> list[str]:
    """Return the secrets that a text contains."""
    return [secret for secret in SECRETS if secret in text]


def run(url: str, *command: str) -> str:
    found = subprocess.run(
        command,
        env=clean_environ() | {"BERTQ_REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return found.stdout + found.stderr


def test_the_service_and_its_process_list(service: Run, url: str) -> None:
    with BertClient(redis_url=url, timeout=60) as client:
        client.encode(["a", "b"])
        shown = f"{client!r} {client.status} {client.server_config} {client.server_status}"
        job = client.submit(["c"])
        job.result(30)
        shown += f"{job!r} {job.info} {client.jobs()}"
    assert secrets_in(shown) == []
    processes = service.processes()
    assert len(processes) >= 2
    assert secrets_in(" ".join(processes.values())) == []
    assert secrets_in(service.output) == []


@pytest.mark.parametrize(
    "command",
    [
        [*BERTQ, "status"],
        [*BERTQ, "status", "--json"],
        [*BERTQ, "health", "--json"],
        [*BERTQ, "jobs"],
        [sys.executable, "-m", "celery", "-A", "bertq", "report"],
        [sys.executable, "-m", "celery", "-A", "bertq", "inspect", "conf"],
        [sys.executable, "-m", "celery", "-A", "bertq", "inspect", "report"],
        [sys.executable, "-m", "celery", "-A", "bertq", "inspect", "stats"],
    ],
    ids=lambda command: "-".join(command[-2:]),
)
def test_output_of_commands(service: Run, url: str, command: list[str]) -> None:
    shown = run(url, *command)
    assert shown
    assert "Traceback" not in shown
    assert secrets_in(shown) == []


def page(port: int, path: str, login: str | None = None, **headers: str) -> str:
    if login:
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()
    except OSError:
        return ""


def test_the_dashboard(service: Run, url: str, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "flower.log"
    command = [sys.executable, "-m", "celery", "-A", "bertq", "flower", f"--port={port}"]
    variables = {"BERTQ_REDIS_URL": url, "FLOWER_BASIC_AUTH": LOGIN}
    with log.open("wb") as output:
        flower = subprocess.Popen(
            command, env=clean_environ() | variables, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        eventually(lambda: page(port, "/healthcheck") == "OK", 40)
        with BertClient(redis_url=url, timeout=60) as client:
            client.encode(["a", "b"])

        def worker() -> str:
            found = json.loads(page(port, "/api/workers?refresh=1", LOGIN) or "{}")
            return next((name for name, facts in found.items() if facts.get("conf")), "")

        eventually(lambda: bool(worker()), 30)
        pages = [page(port, f"/worker/{worker()}", LOGIN)]
        assert "broker_url" in pages[0]
        for path in ("/workers", "/broker", "/tasks", "/api/workers", "/api/tasks"):
            pages.append(page(port, path, LOGIN))
        assert secrets_in(" ".join(pages)) == []
        process_list = Path(f"/proc/{flower.pid}/cmdline").read_text()
    finally:
        flower.terminate()
        flower.wait(20)
    assert secrets_in(process_list + log.read_text()) == []


def test_the_gateway(service: Run, url: str, tmp_path: Path) -> None:
    port = free_port()
    gateway = Run(
        tmp_path, "http", "--port", str(port), BERTQ_REDIS_URL=url, BERTQ_HTTP_API_KEYS=API_KEY
    )
    try:
        eventually(lambda: page(port, "/readyz").startswith("ready"), 30)
        right = {"Authorization": f"Bearer {API_KEY}"}
        shown = page(port, "/status/server", **right)
        assert "num_worker" in shown
        shown += page(port, "/metrics", **right) + page(port, "/v1/models", **right)
        shown += page(port, "/v1/models", Authorization="Bearer tell-me-everything")
        shown += page(port, "/openapi.json") + page(port, "/nowhere", **right)
        assert secrets_in(shown + " ".join(gateway.processes().values())) == []
        gateway.process.terminate()
        _, output = gateway.wait()
        assert "1 API key" in output
        assert secrets_in(output) == []
    finally:
        gateway.end()


def test_errors(service: Run, port: int, tmp_path: Path, tiny_model: Path) -> None:
    for wrong in (
        f"redis://:{IN_URL}-wrong@127.0.0.1:{port}/0",  # the wrong password
        f"redis://:{IN_URL}@127.0.0.1:{free_port()}/0",  # no server
        f"redis://:{PASSWORD}@127.0.0.1:{port}/0",  # not written for a URL
        f"redis://:{IN_URL}@127.0.0.1:{port}/zero",
        f"rediss://:{IN_URL}@127.0.0.1:{port}/0?ssl_ca_certs=/nowhere",
    ):
        try:
            with BertClient(redis_url=wrong, timeout=2) as client:
                client.encode(["a"])
        except BertqError:
            shown = traceback.format_exc()
        assert "Traceback" in shown
        for command in ("status", "jobs"):
            printed = run(wrong, *BERTQ, command)
            assert printed
            assert "Traceback" not in printed
            shown += printed
        assert secrets_in(shown.replace(os.fspath(tmp_path), "")) == []


def test_a_worker_with_the_wrong_password(port: int, service: Run, tiny_model: Path) -> None:
    wrong = f"redis://:{IN_URL}-wrong@127.0.0.1:{port}/0"
    shown = run(
        wrong, sys.executable, "-m", "celery", "-A", "bertq", "worker", "-Q", "cpu7",
        "--model-dir", str(tiny_model), "-l", "DEBUG",
    )  # fmt: skip
    assert "refuses the login" in shown
    assert secrets_in(shown) == []


def test_a_worker_that_gets_the_url_on_its_command_line(
    url: str, service: Run, tiny_model: Path, tmp_path: Path
) -> None:
    """Celery reads ``-b`` before any setting of bertq."""
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "bertq", "-b", url, "worker", "-Q", "cpu7",
             "--model-dir", str(tiny_model), "-l", "DEBUG"],
            env=clean_environ(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        with BertClient(redis_url=url, queue="cpu7", timeout=60) as client:
            assert client.encode(["a"]).shape[0] == 1
    finally:
        worker.terminate()
        worker.wait(20)
    assert secrets_in(log.read_text()) == []


def test_a_service_at_a_redis_of_its_own(
    url: str, service: Run, tiny_model: Path, tmp_path: Path
) -> None:
    http, flower = free_port(), free_port()
    run = Run(
        tmp_path, "serve", "--redis-url", url, "--cpu", "--model-dir", str(tiny_model),
        "--model-name", "second", "--http-port", str(http), "--flower", str(flower), "-l", "DEBUG",
    )  # fmt: skip
    try:
        run.wait_for("\nready ")
        shown = page(http, "/readyz") + page(http, "/status/server")
        assert "second" in shown
        shown += page(flower, "/workers") + page(flower, "/broker")
        children = [line for pid, line in run.processes().items() if pid != run.process.pid]
        assert len(children) >= 3
        assert secrets_in(shown + " ".join(children)) == []
    finally:
        run.end()
    assert secrets_in(run.output) == []


def test_each_sign_in_a_password(start_own_server: StartServer) -> None:
    port = start_own_server().port
    admin = Redis(port=port)
    for sign in string.ascii_letters + string.digits + SIGNS:
        password = f"Zq01{sign}Zq02"
        admin.config_set("requirepass", password)
        admin.auth(password)
        for written in (password, quote(password, safe="")):
            given = f"redis://:{written}@127.0.0.1:{port}/0"
            if sign in "/?#" and written == password:
                with pytest.raises(SettingsError, match=quote(sign, safe="")) as caught:
                    redis_url.check(given)
                assert secrets_in(str(caught.value)) == []
                continue
            checked = redis_url.check(given)
            with connect(checked) as redis:
                assert redis.ping()
            with Connection(checked) as connection:
                assert connection.connect()
                assert secrets_in(connection.as_uri()) == []
            app = create_app(checked)
            assert app.backend.client.ping()  # type: ignore[attr-defined]
            assert secrets_in(f"{app.backend.as_uri()} {app.conf.humanize()}") == []
            app.close()
            assert secrets_in(redis_url.redact(checked) + redis_url.redact(given)) == []
    admin.close()
