"""Web pages that use the gateway, in Chromium: OpenAI's JavaScript library, and the manual."""

import functools
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.client.stub import MAX_WORDS, Stub, rows
from tests.gateway.chromium import CHROMIUM, OPTIONS
from tests.gateway.conftest import StartGateway

NPM = shutil.which("npm")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")

PAGE = """<!doctype html>
<script type="importmap">{"imports": {"openai": "/node_modules/openai/index.mjs"}}</script>
<script type="module">
import OpenAI from "openai";

const options = { apiKey: "API_KEY", dangerouslyAllowBrowser: true, maxRetries: 0 };
const client = new OpenAI({ baseURL: "BASE_URL", ...options });
const busy = new OpenAI({ baseURL: "BUSY_URL", ...options });
const found = {};
async function attempt(name, call) {
  try { found[name] = await call(); }
  catch (error) { found[name] = { status: error.status, message: error.message,
                                  retryAfter: error.headers?.get("retry-after") }; }
}
await attempt("vectors", async () => {
  const { data, response } = await client.embeddings
    .create({ model: "stub", input: ["first do it", LONG] }).withResponse();
  return { rows: data.data.map((entry) => entry.embedding),
           truncated: response.headers.get("x-truncated-inputs") };
});
await attempt("models", async () => (await client.models.list()).data.map((model) => model.id));
await attempt("wrong", () => client.embeddings.create({ model: "other", input: "a" }));
await attempt("busy", () => busy.models.list());
await fetch("/result", { method: "POST", body: JSON.stringify(found) });
</script>
"""


class Site:
    """A web server for a page, to which the page sends what it has found."""

    def __init__(self, folder: Path) -> None:
        self.results: queue.Queue[Any] = queue.Queue()
        results = self.results

        class Handler(SimpleHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                results.put(json.loads(body))

            def log_message(self, *_: Any) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever).start()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Serve a folder with the npm package openai."""
    if NPM is None:
        pytest.skip("npm is not installed")
    (tmp_path / "package.json").write_text('{"private": true}')
    command = [NPM, "install", "--ignore-scripts", "--no-audit", "--no-fund", "openai"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot reach its registry within 60 s")
    if done.returncode:
        pytest.skip(f"npm cannot install openai: {done.stderr.strip().splitlines()[-1:]}")
    made = Site(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


@contextmanager
def browser(address: str, profile: Path) -> Iterator[None]:
    """Show a page."""
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def shown(address: str, profile: Path) -> str:
    """Return the document of a page after its scripts have run."""
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=15000", address],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def test_the_library_of_openai(
    start_gateway: StartGateway, stub: Stub, site: Site, tmp_path: Path
) -> None:
    key = "a-key-of-sixteen"
    gateway = start_gateway(cors=(site.origin,), api_keys=frozenset({key}))
    busy = start_gateway(cors=(site.origin,), max_requests=0)
    long = "word " * MAX_WORDS + "more"
    page = (
        PAGE.replace("BASE_URL", gateway.url).replace("API_KEY", key).replace("BUSY_URL", busy.url)
    )
    (tmp_path / "index.html").write_text(page.replace("LONG", json.dumps(long)))
    with browser(f"{site.origin}/index.html", tmp_path / "profile"):
        found = site.results.get(timeout=60)
    assert found["vectors"] == {
        "rows": rows(["first do it", long]).tolist(),
        "truncated": '1;indices="1"',
    }
    assert found["models"] == ["stub"]
    assert found["wrong"]["status"] == 404
    assert "no such model: use one of stub" in found["wrong"]["message"]
    assert (found["busy"]["status"], found["busy"]["retryAfter"]) == (429, "2")


def test_the_manual_needs_no_other_machine(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = start_gateway(api_keys=frozenset({"a-key-of-sixteen"}))
    page = shown(f"http://127.0.0.1:{gateway.port}/docs", tmp_path / "profile")
    assert 'id="operations-OpenAI-embeddings_v1_embeddings_post"' in page
    assert "/v1/embeddings" in page
    assert "/encode" in page
    assert "Authorize" in page  # a field for the key
    source = gateway.http.get("/docs").text
    assert "https://" not in source
    assert gateway.http.get("/docs/files/swagger-ui-bundle.js").status_code == 200
    for path in ("/docs/files", "/docs/filesystem", "/v1/models", "/docs/files/../../v1/models"):
        assert gateway.http.get(path).status_code == 401
