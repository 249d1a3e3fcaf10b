"""``client/bertq_http.py``, by this Python and by others, Python 2.7 among them."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

import bertq_http
from bertq_http import BertHTTP, BertHTTPError
from tests.client.conftest import silent_url
from tests.client.stub import MAX_WORDS, Stub, rows
from tests.gateway.conftest import Gateway, StartGateway

__all__ = ["silent_url"]

KEY = "0123456789abcdef"


def url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Run an HTTP server that is no gateway; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, body: str, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body.encode())


def test_the_vectors(gateway: Gateway, stub: Stub) -> None:
    texts = ["first do it", "then do it right", "größer als 😀"]
    found = BertHTTP(url(gateway)).encode(texts)
    assert isinstance(found[0][0], float)
    # The JSON numbers are those of float32, without a loss.
    np.testing.assert_array_equal(np.array(found, np.float32), rows(texts))


def test_tokens(gateway: Gateway, stub: Stub) -> None:
    found = BertHTTP(url(gateway), model="stub").encode([["do", "it"]], is_tokenized=True)
    assert found == rows(["do it"]).tolist()


def test_models_and_status(gateway: Gateway, stub: Stub) -> None:
    client = BertHTTP(url(gateway))
    assert [model["id"] for model in client.models()] == ["stub"]
    assert client.status()["num_worker"] == 1


def test_a_long_list_becomes_several_requests(
    gateway: Gateway, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{number} {'long ' * (number % 5)}" for number in range(100)]
    monkeypatch.setattr(bertq_http, "_MAX_BODY_BYTES", 60)
    assert BertHTTP(url(gateway), batch_size=7).encode(texts) == rows(texts).tolist()
    assert sum(stub.chunks) == 100
    assert max(stub.chunks) < 7  # the limit of bytes
    metrics = gateway.http.get("/metrics").text
    (count,) = re.findall(r'requests_total{route="/encode",status="200"} (.*)', metrics)
    assert float(count) > 100 / 7


def test_an_error_names_the_request_of_a_long_list(gateway: Gateway, stub: Stub) -> None:
    with pytest.raises(BertHTTPError, match=r"^texts\[4:6\]: HTTP 500: ") as caught:
        BertHTTP(url(gateway), batch_size=2).encode(["a", "b", "c", "d", "e", "!fail", "g"])
    assert caught.value.status == 500


def test_a_key(start_gateway: StartGateway, stub: Stub) -> None:
    address = url(start_gateway(api_keys=frozenset({KEY})))
    assert BertHTTP(address, api_key=KEY).encode(["a"]) == rows(["a"]).tolist()
    with pytest.raises(BertHTTPError, match="HTTP 401: the API key is missing or wrong") as caught:
        BertHTTP(address).encode(["a"])
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


def test_sentences_that_are_too_long(gateway: Gateway, stub: Stub) -> None:
    long = "word " * MAX_WORDS + "more"
    texts = [long, "a", "b", long, long]
    with pytest.warns(UserWarning, match="3 of 5 sentences have more tokens") as caught:
        assert BertHTTP(url(gateway), batch_size=2).encode(texts) == rows(texts).tolist()
    assert (len(caught), caught[0].filename) == (1, __file__)
    with pytest.raises(
        BertHTTPError, match=r"texts\[2:4\]: HTTP 422: texts\[1\] has more"
    ) as error:
        BertHTTP(url(gateway), batch_size=2, truncate="error").encode(["a", "b", "c", long, "d"])
    assert error.value.code == "sentence_too_long"


def test_https(start_gateway: StartGateway, stub: Stub, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "own.pem")
    )
    port = start_gateway(certfile=str(tmp_path / "own.pem")).port
    trusting = BertHTTP(f"https://127.0.0.1:{port}", ca_file=str(tmp_path / "ca.pem"))
    assert trusting.encode(["a"]) == rows(["a"]).tolist()
    with pytest.raises(BertHTTPError, match="certificate verify failed"):
        BertHTTP(f"https://127.0.0.1:{port}").encode(["a"])


def test_no_such_model(gateway: Gateway, stub: Stub) -> None:
    with pytest.raises(BertHTTPError, match=r"HTTP 404: .*stub") as caught:
        BertHTTP(url(gateway), model="other").encode(["a"])
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("texts", "is_tokenized", "error"),
    [
        ("a", False, "TypeError: texts is one string"),
        (b"a", False, "TypeError: texts is one string"),
        ([], False, "ValueError: texts is empty"),
        (["a", " "], False, r"ValueError: texts\[1\] is blank"),
        (["a", None], False, r"TypeError: texts\[1\] has a NoneType"),
        (["a", b"b"], False, r"TypeError: texts\[1\] has a bytes"),
        (["a"], True, r"TypeError: texts\[0\] is no list of tokens"),
        ([["a"]], False, r"TypeError: texts\[0\] has a list"),
        ([[]], True, r"ValueError: texts\[0\] has no token"),
        ([["a", ""]], True, r"ValueError: texts\[0\] is blank"),
    ],
)
def test_wrong_texts(texts: Any, is_tokenized: bool, error: str) -> None:
    kind, _, message = error.partition(": ")
    with pytest.raises({"TypeError": TypeError, "ValueError": ValueError}[kind], match=message):
        BertHTTP("http://127.0.0.1:9").encode(texts, is_tokenized)


@pytest.mark.parametrize("wrong", ["127.0.0.1:8125", "redis://127.0.0.1", "http://"])
def test_wrong_addresses(wrong: str) -> None:
    with pytest.raises(ValueError, match="it must be like http://"):
        BertHTTP(wrong)


def test_a_password_in_the_address_is_not_shown() -> None:
    with pytest.raises(ValueError, match="give api_key") as caught:
        BertHTTP("http://me:secret@127.0.0.1:8125")
    assert "secret" not in str(caught.value)


def test_no_server_at_the_address() -> None:
    with pytest.raises(BertHTTPError, match=r"no answer from http://127.0.0.1:9: .*refused") as got:
        BertHTTP("http://127.0.0.1:9/").encode(["a"])
    assert got.value.status is None


def test_a_server_that_never_answers(silent_url: str) -> None:
    address = silent_url.replace("redis://", "http://").removesuffix("/0")
    with pytest.raises(BertHTTPError, match=r"no answer from http.*: timed out"):
        BertHTTP(address, timeout=0.2).encode(["a"])


def test_a_gateway_without_capacity_is_asked_again() -> None:
    busy = [("429", "0.2"), ("503", "Sat, 28 Nov 2026 09:00:00 GMT")]
    body = json.dumps({"error": {"message": "busy", "code": "queue_full"}})

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if busy:
            status, after = busy.pop(0)
            send(handler, int(status), body, Retry_After=after)
        else:
            send(handler, 200, '{"result": [[1.0]]}')

    with server(answer) as address:
        assert BertHTTP(address).encode(["a"]) == [[1.0]]
    assert not busy


@pytest.mark.parametrize("after", ["0", "3"])
def test_the_wait_ends_with_the_timeout(after: str) -> None:
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        send(handler, 503, "<html>", Retry_After=after)

    with server(answer) as address, pytest.raises(BertHTTPError, match=r"^HTTP 503: Service"):
        BertHTTP(address, timeout=0.5).encode(["a"])
    assert len(asked) == 1 if after == "3" else 2 <= len(asked) <= 6


def test_no_redirect_is_followed() -> None:
    with server(lambda handler: send(handler, 200, '{"data": []}')) as elsewhere:

        def answer(handler: BaseHTTPRequestHandler) -> None:
            send(handler, 302, "", Location=elsewhere + handler.path)

        with server(answer) as address, pytest.raises(BertHTTPError, match="HTTP 302") as caught:
            BertHTTP(address, api_key=KEY).models()
        assert caught.value.status == 302


@pytest.mark.parametrize("body", ["<html>", "\x00"])
def test_an_answer_that_is_not_json(body: str) -> None:
    with (
        server(lambda handler: send(handler, 200, body)) as address,
        pytest.raises(BertHTTPError, match="no answer from http"),
    ):
        BertHTTP(address).models()


def test_a_lost_connection() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        send(handler, 200, '{"data":', Content_Length="100")

    with server(answer) as address, pytest.raises(BertHTTPError, match="IncompleteRead"):
        BertHTTP(address).models()


def test_this_machine_is_asked_without_a_proxy(
    gateway: Gateway, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    address = url(gateway)
    assert BertHTTP(address).encode(["a"])
    assert BertHTTP(address.replace("127.0.0.1", "localhost")).encode(["a"])
    with pytest.raises(BertHTTPError, match="refused"):
        BertHTTP("http://bertq.invalid").encode(["a"])
    with pytest.raises(BertHTTPError, match="refused"):
        BertHTTP(address, proxies={"http": "http://127.0.0.1:9"}).encode(["a"])


# Other Pythons


def python(version: str) -> str:
    """Return a Python of this version: of a variable such as BERTQ_PYTHON27, pyenv or the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [
        os.environ.get(f"BERTQ_PYTHON{version.replace('.', '')}"),
        *sorted(map(str, pyenv.glob(f"{version}.*/bin/python"))),
        shutil.which(f"python{version}"),
    ]
    shown = "import sys; print('%d.%d' % sys.version_info[:2])"
    for command in filter(None, found):
        done = subprocess.run([command, "-c", shown], capture_output=True, text=True)
        if done.stdout.strip() == version:  # pyenv's command in the PATH may have no version
            return command
    pytest.skip(f"no Python {version} was found")


