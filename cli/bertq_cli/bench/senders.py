"""Clients that send at the same time."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bertq_client import BertClient

#: Seconds after which a call fails.
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class Rates:
    """Sentences per second of one round.

    Attributes:
        total: of all clients together, from the common start to the end of the last client.
        each: mean over the clients, each from its first call to its last answer.
    """

    total: float
    each: float

    @classmethod
    def from_durations(cls, sent: int, durations: Sequence[float], elapsed: float) -> "Rates":
        """Return the rates of clients that have sent ``sent`` sentences each.

        Args:
            sent: sentences of one client.
            durations: seconds of each client.
            elapsed: seconds from the common start to the end of the last client.
        """
        each = sum(sent / seconds for seconds in durations) / len(durations)
        return cls(sent * len(durations) / elapsed, each)


class ConcurrentClients:
    """Several clients of a service, each with its own connections and thread."""

    def __init__(self, url: str, count: int) -> None:
        self._clients = [
            BertClient(redis_url=url, timeout=_TIMEOUT_SECONDS, check_length=False)
            for _ in range(count)
        ]
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="bench-client")

    def round(self, texts: Sequence[str], call_size: int, calls: int) -> Rates:
        """Have each client make ``calls`` calls of ``call_size`` sentences; return their rates.

        Each client begins at a different place in ``texts`` and wraps around at the end.
        """
        barrier = threading.Barrier(len(self._clients) + 1)

        def work(number: int) -> float:
            first = number * call_size * calls
            chunks = [
                take_texts(texts, first + call * call_size, call_size) for call in range(calls)
            ]
            barrier.wait()
            start = time.perf_counter()
            for chunk in chunks:
                self._clients[number].encode(chunk)
            return time.perf_counter() - start

        futures = [self._threads.submit(work, number) for number in range(len(self._clients))]
        barrier.wait()
        start = time.perf_counter()
        durations = [future.result() for future in futures]
        elapsed = time.perf_counter() - start
        return Rates.from_durations(call_size * calls, durations, elapsed)

    def close(self) -> None:
        """End the clients; a running round fails."""
        for client in self._clients:
            client.close()
        self._threads.shutdown(wait=False)


def take_texts(texts: Sequence[str], start: int, count: int) -> list[str]:
    """Return ``count`` texts from ``start`` on; after the last one comes the first."""
    if count > len(texts):
        raise ValueError(f"a call of {count} sentences, and there are {len(texts)}")
    start %= len(texts)
    return [*texts[start : start + count], *texts[: max(0, start + count - len(texts))]]
