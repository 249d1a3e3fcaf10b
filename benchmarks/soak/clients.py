"""The client processes."""

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.soak import processes
from benchmarks.soak.client import KINDS

#: The kind of client that the run kills, and whose rows it does not count.
CANCELLER = "canceller"
#: Messages of killed clients to keep.
_MAX_MESSAGES = 5


class ClientProcess:
    """A client process, and its latest counts."""

    def __init__(self, url: str, kind: str, name: str, log: Path, options: list[str]) -> None:
        self.kind = kind
        self.counts: dict[str, Any] = {}
        self._log = log.open("ab")
        command = [sys.executable, "-m", "benchmarks.soak.client", kind, url, "--name", name]
        self.process = processes.start_process(
            [*command, *options],
            {**processes.clean_environment(url), **processes.MALLOC_SETTINGS},
            self._log,
            has_pipes=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_finished(self) -> bool:
        """Whether it has ended in order, with final counts."""
        return bool(self.counts.get("final"))

    def finish(self) -> None:
        """Make it stop sending."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def kill(self) -> None:
        """Kill the process."""
        processes.end_process(self.process)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it has ended."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(5)
        return True

    def close(self) -> None:
        """Kill the process, and close its files."""
        processes.end_process(self.process)
        self._reader.join(5)
        self.finish()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # otherwise the process was killed while writing
                self.counts = json.loads(line)


class ClientGroup:
    """One client process of each kind.

    Attributes:
        clients: the current processes by kind.
        num_replaced: clients that were killed.
    """

    def __init__(
        self, url: str, directory: Path, seed: int, dim: int, answer_timeout_seconds: float
    ) -> None:
        self._url = url
        self._directory = directory
        self._options = ["--seed", str(seed), "--dim", str(dim)]
        self._options += ["--answer-timeout-seconds", str(answer_timeout_seconds)]
        self._answer_timeout_seconds = answer_timeout_seconds
        self._past_counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._messages: list[str] = []
        self.num_replaced = 0
        self.clients = {kind: self._start(kind) for kind in KINDS}

    def check(self) -> None:
        """Check that all clients are alive.

        Raises:
            RuntimeError: a client has ended.
        """
        for client in self.clients.values():
            if client.process.poll() is not None:
                raise RuntimeError(f"a client has ended: see client-{client.kind}.log")

    def kill(self) -> None:
        """Kill the canceller, and start another one."""
        client = self.clients[CANCELLER]
        client.kill()
        client.close()
        # Its pending requests are abandoned; its answers still count.
        for name in ("wrong", "doubled", "requests", "given_up", "resent"):
            self._past_counts[name] += client.counts.get(name) or 0
        self._errors += Counter(client.counts.get("errors"))
        messages = client.counts.get("messages", [])
        self._messages = [*self._messages, *messages][:_MAX_MESSAGES]
        self.num_replaced += 1
        self.clients[CANCELLER] = self._start(CANCELLER)

    def finish(self) -> None:
        """Make all clients wait for their pending requests, and end."""
        for client in self.clients.values():
            client.finish()
        for client in self.clients.values():
            if not client.wait(self._answer_timeout_seconds + 30):
                client.kill()

    def counts_by_kind(self) -> dict[str, dict[str, Any]]:
        """Return the latest counts of each kind; those of cancellers are added up."""
        found = {kind: dict(client.counts) for kind, client in self.clients.items()}
        for name, value in self._past_counts.items():
            found[CANCELLER][name] = (found[CANCELLER].get(name) or 0) + value
        errors = self._errors + Counter(found[CANCELLER].get("errors"))
        messages = [*self._messages, *found[CANCELLER].get("messages", [])]
        found[CANCELLER].update(errors=dict(errors), messages=messages)
        return found

    def count_tracebacks(self) -> int:
        """Count the tracebacks that clients have printed."""
        logs = [self._directory / f"client-{kind}.log" for kind in KINDS]
        return sum(log.read_text(errors="replace").count("Traceback") for log in logs)

    def close(self) -> None:
        """Kill all clients."""
        for client in self.clients.values():
            client.close()

    def _start(self, kind: str) -> ClientProcess:
        name = f"{kind}{self.num_replaced}"
        log = self._directory / f"client-{kind}.log"
        return ClientProcess(self._url, kind, name, log, self._options)
