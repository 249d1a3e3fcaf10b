"""A client process: threads that send one sentence after another and wait for each answer.

It is run by its path, ``python sender.py bertq|celery URL``, so that the client may be that of
another checkout. It reads commands from standard input and answers on standard output, a line of
JSON each. It stays connected between commands.
"""

import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_TEXT = "the word of the Lord came unto me saying {} {}"
_TIMEOUT_SECONDS = 120.0


def connect(kind: str, url: str) -> Callable[[str], object]:
    """Return a function that sends a sentence and waits for the answer."""
    if kind == "bertq":
        from bertq_client import BertClient

        client = BertClient(redis_url=url, timeout=_TIMEOUT_SECONDS, check_length=False)
        return lambda text: client.encode([text])
    task: Any = importlib.import_module("stock_app").encode
    return lambda text: task.delay([text]).get(timeout=_TIMEOUT_SECONDS)


def send(
    request: Callable[[str], object], thread: int, begin: float, end: float
) -> list[tuple[float, float]]:
    """Send sentences from one moment to another; return when each was answered, and its time."""
    answers = []
    time.sleep(max(0.0, begin - time.monotonic()))
    number = 0
    while (start := time.monotonic()) < end:
        request(_TEXT.format(thread, number))
        answers.append(((now := time.monotonic()), now - start))
        number += 1
    return answers


def main(kind: str, url: str) -> None:
    """Run commands until standard input ends."""
    request = connect(kind, url)
    request(_TEXT.format(0, 0))  # waits for the worker
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answers: list[tuple[float, float]] = []

        def run(
            thread: int, begin: float = command["begin"], end: float = command["end"],
            answers: list[tuple[float, float]] = answers,
        ) -> None:  # fmt: skip
            answers += send(request, thread, begin, end)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(command["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
