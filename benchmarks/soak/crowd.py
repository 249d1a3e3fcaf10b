"""The clients' processes, as the soak sees them."""

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.soak import child
from benchmarks.soak.client import KINDS

#: The one that is killed now and then, and whose rows do not count as asked for.
QUITTER = "quitter"
#: Messages of killed clients that are kept.
_SAID = 5


class Guest:
    """A client process, and its latest ledger."""

    def __init__(self, url: str, kind: str, name: str, log: Path, options: list[str]) -> None:
        self.kind = kind
        self.ledger: dict[str, Any] = {}
        self.killed = False
        self._log = log.open("ab")
        command = [sys.executable, "-m", "benchmarks.soak.client", kind, url, "--name", name]
        self.process = child.start(
            [*command, *options],
            {**child.environment(url), **child.PLAIN_HEAP},
            self._log,
            piped=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def finished(self) -> bool:
        """Whether it has ended as it should, and told everything."""
        return bool(self.ledger.get("final"))

    def finish(self) -> None:
        """Have it send nothing more."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self.killed = True
        child.end(self.process)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it came."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(5)
        return True

    def close(self) -> None:
        """End it, and close what belongs to it."""
        child.end(self.process)
        self._reader.join(5)
        self.finish()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # not the half of one, of a process that was killed
                self.ledger = json.loads(line)


class Crowd:
    """One client process of each kind.

    Attributes:
        guests: by kind.
        replaced: clients that were killed.
    """

    def __init__(self, url: str, directory: Path, seed: int, dim: int, retry: float) -> None:
        self._url = url
        self._directory = directory
        self._options = ["--seed", str(seed), "--dim", str(dim), "--patience", str(retry)]
        self._retry = retry
        self._past: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._said: list[str] = []
        self.replaced = 0
        self.guests = {kind: self._start(kind) for kind in KINDS}

    def tend(self) -> None:
        """See that all are alive.

        Raises:
            RuntimeError: one has ended.
        """
        for guest in self.guests.values():
            if guest.process.poll() is not None:
                raise RuntimeError(f"a client has ended: see client-{guest.kind}.log")

    def kill(self) -> None:
        """Kill the one that gives up easily, and put another in its place."""
        guest = self.guests[QUITTER]
        guest.kill()
        guest.close()
        # What it was still waiting for is nobody's any more, but what came counts.
        for name in ("wrong", "doubled", "requests", "given_up", "resent"):
            self._past[name] += guest.ledger.get(name) or 0
        self._errors += Counter(guest.ledger.get("errors"))
        self._said += guest.ledger.get("said", [])[: max(0, _SAID - len(self._said))]
        self.replaced += 1
        self.guests[QUITTER] = self._start(QUITTER)

    def finish(self) -> None:
        """Have them wait for what is under way, and end."""
        for guest in self.guests.values():
            guest.finish()
        for guest in self.guests.values():
            if not guest.wait(self._retry + 30):
                guest.kill()

    def ledgers(self) -> dict[str, dict[str, Any]]:
        """Return the latest ledger of each kind; that of the quitter with its predecessors'."""
        found = {kind: dict(guest.ledger) for kind, guest in self.guests.items()}
        for name, value in self._past.items():
            found[QUITTER][name] = (found[QUITTER].get(name) or 0) + value
        errors = self._errors + Counter(found[QUITTER].get("errors"))
        said = [*self._said, *found[QUITTER].get("said", [])]
        found[QUITTER].update(errors=dict(errors), said=said)
        return found

    def complaints(self) -> int:
        """Return how many tracebacks clients have printed."""
        logs = [self._directory / f"client-{kind}.log" for kind in KINDS]
        return sum(log.read_text(errors="replace").count("Traceback") for log in logs)

    def close(self) -> None:
        """End all of them."""
        for guest in self.guests.values():
            guest.close()

    def _start(self, kind: str) -> Guest:
        name = f"{kind}{self.replaced}"
        log = self._directory / f"client-{kind}.log"
        return Guest(self._url, kind, name, log, self._options)