@pytest.fixture(params=["2.7", "3.6", "3.8", "3.10", "3.12", "3.13", "3.14"])
def other(request: pytest.FixtureRequest) -> str:
    return python(request.param)


SCRIPT = """# -*- coding: utf-8 -*-
from __future__ import print_function
import json, sys
from bertq_http import *
client = BertHTTP(sys.argv[1], api_key=sys.argv[2], batch_size=2)
texts = [u"first do it", u"gr\\u00f6\\u00dfer", u"\\u4e16\\u754c", u"\\U0001f600 ok"]
out = {"unicode": client.encode(texts)}
if sys.version_info[0] == 2:
    out["bytes"] = client.encode([text.encode("utf-8") for text in texts])
out["tokens"] = client.encode([[u"do", u"it"]], is_tokenized=True)
out["models"] = [model["id"] for model in client.models()]
out["status"] = sorted(client.status())
for wrong in (u"a", [u"a", u"  "], [3]):
    try:
        client.encode(wrong)
    except (TypeError, ValueError) as error:
        out.setdefault("wrong", []).append(str(error))
for name, other in (
    ("key", BertHTTP(sys.argv[1])),
    ("model", BertHTTP(sys.argv[1], sys.argv[2], model=u"gr\\u00f6\\u00dfer")),
    ("refused", BertHTTP("http://127.0.0.1:9")),
):
    try:
        other.encode([u"a"])
    except BertHTTPError as error:
        out[name] = [error.status, error.code, str(error)]
print(json.dumps(out))
"""


