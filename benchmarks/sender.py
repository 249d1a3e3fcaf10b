"""A client process that sends one sentence after another: ``python -m benchmarks.sender URL``.

Takes orders from standard input and answers on standard output, a line of JSON each. It is
connected only while an order is under way.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from bertq_cli.bench import corpus
from bertq_client import BertClient

#: When an answer came, on the system's monotonic clock, and how long it took: seconds.
Answer = tuple[float, float]

_TIMEOUT = 120.0


def send(client: BertClient, texts: Sequence[str], begin: float, end: float) -> list[Answer]:
    """Send sentences one after another, from one moment to another."""
    answers = []
    time.sleep(max(0.0, begin - time.monotonic()))
    number = 0
    while (start := time.monotonic()) < end:
        client.encode([texts[number % len(texts)]])
        answers.append(((now := time.monotonic()), now - start))
        number += 1
    return answers


def main(url: str) -> None:
    """Do what is asked, until standard input ends."""
    texts = corpus.clauses()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        first = order["first"] % len(texts)
        turned = [*texts[first:], *texts[:first]]
        with BertClient(redis_url=url, timeout=_TIMEOUT, check_length=False) as client:
            client.encode([turned[-1]])  # connects
            answers = send(client, turned, order["begin"], order["end"])
        print(json.dumps(answers), flush=True)


class Senders:
    """So many client processes; they end with ``with``."""

    def __init__(self, url: str, count: int) -> None:
        program = [sys.executable, "-m", "benchmarks.sender", url]
        self._processes = [
            subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in self._processes:
            _answer(process)

    def send(self, count: int, first: int, begin: float, end: float) -> list[list[Answer]]:
        """Have ``count`` of them send for a while; return each one's answers.

        Args:
            count: how many send.
            first: the clause that the first of them begins with; the others are far from it.
            begin, end: moments on the monotonic clock; the first must leave time to connect.
        """
        chosen = self._processes[:count]
        for number, process in enumerate(chosen):
            assert process.stdin is not None
            order = {"first": first + 127 * number, "begin": begin, "end": end}
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        return [_answer(process) for process in chosen]

    def kill(self) -> None:
        """End them at once; what is under way fails."""
        for process in self._processes:
            process.kill()

    def __enter__(self) -> "Senders":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for process in self._processes:
            process.communicate()


def _answer(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a client process has ended with status {process.wait()}")
    return json.loads(line)


if __name__ == "__main__":
    main(sys.argv[1])
