"""A client process: ``python -m benchmarks.soak.client KIND URL``.

Sends requests of its kind until standard input ends, waits for their answers, and ends. Writes its
counts to standard output once a second, a line of JSON each, and once more at the end.
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

from benchmarks.soak.request_log import RequestLog
from benchmarks.soak.rows import Sentences
from bertq_client import BertClient
from bertq_client.futures import EncodeFuture
from bertq_client.outbox.sender import Sender

#: Seconds between two reports.
_REPORT_SECONDS = 1.0
_BULK_SENTENCES = (2048, 10_000)
_MAX_BULK_REQUESTS = 2
_THREADS = 16
_COROUTINES = 6
_SIZES = (1, 3, 16, 17, 100, 256, 300, 700, 1500)


class RequestLoad:
    """Sends the requests of a client process.

    Args:
        url: the Redis.
        log: counts them.
        texts: gives their sentences.
        max_pause_seconds: longest pause between two requests of one caller.
        answer_timeout_seconds: how long to wait for pending requests at the end.
    """

    def __init__(
        self,
        url: str,
        log: RequestLog,
        texts: Sentences,
        max_pause_seconds: float,
        answer_timeout_seconds: float,
    ) -> None:
        self.stop = threading.Event()
        self._url = url
        self._log = log
        self._texts = texts
        self._max_pause_seconds = max_pause_seconds
        self._answer_timeout_seconds = answer_timeout_seconds
        self._lock = threading.Lock()

    def bulk(self, client: BertClient) -> None:
        """Send requests of thousands of sentences, two at a time."""
        slots = threading.Semaphore(_MAX_BULK_REQUESTS)
        while not self._pause_or_stop():
            if slots.acquire(timeout=0.2):
                future = self._send(client, self._texts.random.randint(*_BULK_SENTENCES))
                future.add_done_callback(lambda _: slots.release())

    def singles(self, client: BertClient) -> None:
        """Send single sentences from many threads."""

        def send_requests() -> None:
            while not self._pause_or_stop():
                self._await(self._send(client, 1))

        threads = [threading.Thread(target=send_requests) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def mixed(self, client: BertClient) -> None:
        """Send requests of all sizes from coroutines."""

        async def send_requests() -> None:
            while not self.stop.is_set():
                size = self._texts.random.choice(_SIZES)
                future = await asyncio.to_thread(self._send, client, size)
                with suppress(Exception):  # the log counts it
                    await future
                await asyncio.sleep(self._texts.random.uniform(0, self._max_pause_seconds))

        async def run_all() -> None:
            tasks = [asyncio.create_task(send_requests()) for _ in range(_COROUTINES)]
            await asyncio.to_thread(self.stop.wait)
            # Requests without an answer then count as lost.
            await asyncio.to_thread(self._log.wait_until_answered, self._answer_timeout_seconds)
            await asyncio.wait(tasks, timeout=1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(run_all())

    def canceller(self, client: BertClient) -> None:
        """Send requests; cancel some of them, and let others time out."""
        random = self._texts.random
        with BertClient(redis_url=self._url, timeout=0.3) as short_timeout_client:
            while not self._pause_or_stop():
                size = random.choice((1, 5, 300, 3000))
                action = random.randrange(3)
                sender = short_timeout_client if action == 0 else client
                future = self._send(sender, size, may_be_cancelled=action < 2)
                if action == 1:
                    self.stop.wait(random.uniform(0, 0.4))
                    future.cancel()
                self._await(future)
            self._log.wait_until_answered(self._answer_timeout_seconds)

    def _send(self, client: BertClient, size: int, may_be_cancelled: bool = False) -> EncodeFuture:
        with self._lock:
            texts = self._texts.take(size)
        request = self._log.begin(texts, may_be_cancelled)
        future = client.encode_async(texts)
        future.add_done_callback(request.answer)
        return future

    def _await(self, future: EncodeFuture) -> None:
        # A missing answer must not block the thread forever.
        while not wait([future], 0.5).done and not self.stop.is_set():
            pass

    def _pause_or_stop(self) -> bool:
        return self.stop.wait(self._texts.random.uniform(0, self._max_pause_seconds))


#: The kinds, and the longest pause of each between two requests.
KINDS: dict[str, tuple[Callable[[RequestLoad, BertClient], None], float]] = {
    "bulk": (RequestLoad.bulk, 0.2),
    "singles": (RequestLoad.singles, 0.2),
    "mixed": (RequestLoad.mixed, 0.4),
    "canceller": (RequestLoad.canceller, 0.4),
}


def count_resent(log: RequestLog) -> None:
    """Count the chunks that a client of this process sends again."""
    # The client has no public counter of them.
    stock: Any = Sender.resend

    def resend(self: Sender, job: Any, numbers: list[int], only_missing: bool = False) -> None:
        if not only_missing:  # most of them are in Redis
            log.resent = (log.resent or 0) + len(numbers)
        stock(self, job, numbers, only_missing)

    log.resent = 0
    Sender.resend = resend  # type: ignore[method-assign]


def main() -> None:
    """Read the options, and send until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("url")
    parser.add_argument("--name", default="", help="of the sentences; the kind if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dim", type=int, default=64, help="numbers in a row")
    parser.add_argument("--answer-timeout-seconds", type=float, default=120.0,
                        help="wait for pending requests at the end")  # fmt: skip
    options = parser.parse_args()
    log = RequestLog(options.dim)
    count_resent(log)
    send, max_pause_seconds = KINDS[options.kind]
    texts = Sentences(options.name or options.kind, options.seed)
    load = RequestLoad(options.url, log, texts, max_pause_seconds, options.answer_timeout_seconds)
    is_done = threading.Event()

    def report() -> None:
        while not is_done.wait(_REPORT_SECONDS):
            print(json.dumps(log.document()), flush=True)

    def wait_for_end_of_input() -> None:
        sys.stdin.read()
        load.stop.set()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    with BertClient(redis_url=options.url) as client:
        send(load, client)
        log.wait_until_answered(options.answer_timeout_seconds)
    is_done.set()
    reporter.join()
    # After the client is closed, so that second answers until then are counted.
    print(json.dumps({**log.document(), "final": True}), flush=True)


if __name__ == "__main__":
    main()
