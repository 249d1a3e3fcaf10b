"""A client, Redis and one worker, in turns with the encoder in process."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from benchmarks.client_process import send_from_threads
from benchmarks.measuring import answers_per_second, measure_in_turns, percentiles_ms
from benchmarks.peers.peer_main import Settings
from benchmarks.peers.process import PeerProcess
from benchmarks.service import measure_one_worker, run_bench
from bertq_cli.bench.timing import MedianRange, measure_seconds
from bertq_cli.service.supervisor import Service
from bertq_client import BertClient

IN_PROCESS, BULK = "in process", "calls of all sentences"

#: Threads of the client that send one sentence after another.
THREADS = (32, 256)

#: Seconds that the threads have to start.
_START_SECONDS = 0.2


@dataclass
class QueueResult:
    """Rates and latencies.

    Attributes:
        rates: sentences/s of the encoder in process, of large calls, and of numbers of threads.
        latencies_ms: percentiles of the calls of threads.
    """

    rates: dict[str, MedianRange] = field(default_factory=dict)
    latencies_ms: dict[str, dict[str, float]] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """Return a rate as a fraction of that of the encoder in process."""
        return self.rates[name].median / self.rates[IN_PROCESS].median


@dataclass(frozen=True)
class Load:
    """Requests of the client.

    Attributes:
        texts: the sentences of a large call.
        rounds: measurements of each figure.
        seconds: for which threads send in each.
        warm_up_seconds: minimum time of calls before that.
    """

    texts: list[str]
    rounds: int
    seconds: float
    warm_up_seconds: float


class QueueBench:
    """The measurements, in a thread that may block."""

    def __init__(self, url: str, encoder: PeerProcess, variant: str, load: Load) -> None:
        self.result = QueueResult()
        self._client = BertClient(redis_url=url, timeout=900, check_length=False)
        self._encoder = encoder
        self._variant = variant
        self._load = load
        self._waits: dict[str, list[float]] = {}

    def run(self) -> None:
        """Measure everything, after a warm-up in which the worker compiles shapes of batches."""
        measurements: dict[str, Callable[[], float]] = {
            IN_PROCESS: self._encode_in_process,
            BULK: self._encode_all,
            **{f"{count} threads": partial(self._send, count) for count in THREADS},
        }
        end = time.monotonic() + self._load.warm_up_seconds
        while True:
            for measure in measurements.values():
                measure()
            if time.monotonic() >= end:
                break
        self._waits.clear()
        self.result.rates = measure_in_turns(measurements, self._load.rounds, warm_up=0)
        self.result.latencies_ms = {n: percentiles_ms(waits) for n, waits in self._waits.items()}

    def stop(self) -> None:
        """Make it fail at once."""
        self._encoder.kill()
        self._client.close()

    def _encode_in_process(self) -> float:
        return len(self._load.texts) / float(self._encoder.call("bulk", variant=self._variant))

    def _encode_all(self) -> float:
        texts = self._load.texts
        return len(texts) / measure_seconds(lambda: self._client.encode(texts))

    def _send(self, count: int) -> float:
        begin = time.monotonic() + _START_SECONDS
        threads = send_from_threads(self._client, count, 0, begin, begin + self._load.seconds)
        answers = [answer for answers_of_thread in threads for answer in answers_of_thread]
        waits = self._waits.setdefault(f"{count} threads", [])
        waits += [seconds for _, seconds in answers]
        return answers_per_second(answers, begin)


def measure_queue(
    settings: Settings, encoder: PeerProcess, variant: str, load: Load
) -> QueueResult:
    """Measure one worker in turns with an encoder in process, which is then ended.

    Args:
        settings: the model and the device of both.
        encoder: has the sentences of the load.
        variant: its variant; the worker gets the same dtype, and compiles or not.
        load: requests of the client.
    """
    dtype, _, compiler = variant.partition(", ")
    variables = {
        "BERTQ_MAX_SEQ_LEN": str(settings.max_seq_len),
        "BERTQ_DTYPE": dtype,
        "BERTQ_COMPILE": "on" if compiler else "off",
    }
    results = []

    async def measure_service(service: Service) -> None:
        bench = QueueBench(service.url, encoder, variant, load)
        await run_bench(bench)
        results.append(bench.result)

    measure_one_worker(
        settings.model_dir, measure_service, device=settings.device, variables=variables
    )
    return results[0]
