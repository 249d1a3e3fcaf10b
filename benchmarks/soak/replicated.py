"""The Redis of a soak test with failovers: a primary, replicas and Sentinels."""

import signal
import time
from collections import Counter
from pathlib import Path

from benchmarks.replicas import Cluster, Node

#: Time without an answer after which the Sentinels take the primary for dead.
_DOWN_AFTER_MS = 2000

#: Seconds after the promotion at which the old primary returns, as a primary: the Sentinels need
#: some seconds to make it a replica.
_RETURN_SECONDS = 5.0


class ReplicatedRedis:
    """Servers whose primary fails at intervals.

    Attributes:
        url: the URL of the Sentinels.
        restarts: number of failed primaries by signal.
    """

    def __init__(self, directory: Path) -> None:
        self._cluster = Cluster(directory / "replicas", down_after_ms=_DOWN_AFTER_MS)
        self.url = self._cluster.url
        self.restarts: Counter[str] = Counter()
        self._old: Node | None = None
        self._was_killed = False
        self._promoted_at = 0.0  # monotonic; 0 before the promotion

    @property
    def pid(self) -> int:
        """Process id of the primary."""
        return self._cluster.primary.pid

    def start(self) -> None:
        """Start all servers, and wait until a failover is possible."""
        self._cluster.start()

    def stop(self) -> None:
        """End all servers."""
        self._cluster.close()

    def fail(self, signal_name: str) -> bool:
        """Kill or freeze the primary; return False if no replica could take over."""
        if self._old is not None or not self._cluster.is_ready():
            return False
        self._old, self._promoted_at = self._cluster.primary, 0.0
        self._was_killed = signal_name == "SIGKILL"
        if self._was_killed:
            self._old.kill()
        else:
            self._old.send(signal.SIGSTOP)
        self.restarts[f"failover after {signal_name}"] += 1
        return True

    def check(self) -> None:
        """Let an old primary return, some time after the promotion of a replica."""
        if self._old is None:
            return
        if not self._promoted_at:
            if self._cluster.has_promoted(self._old):
                self._promoted_at = time.monotonic()
        elif time.monotonic() > self._promoted_at + _RETURN_SECONDS:
            old, self._old = self._old, None
            if self._was_killed:
                old.start()
            else:
                old.send(signal.SIGCONT)
