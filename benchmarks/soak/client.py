"""A client process: ``python -m benchmarks.soak.client KIND URL``.

Sends requests of its kind until standard input ends, waits for what is under way, and ends. Writes
its ledger to standard output now and then, a line of JSON each, and once more at the end.
"""

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

from benchmarks.soak.ledger import Ledger
from benchmarks.soak.rows import Sentences
from bertq_client import BertClient
from bertq_client.futures import EncodeFuture
from bertq_client.outbox.sender import Sender

#: Seconds between two reports.
_REPORT = 1.0
_BULK = (2048, 10_000)
_BULKS_AT_ONCE = 2
_THREADS = 16
_COROUTINES = 6
_SIZES = (1, 3, 16, 17, 100, 256, 300, 700, 1500)


class Load:
    """The requests of a client process.

    Args:
        url: where they go.
        ledger: where they are noted.
        texts: where their sentences come from.
        pause: seconds between two requests of one caller, at most.
    """

    def __init__(self, url: str, ledger: Ledger, texts: Sentences, pause: float) -> None:
        self.stop = threading.Event()
        self._url = url
        self._ledger = ledger
        self._texts = texts
        self._pause = pause
        self._lock = threading.Lock()

    def bulk(self, client: BertClient) -> None:
        """Requests of thousands of sentences, two at a time."""
        room = threading.Semaphore(_BULKS_AT_ONCE)
        while not self._paused():
            if room.acquire(timeout=0.2):
                future = self._send(client, self._texts.random.randint(*_BULK))
                future.add_done_callback(lambda _: room.release())

    def singles(self, client: BertClient) -> None:
        """A sentence each, of many threads."""

        def one() -> None:
            while not self._paused():
                self._await(self._send(client, 1))

        threads = [threading.Thread(target=one) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def mixed(self, client: BertClient) -> None:
        """Requests of all sizes, in coroutines."""

        async def one() -> None:
            while not self.stop.is_set():
                size = self._texts.random.choice(_SIZES)
                future = await asyncio.to_thread(self._send, client, size)
                with suppress(Exception):  # it is in the ledger
                    await future
                await asyncio.sleep(self._texts.random.uniform(0, self._pause))

        async def everything(retry: float) -> None:
            tasks = [asyncio.create_task(one()) for _ in range(_COROUTINES)]
            await asyncio.to_thread(self.stop.wait)
            # What has no answer by then is lost; an error is in the ledger already.
            await asyncio.to_thread(self._ledger.settle, retry)
            await asyncio.wait(tasks, timeout=1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(everything(self.retry))

    def quitter(self, client: BertClient) -> None:
        """Requests that are cancelled, or time out, or are answered after all."""
        chance = self._texts.random
        with BertClient(redis_url=self._url, timeout=0.3) as hasty:
            while not self._paused():
                size = chance.choice((1, 5, 300, 3000))
                way = chance.randrange(3)
                future = self._send(hasty if way == 0 else client, size, fickle=way < 2)
                if way == 1:
                    self.stop.wait(chance.uniform(0, 0.4))
                    future.cancel()
                self._await(future)
            self._ledger.settle(self.retry)

    #: Seconds that what is under way is waited for.
    retry = 120.0

    def _send(self, client: BertClient, size: int, fickle: bool = False) -> EncodeFuture:
        with self._lock:
            texts = self._texts.take(size)
        ticket = self._ledger.ask(texts, fickle)
        future = client.encode_async(texts)
        future.add_done_callback(ticket.answer)
        return future

    def _await(self, future: EncodeFuture) -> None:
        # An answer that does not come must not keep the thread for ever.
        while not wait([future], 0.5).done and not self.stop.is_set():
            pass

    def _paused(self) -> bool:
        return self.stop.wait(self._texts.random.uniform(0, self._pause))


#: The kinds, and the longest pause of each between two requests.
KINDS: dict[str, tuple[Callable[[Load, BertClient], None], float]] = {
    "bulk": (Load.bulk, 0.2),
    "singles": (Load.singles, 0.2),
    "mixed": (Load.mixed, 0.4),
    "quitter": (Load.quitter, 0.4),
}


def count_resent(ledger: Ledger) -> None:
    """Have the ledger know of chunks that a client of this process sends again."""
    # There is no public word of it: a caller need not care.
    stock: Any = Sender.resend

    def resend(self: Sender, job: Any, numbers: list[int]) -> None:
        ledger.resent = (ledger.resent or 0) + len(numbers)
        stock(self, job, numbers)

    ledger.resent = 0
    Sender.resend = resend  # type: ignore[method-assign]


def main() -> None:
    """Read the options, and send until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("url")
    parser.add_argument("--name", default="", help="of the sentences; the kind if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dim", type=int, default=64, help="numbers in a row")
    parser.add_argument("--patience", type=float, default=120.0, help="for what is under way, s")
    options = parser.parse_args()
    ledger = Ledger(options.dim)
    count_resent(ledger)
    send, pause = KINDS[options.kind]
    texts = Sentences(options.name or options.kind, options.seed)
    load = Load(options.url, ledger, texts, pause)
    load.retry = options.retry
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(_REPORT):
            print(json.dumps(ledger.document()), flush=True)

    def listen() -> None:
        sys.stdin.read()
        load.stop.set()

    threading.Thread(target=listen, daemon=True).start()
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    with BertClient(redis_url=options.url) as client:
        send(load, client)
        ledger.settle(options.retry)
    ended.set()
    reporter.join()
    # After the client is closed: an answer that came a second time until then is in it.
    print(json.dumps({**ledger.document(), "final": True}), flush=True)


if __name__ == "__main__":
    main()
