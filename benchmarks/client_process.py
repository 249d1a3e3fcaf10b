"""A client process that sends single sentences: ``python -m benchmarks.client_process URL``.

Reads commands from standard input and answers on standard output, a line of JSON each. It is
connected only during a command.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bertq_cli.bench import corpus
from bertq_cli.bench.senders import take_texts
from bertq_client import BertClient

#: When an answer came, on the system's monotonic clock, and how long it took: seconds.
TimedAnswer = tuple[float, float]

_TIMEOUT_SECONDS = 120.0

#: Lines of the log to show if a process ends.
_TAIL_LINES = 5


def send_one_by_one(
    client: BertClient, texts: Sequence[str], begin: float, end: float
) -> list[TimedAnswer]:
    """Send sentences one after another, from one moment to another."""
    answers = []
    time.sleep(max(0.0, begin - time.monotonic()))
    number = 0
    while (start := time.monotonic()) < end:
        client.encode([texts[number % len(texts)]])
        answers.append(((now := time.monotonic()), now - start))
        number += 1
    return answers


def send_from_threads(
    client: BertClient, count: int, first: int, begin: float, end: float
) -> list[list[TimedAnswer]]:
    """Have threads of one client send as the processes of ``ClientProcesses.send`` do."""
    texts = corpus.clauses()

    def send(number: int) -> list[TimedAnswer]:
        rotated = take_texts(texts, first + 127 * number, len(texts))
        return send_one_by_one(client, rotated, begin, end)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(send, range(count)))


def main(url: str) -> None:
    """Run commands until standard input ends."""
    texts = corpus.clauses()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        rotated = take_texts(texts, command["first"], len(texts))
        with BertClient(redis_url=url, timeout=_TIMEOUT_SECONDS, check_length=False) as client:
            client.encode([rotated[-1]])  # connects
            answers = send_one_by_one(client, rotated, command["begin"], command["end"])
        print(json.dumps(answers), flush=True)


class ClientProcesses:
    """Client processes; ``with`` ends them."""

    def __init__(self, url: str, count: int) -> None:
        program = [sys.executable, "-m", "benchmarks.client_process", url]
        self._processes = [
            subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in self._processes:
            read_answer(process)

    def send(self, count: int, first: int, begin: float, end: float) -> list[list[TimedAnswer]]:
        """Have ``count`` of them send for a while; return each one's answers.

        Args:
            count: how many send.
            first: the clause that the first of them begins with; the others are far from it.
            begin, end: moments on the monotonic clock; the first must leave time to connect.
        """
        processes = self._processes[:count]
        for number, process in enumerate(processes):
            assert process.stdin is not None
            command = {"first": first + 127 * number, "begin": begin, "end": end}
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        return [read_answer(process) for process in processes]

    def kill(self) -> None:
        """Kill the processes; a running command fails."""
        for process in self._processes:
            process.kill()

    def __enter__(self) -> "ClientProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for process in self._processes:
            process.communicate()


def read_answer(process: "subprocess.Popen[Any]", log: Path | None = None) -> Any:
    """Read a line of JSON from a process with clients.

    Raises:
        RuntimeError: the process has ended; the message has the last lines of its log.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        tail = log.read_text().splitlines()[-_TAIL_LINES:] if log is not None else []
        ended = f"a process with clients has ended with status {process.wait()}"
        raise RuntimeError("\n".join([ended, *tail]))
    return json.loads(line)


if __name__ == "__main__":
    main(sys.argv[1])
