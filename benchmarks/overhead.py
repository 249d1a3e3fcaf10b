"""What the queue costs: sentences per second through it, and in one process without it.

Usage: ``python benchmarks/overhead.py [ROUNDS]``. Encodes the 4,096 clauses of ``kjv.txt`` with
all-MiniLM-L6-v2, max_seq_len 40, last layer, float32. The two ways take turns, and each has all
cores: while one is timed, the other is idle. Prints medians and their ratio.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bertq import BertClient
from bertq_bert import load_encoder
from bertq_cli import model
from bertq_cli.processes import celery_worker, embedded_redis


def timed(act: Callable[[list[str]], object], texts: list[str]) -> float:
    """Return sentences per second of one call."""
    start = time.perf_counter()
    act(texts)
    return len(texts) / (time.perf_counter() - start)


def main(rounds: int) -> None:
    """Run the rounds and print what came out."""
    texts = (Path(__file__).parent / "kjv.txt").read_text().splitlines()
    directory = model.fetch()
    encoder = load_encoder(directory, max_seq_len=40, pooling_layers=(-1,))
    options = ["-Q", "cpu0", "--max-seq-len", "40", "--pooling-layer", "-1"]
    with embedded_redis() as url:
        environ = {"BERTQ_REDIS_URL": url, "BERTQ_MODEL_DIR": str(directory)}
        with celery_worker(options, environ) as worker, BertClient(redis_url=url) as client:
            worker.wait_until(lambda: bool(client.server_config), 300)
            speeds: dict[str, list[float]] = {"in process": [], "bertq": []}
            for number in range(rounds + 1):
                pair = (timed(encoder.encode, texts), timed(client.encode, texts))
                if number:  # the first round warms both up
                    for name, speed in zip(speeds, pair, strict=True):
                        speeds[name].append(speed)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:<12}{medians[name]:7.0f} sentences/s  ({min(values):.0f}-{max(values):.0f})")  # noqa: T201
    ratio = medians["bertq"] / medians["in process"]
    print(f"{'ratio':<12}{ratio:7.2f}")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
