"""Drives Chromium by its DevTools protocol."""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.waiting import eventually

CHROMIUM = shutil.which("chromium")

#: No name of another machine is found, so no page can load anything from elsewhere.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Tab:
    """A tab of the browser.

    Attributes:
        errors: messages of uncaught exceptions, and of violations of the page's policy.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of a command of the protocol."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        entry = event.get("params", {}).get("entry", {})
        is_violation = entry.get("source") in ("security", "javascript")
        if event["method"] == "Runtime.exceptionThrown" or is_violation:
            self.errors.append(json.dumps(event["params"]))

    def run(self, script: str) -> Any:
        """Return the value of an expression of JavaScript."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, address: str) -> None:
        """Open a page, and wait until its scripts have run."""
        self.call("Page.navigate", url=address)
        is_loaded = "document.readyState == 'complete'"
        self.wait_for(f"location.href == {json.dumps(address)} && {is_loaded}")

    def wait_for(self, script: str) -> None:
        """Wait until an expression of JavaScript is true; while a page loads, it may raise."""
        test = f"(() => {{ try {{ return Boolean({script}); }} catch {{ return false; }} }})()"
        eventually(lambda: self.run(test), 30)

    def emulate(self, *, width: int = 1200, scheme: str = "light") -> None:
        """Set the width of the window, and the color scheme of the system."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Run a browser with one tab."""
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    port_file = profile / "DevToolsActivePort"
    process = subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: port_file.exists() and len(port_file.read_text().split()) == 2, 60)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=20) as answer:
            targets = json.load(answer)
        address = next(found for found in targets if found["type"] == "page")
        with connect(address["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        process.wait(20)
