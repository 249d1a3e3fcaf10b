"""How long a single sentence takes: ``python -m benchmarks.latency``.

Alone, beside others, and while a large request runs; next to the encoder in a process of its own,
without any queue. What is compared takes turns.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.findings import ALONE, Findings, build_document
from benchmarks.lab import MAX_SEQ_LEN, encoder, one_worker, run, say
from benchmarks.peers.guest import Guest
from benchmarks.results import RESULTS, context, put
from benchmarks.sender import Answer, Senders, send
from bertq_cli import demo_download
from bertq_cli.bench import corpus
from bertq_cli.bench.services import TemporaryRedis, run_in_thread
from bertq_client import BertClient

#: Sentences that are timed in one go before the other way has its turn.
_BLOCK = 10
#: Seconds that client processes have to connect.
_CONNECT = 1.0


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        singles: sentences one after another, alone.
        crowds: numbers of clients.
        rounds: turns of each crowd.
        seconds: of a turn.
        bulk: sentences of the large request.
    """

    singles: int
    crowds: tuple[int, ...]
    rounds: int
    seconds: float
    bulk: int


class Bench:
    """The measurements, one after another, in a thread that may block."""

    def __init__(self, url: str, guest: Guest, senders: Senders, options: Options) -> None:
        self.found = Findings()
        self._guest = guest
        self._senders = senders
        self._options = options
        self._client = BertClient(redis_url=url, timeout=900, check_length=False)

    def run(self) -> None:
        """Measure everything."""
        self._client.encode(corpus.make_distinct(256))  # warms it up
        say("latency", "one sentence after another")
        self._alone()
        for number in range(self._options.rounds):
            say("latency", f"crowds, round {number + 1} of {self._options.rounds}")
            self._inside(number)
            for count in self._options.crowds:
                self._threads(count, number)
                self._processes(count, number)
        say("latency", f"beside a request of {self._options.bulk:,} sentences")
        self._bulk()

    def stop(self) -> None:
        """Make it fail at once."""
        self._guest.kill()
        self._senders.kill()
        self._client.close()

    def _alone(self) -> None:
        texts = corpus.clauses()
        inside: list[float] = []
        for start in range(0, self._options.singles, _BLOCK):
            block = self._guest.ask("single", variant="float32", start=start, count=_BLOCK)
            inside += block
            waits = []
            for text in texts[start : start + _BLOCK]:
                begin = time.perf_counter()
                self._client.encode([text])
                waits.append(time.perf_counter() - begin)
            self.found.add("one client, one after another", waits, sum(waits))
            self.found.extra.append(1000 * (median(waits) - median(block)))
        self.found.add(ALONE, inside, sum(inside))

    def _inside(self, number: int) -> None:
        start = 200 * number
        block = self._guest.ask("single", variant="float32", start=start, count=100)
        self.found.add(ALONE, block, sum(block))

    def _threads(self, count: int, number: int) -> None:
        texts = corpus.clauses()
        begin = time.monotonic() + 0.1
        end = begin + self._options.seconds
        with ThreadPoolExecutor(count) as pool:
            futures = [
                pool.submit(
                    send, self._client, rotations(texts, 64 * number + 127 * one), begin, end
                )
                for one in range(count)
            ]
            answers = [future.result() for future in futures]
        self._count(f"{count} {_plural(count, 'thread')} of one client", answers, begin)

    def _processes(self, count: int, number: int) -> None:
        begin = time.monotonic() + _CONNECT + 0.05 * count
        end = begin + self._options.seconds
        answers = self._senders.send(count, 64 * number, begin, end)
        self._count(f"{count} client {_plural(count, 'process')}", answers, begin)

    def _count(self, name: str, answers: Sequence[Sequence[Answer]], begin: float) -> None:
        flat = [answer for one in answers for answer in one]
        last = max(moment for moment, _ in flat)
        self.found.add(name, [seconds for _, seconds in flat], last - begin)

    def _bulk(self) -> None:
        self.found.batches = self._guest.ask("batches", variant="float32")
        texts = corpus.make_distinct(self._options.bulk)
        ended: list[float] = []
        begin = time.monotonic()
        future = self._client.encode_async(texts)
        future.add_done_callback(lambda _: ended.append(time.monotonic()))
        answers: list[Answer] = []
        while not future.done():
            start = time.monotonic() + (0 if answers else _CONNECT)
            (some,) = self._senders.send(1, len(answers), start, start + self._options.seconds)
            answers += some
        future.result()
        while not ended:
            time.sleep(0.01)
        self.found.bulk_rate = len(texts) / (ended[0] - begin)
        self.found.beside = [seconds for moment, seconds in answers if moment < ended[0]]
        if not self.found.beside:
            raise click.ClickException(
                f"the request of {len(texts)} sentences ended before a single one was answered "
                "beside it: give a larger --bulk"
            )


@click.command()
@click.option("--singles", type=click.IntRange(1, 4000), default=200, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True)
@click.option("--crowd", "crowds", type=click.IntRange(1, 256), multiple=True, default=(1, 8, 32),
              show_default=True, help="Clients at the same time.")  # fmt: skip
@click.option("--bulk", type=click.IntRange(1, 40000), default=20000, show_default=True)
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    singles: int, rounds: int, seconds: float, crowds: tuple[int, ...], bulk: int,
    model_dir: Path | None, output: Path,
) -> None:  # fmt: skip
    """Measure how long a single sentence takes."""
    directory = model_dir or demo_download.fetch()
    around = context(directory)
    options = Options(singles, crowds, rounds, seconds, bulk)
    found = Findings()

    async def act(stage: TemporaryRedis) -> None:
        service = one_worker(stage, directory)

        async def body() -> None:
            nonlocal found
            with (
                encoder(directory) as guest,
                tempfile.NamedTemporaryFile("w") as file,
                Senders(service.url, max(crowds)) as senders,
            ):
                file.write("\n".join(corpus.clauses()))
                file.flush()
                guest.ask("texts", path=file.name)
                bench = Bench(service.url, guest, senders, options)
                try:
                    await run_in_thread(bench.run, bench.stop)
                finally:
                    bench.stop()
                found = bench.found

        await stage.run_service(service, say, body)

    run(act)
    facts = {**around, "settings": f"max_seq_len {MAX_SEQ_LEN}, mean of the last layer, float32, "
             f"one worker on all cores; {rounds} turns of {seconds:g} s"}  # fmt: skip
    put(build_document(found, facts, bulk), output, "latency")


def rotations(texts: Sequence[str], first: int) -> list[str]:
    first %= len(texts)
    return [*texts[first:], *texts[:first]]


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"


if __name__ == "__main__":
    main()