def test_other_pythons(start_gateway: StartGateway, stub: Stub, other: str, tmp_path: Path) -> None:
    gateway = start_gateway(api_keys=frozenset({KEY}))
    shutil.copy(bertq_http.__file__, tmp_path)  # as the page says
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [other, "script.py", url(gateway), KEY], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    out = json.loads(done.stdout)
    texts = ["first do it", "größer", "世界", "😀 ok"]
    assert out["unicode"] == rows(texts).tolist()
    assert out.get("bytes", out["unicode"]) == out["unicode"]
    assert out["tokens"] == rows(["do it"]).tolist()
    assert out["models"] == ["stub"]
    assert "num_worker" in out["status"]
    assert [message.split(":")[0] for message in out["wrong"]] == [
        "texts is one string", "texts[1] is blank", "texts[0] has a int, no text",
    ]  # fmt: skip
    assert out["key"][:2] == [401, "invalid_api_key"]
    assert out["model"][:2] == [404, "model_not_found"]
    assert out["refused"][0] is None
    assert "refused" in out["refused"][2]


@pytest.fixture(params=[None, "2.7"])
def any_python(request: pytest.FixtureRequest) -> str:
    return sys.executable if request.param is None else python(request.param)


def run(command: str, *arguments: str, stdin: bytes, **environ: str) -> tuple[int, str, str]:
    """Run the file as a script; return its status, output and error output."""
    done = subprocess.run(
        [command, bertq_http.__file__, *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environ},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command(start_gateway: StartGateway, stub: Stub, any_python: str) -> None:
    address = url(start_gateway(api_keys=frozenset({KEY})))
    texts = [f"größer {number}" for number in range(5)]
    stdin = "\r\n".join(texts).encode()
    key = {"BERTQ_HTTP_API_KEY": KEY}
    status, output, errors = run(any_python, address, "--batch-size=2", stdin=stdin, **key)
    assert (status, errors) == (0, "")
    assert [json.loads(line) for line in output.splitlines()] == rows(texts).tolist()
    assert run(any_python, address, "--model", "stub", stdin=b"", **key) == (0, "", "")
    long = b"word " * MAX_WORDS + b"more"
    status, output, errors = run(any_python, address, stdin=long, **key)
    assert (status, len(output.splitlines())) == (0, 1)
    message = "1 of 1 sentences have more tokens than the model reads, and were cut"
    assert errors == f"bertq_http: {message}\n"
    status, _, errors = run(any_python, address, "--truncate=error", stdin=long, **key)
    assert (status, "texts[0] has more tokens" in errors) == (1, True)


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"a\n \n", "line 2 is blank"),
        (b"a\n\xff\n", "line 2 is not UTF-8: invalid start byte"),
        (b"a\n", "HTTP 404: "),
    ],
)
def test_errors_of_the_command(
    gateway: Gateway, stub: Stub, any_python: str, stdin: bytes, message: str
) -> None:
    status, output, errors = run(any_python, url(gateway), "--model=other", stdin=stdin)
    assert (status, output) == (1, "")
    assert errors.startswith("bertq_http: ")
    assert message in errors
    assert errors.count("\n") == 1
