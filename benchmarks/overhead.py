"""What the queue costs: sentences per second through it, and in one process without it.

Usage: ``python benchmarks/overhead.py [ROUNDS]``. Encodes the 4,096 clauses of ``kjv.txt`` with
all-MiniLM-L6-v2, max_seq_len 40, last layer, float32. The two ways take turns, and each has all
cores: while one is timed, the other is idle. Prints medians and their ratio.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bertq import BertClient, cores
from bertq_bert import load_encoder
from bertq_cli import model
from bertq_cli.server import Server, free_port
from bertq_cli.service import Service, run_until_stopped


def timed(act: Callable[[list[str]], object], texts: list[str]) -> float:
    """Return sentences per second of one call."""
    start = time.perf_counter()
    act(texts)
    return len(texts) / (time.perf_counter() - start)


async def main(rounds: int) -> None:
    """Run the rounds and print what came out."""
    texts = (Path(__file__).parent / "kjv.txt").read_text().splitlines()
    directory = model.fetch()
    encoder = load_encoder(directory, max_seq_len=40, pooling_layers=(-1,))
    speeds: dict[str, list[float]] = {"in process": [], "bertq": []}
    variables = {
        "BERTQ_MODEL_DIR": str(directory),
        "BERTQ_MAX_SEQ_LEN": "40",
        "BERTQ_POOLING_LAYER": "-1",
    }

    def measure() -> None:
        with BertClient(redis_url=service.url) as client:
            for number in range(rounds + 1):
                pair = (timed(encoder.encode, texts), timed(client.encode, texts))
                if number:  # the first round warms both up
                    for name, speed in zip(speeds, pair, strict=True):
                        speeds[name].append(speed)

    with tempfile.TemporaryDirectory() as scratch:
        redis = Server("127.0.0.1", free_port(), Path(scratch))
        service = Service(redis.url, ["cpu0"], [cores.available()], variables, server=redis)
        await run_until_stopped(service, print, lambda: asyncio.to_thread(measure))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:<12}{medians[name]:7.0f} sentences/s  ({min(values):.0f}-{max(values):.0f})")  # noqa: T201
    ratio = medians["bertq"] / medians["in process"]
    print(f"{'ratio':<12}{ratio:7.2f}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
