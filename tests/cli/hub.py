"""A stand-in for a Hugging Face hub, on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub:
    """A hub with one model, in one commit at a time.

    Attributes:
        files: the files of the model.
        commit: the commit of the branch ``main``.
        requests: the paths that were requested.
        changes_files: whether downloads differ from what the hub states.
        is_gated: whether it refuses every request until the terms are accepted.
    """

    def __init__(self, directory: Path) -> None:
        self.files = {
            str(path.relative_to(directory)): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }
        self.commit = "a" * 40
        self.requests: list[str] = []
        self.changes_files = False
        self.is_gated = False
        self.url = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        self.requests.append(path)
        if self.is_gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if not path.startswith(("/api/models/org/tiny/revision/", "/org/tiny/resolve/")):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if path.startswith("/api/"):
            return self._info(path.rpartition("/")[2])
        commit, _, name = path.removeprefix("/org/tiny/resolve/").partition("/")
        if name not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = self.files[name]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        return 200, headers, content[::-1] if self.changes_files else content

    def _info(self, revision: str) -> tuple[int, dict[str, str], bytes]:
        if revision not in ("main", self.commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        siblings = [_sibling(name, content) for name, content in self.files.items()]
        document = {"id": "org/tiny", "sha": self.commit, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name, "size": len(content)}
    found["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if name.endswith((".safetensors", ".bin")):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return found


@contextmanager
def run_hub(directory: Path) -> Iterator[Hub]:
    """Run a hub with the model ``org/tiny``, the files of a directory."""
    hub = Hub(directory)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
